"""Output columns that are filled piece by piece. Called by `windows` and `lookups`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from engine.features.exact import Flags
from engine.features.frames import Ints, gather
from engine.features.lowered_functions import DTYPES


class Column:
    """One value a spine row. Every piece puts those of its own rows, and every row is in one piece."""

    def __init__(self, size: int, type_: str) -> None:
        self._type = type_
        double = type_ == "f64"
        self._values = np.empty(size, dtype=np.float64 if double else np.int64)
        self._valid = None if double else np.ones(size, dtype=np.bool_)

    def put(self, rows: Ints, values: npt.NDArray[Any], valid: Flags | None) -> None:
        """Values of these rows: doubles with NaN for null, or integers, null where not `valid`."""
        self._values[rows] = values
        if self._valid is not None and valid is not None:
            self._valid[rows] = valid

    def series(self, name: str, texts: pl.Series | None = None) -> pl.Series:
        """The column; for texts, the integers are places among `texts`."""
        if self._valid is None:
            return pl.Series(name, self._values, nan_to_null=True)
        if texts is not None:
            return gather(texts, np.where(self._valid, self._values, -1)).alias(name)
        made = pl.Series(name, self._values)
        if not self._valid.all():
            made = pl.select(pl.when(pl.Series(self._valid)).then(made)).to_series()
        return made.cast(DTYPES[self._type]).alias(name)
