"""Conditions of one column each, from which slices are made: values, ranges between quantiles, and missing.

Enters: a column of the searching half. Leaves: conditions that can be asked of any rows. Called by `slices`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

_FEW_VALUES = 12


@dataclass(frozen=True, slots=True)
class Atom:
    """`column` is `value`, or lies from `low` (included) to `high` (excluded), or is missing when all three are `None`."""

    column: str
    value: str | None = None
    low: float | None = None
    high: float | None = None

    @property
    def words(self) -> str:
        """Say it, as in `km >= 12.5`."""
        if self.value is not None:
            return f"{self.column} = {self.value}"
        if self.low is None and self.high is None:
            return f"{self.column} is missing"
        if self.high is None:
            return f"{self.column} >= {self.low:.6g}"
        if self.low is None:
            return f"{self.column} < {self.high:.6g}"
        return f"{self.low:.6g} <= {self.column} < {self.high:.6g}"

    def mask(self, values: pl.Series) -> NDArray[np.bool_]:
        """Say which rows of its column satisfy it, (n,)."""
        if self.value is not None:
            return np.asarray((values.cast(pl.String) == self.value).fill_null(value=False).to_numpy())
        missing = np.asarray(_missing(values).to_numpy())
        if self.low is None and self.high is None:
            return missing
        numbers = values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
        with np.errstate(invalid="ignore"):
            found = ~missing
            found &= numbers >= self.low if self.low is not None else True
            found &= numbers < self.high if self.high is not None else True
        return np.asarray(found)


def atoms_of(values: pl.Series, bins: int, most: int, min_rows: int) -> list[Atom]:
    """Give the conditions of a column that hold for at least so many rows, and not for all but so few."""
    if values.dtype.is_temporal():
        return []
    few = values.dtype in {pl.String, pl.Boolean} or values.n_unique() <= _FEW_VALUES
    found = _by_value(values, most) if few else _by_range(values, bins)
    found.append(Atom(values.name))
    counts = [int(atom.mask(values).sum()) for atom in found]
    return [atom for atom, n in zip(found, counts, strict=True) if min_rows <= n <= len(values) - min_rows]


def _by_value(values: pl.Series, most: int) -> list[Atom]:
    text = values.cast(pl.String).drop_nulls()
    counted = text.value_counts(sort=False).sort(["count", values.name], descending=[True, False])
    return [Atom(values.name, value=value) for value in counted[values.name].head(most).to_list()]


def _by_range(values: pl.Series, bins: int) -> list[Atom]:
    """Cut at quantiles, that give the ranges between neighbours and what lies beyond each cut."""
    known = values.cast(pl.Float64).fill_nan(None).drop_nulls().to_numpy()
    if not len(known):
        return []
    cuts = sorted({float(np.quantile(known, place / bins, method="nearest")) for place in range(1, bins)})
    ends: list[float | None] = [None, *cuts, None]
    between = [Atom(values.name, low=low, high=high) for low, high in pairwise(ends)]
    beyond = [Atom(values.name, low=cut) for cut in cuts[:-1]] + [Atom(values.name, high=cut) for cut in cuts[1:]]
    return between + beyond


def _missing(values: pl.Series) -> pl.Series:
    return values.is_null() | values.is_nan() if values.dtype.is_float() else values.is_null()
