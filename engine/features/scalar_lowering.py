"""One value by the lowering itself: for the few functions whose every detail only Polars knows. Called by `scalars`.

A call costs some tens of microseconds, so results are kept for a while: requests repeat their texts and formats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import polars as pl

from engine.features.lowered_functions import DTYPES
from engine.features.lowering import evaluate, lower
from engine.features.syntax import Expression

_KEPT = 4096


def by_lowering(tree: Expression, columns: Mapping[str, str]) -> Callable[..., Any]:
    """A function of the values of `columns`, in their order (none null), that evaluates `tree` over a frame of one row."""
    lowered = lower({"made": tree}, columns)

    def call(*values: Any) -> Any:
        given = zip(columns.items(), values, strict=True)
        frame = pl.DataFrame([_series(name, type_, value) for (name, type_), value in given])
        made = evaluate(lowered, frame).to_series()
        return (made.dt.epoch("us") if isinstance(made.dtype, pl.Datetime) else made).item()

    # Two zeros are one key of a cache, and not one text.
    return call if "f64" in columns.values() else lru_cache(_KEPT)(call)


def _series(name: str, type_: str, value: Any) -> pl.Series:
    if type_ == "timestamp":
        return pl.Series(name, [value], dtype=pl.Int64).cast(DTYPES[type_])
    return pl.Series(name, [value], dtype=DTYPES[type_])
