"""Scoring a few rows by LightGBM's call for single rows, which prepares its predictor once instead of for every call.

`Booster.predict` scans all trees before it scores: 150 us of 260 us for one row and 500 trees. Enters: a booster that is not
trained any further. Leaves: its scores, with the same bits. The C interface is LightGBM's documented one; its handles are not
public in Python, so without them there is no such scorer, and `Booster.predict` does it. Called by the predictor.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import IntegrityError

from .library import import_lightgbm

_FLOAT64, _NORMAL = 1, 0  # C_API_DTYPE_FLOAT64, C_API_PREDICT_NORMAL


class SingleRows:
    """A booster's scorer of single rows; safe for several threads, one after another."""

    def __init__(self, library: Any, booster: Any, width: int, outputs: int) -> None:
        """Raises `OSError` when LightGBM refuses."""
        self._library, self._booster = library, booster  # the handle reads the booster for as long as it lives
        self._handle = ctypes.c_void_p()
        refused = library.LGBM_BoosterPredictForMatSingleRowFastInit(
            booster._handle,  # noqa: SLF001 - the only way to it
            ctypes.c_int(_NORMAL),
            ctypes.c_int(0),
            ctypes.c_int(booster.best_iteration),
            ctypes.c_int(_FLOAT64),
            ctypes.c_int32(width),
            ctypes.c_char_p(b"num_threads=1"),
            ctypes.byref(self._handle),
        )
        if refused:
            raise OSError("LightGBM prepares no scorer of single rows")
        weakref.finalize(self, library.LGBM_FastConfigFree, self._handle)
        self._lock = threading.Lock()
        self._made = np.empty(outputs)
        self._target = ctypes.c_void_p(self._made.ctypes.data)
        self._length = ctypes.c_int64()
        self._told = ctypes.byref(self._length)

    def score(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Score rows, (n,) or (n, outputs); `x` is C-contiguous and as wide as the model.

        Raises `IntegrityError` when LightGBM refuses.
        """
        found = np.empty((len(x), len(self._made)))
        start, step = x.ctypes.data, x.strides[0]
        with self._lock:
            for place in range(len(x)):
                refused = self._library.LGBM_BoosterPredictForMatSingleRowFast(
                    self._handle, ctypes.c_void_p(start + place * step), self._told, self._target
                )
                if refused or self._length.value != len(self._made):
                    raise IntegrityError(f"LightGBM could not score row {place}: it gave {self._length.value} numbers")
                found[place] = self._made
        return found[:, 0] if len(self._made) == 1 else found


def single_rows(booster: Any, width: int, outputs: int) -> SingleRows | None:
    """A scorer of single rows; `None` where this LightGBM does not let us have one."""
    try:
        return SingleRows(import_lightgbm().basic._LIB, booster, width, outputs)  # noqa: SLF001 - the only way to it
    except (AttributeError, OSError):
        return None
