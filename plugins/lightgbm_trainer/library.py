"""Importing LightGBM: fast, quiet, and with a word on what to install when that fails."""

from __future__ import annotations

import importlib
import importlib.abc
import logging
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from engine.errors import UnavailableError

_IMPORTING = threading.Lock()


def import_lightgbm() -> Any:
    """Import LightGBM without pandas and scikit-learn, which it uses only if it finds them: 0.4 s instead of 1.1 s.

    Raises `UnavailableError` when the library or the OpenMP run-time that it needs is not installed.
    """
    with _IMPORTING:  # a module is in `sys.modules` before it has run, and another thread must not take it for whole
        return sys.modules["lightgbm"] if "lightgbm" in sys.modules else _import()


def _import() -> Any:
    try:
        with _hidden({"pandas", "sklearn", "dask", "matplotlib", "graphviz"}):
            lightgbm = importlib.import_module("lightgbm")
    except OSError as error:
        hint = "install the OpenMP run-time: `apt-get install libgomp1` (Debian, Ubuntu), `brew install libomp` (macOS)"
        raise UnavailableError(f"LightGBM's library cannot be loaded: {error}", hint=hint) from error
    except ImportError as error:
        raise UnavailableError(f"LightGBM cannot be imported: {error}", hint="pip install lightgbm") from error
    # Some of its warnings ignore `verbosity`, and its own logger prints to stdout, where results go.
    logger = logging.getLogger("lightgbm")
    logger.addHandler(logging.NullHandler())
    lightgbm.register_logger(logger)
    return lightgbm


class _Hider(importlib.abc.MetaPathFinder):
    """Says that some packages are not installed, to one thread only; what is imported already stays as it is."""

    def __init__(self, names: set[str]) -> None:
        self._names, self._thread = names, threading.get_ident()

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> None:  # noqa: ARG002
        """Refuse the hidden names; leave the rest to the other finders."""
        if threading.get_ident() == self._thread and name.partition(".")[0] in self._names:
            raise ModuleNotFoundError(f"{name} is hidden while LightGBM is imported", name=name)


@contextmanager
def _hidden(names: set[str]) -> Iterator[None]:
    hider = _Hider(names)
    sys.meta_path.insert(0, hider)
    try:
        yield
    finally:
        sys.meta_path.remove(hider)
