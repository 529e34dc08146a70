"""Values beside values, bit for bit: what training used against what serving gives. Called by the replay and the monitor.

A double equals another only when all 64 bits do. `missing` is a value on the left and null on the right, `extra` the other
way round, `mismatches` two values that differ; SMAPE is over pairs of numbers (Armstrong 1985: mean of |a - b| over
(|a| + |b|) / 2, which is 0 where both are 0), between 0 and 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Compared:
    """One column's comparison; the arrays have one entry a row."""

    mismatch: Flags
    missing: Flags
    extra: Flags
    smape: float

    @property
    def differs(self) -> Flags:
        """Where anything is not the same."""
        return self.mismatch | self.missing | self.extra

    def counts(self) -> dict[str, Any]:
        """As a document."""
        return {
            "compared": len(self.mismatch),
            "mismatches": int(self.mismatch.sum()),
            "missing": int(self.missing.sum()),
            "extra": int(self.extra.sum()),
            "smape": self.smape,
        }


def compare_columns(left: pl.DataFrame, right: pl.DataFrame) -> Mapping[str, Compared]:
    """Compare two frames with the same columns, row by row."""
    return {name: compare(left[name], right[name]) for name in left.columns}


def compare(left: pl.Series, right: pl.Series) -> Compared:
    """Compare two columns; another type is another value. NaN counts as a value with its bits."""
    has, had = left.is_not_null().to_numpy(), right.is_not_null().to_numpy()
    if left.dtype != right.dtype and pl.Null not in (left.dtype, right.dtype):
        return Compared(has & had, has & ~had, ~has & had, _smape(left, right, has & had))
    same = _same(left, right) if left.dtype == right.dtype else np.zeros(len(left), dtype=np.bool_)
    return Compared(has & had & ~same, has & ~had, ~has & had, _smape(left, right, has & had))


def total_of(columns: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """The counts of all columns together."""
    return {
        key: sum(int(item[key]) for item in columns.values()) for key in ("compared", "mismatches", "missing", "extra")
    }


def _same(left: pl.Series, right: pl.Series) -> Flags:
    if left.dtype == pl.Float64:
        bits = [values.fill_null(0.0).to_numpy().view(np.uint64) for values in (left, right)]
        return np.asarray(bits[0] == bits[1])
    return (left == right).fill_null(value=False).to_numpy()


def _smape(left: pl.Series, right: pl.Series, both: Flags) -> float:
    if not left.dtype.is_numeric() or not right.dtype.is_numeric() or not both.any():
        return 0.0
    a, b = (values.cast(pl.Float64).fill_null(0.0).to_numpy()[both] for values in (left, right))
    finite = np.isfinite(a) & np.isfinite(b)
    a, b = a[finite], b[finite]
    scale = (np.abs(a) + np.abs(b)) / 2
    apart = np.abs(a - b)
    return float(np.mean(np.divide(apart, scale, out=np.zeros_like(apart), where=scale > 0))) if len(a) else 0.0
