"""Columns of a linear model: what training fits (means, scales, levels), and how both training and scoring apply it.

A number is standardised; its nulls become the mean, and columns that are null together share one indicator, read from
the first of them. A category is one of the most frequent values of its column, or none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.contracts import Matrix

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Encoding:
    """Fitted columns, by index into the matrix; `levels` are sorted."""

    width: int
    numbers: tuple[int, ...]
    means: Floats
    scales: Floats
    indicators: tuple[int, ...]
    categories: tuple[int, ...]
    levels: tuple[Floats, ...]

    @property
    def weights(self) -> int:
        """How many weights a model on these columns has, besides the intercept."""
        return len(self.numbers) + len(self.indicators) + sum(map(len, self.levels))

    def to_json(self) -> dict[str, Any]:
        """Write out what was fitted; floats are exact."""
        return {
            "width": self.width,
            "numbers": list(self.numbers),
            "means": self.means.tolist(),
            "scales": self.scales.tolist(),
            "indicators": list(self.indicators),
            "categories": list(self.categories),
            "levels": [values.tolist() for values in self.levels],
        }


def encoding_from_json(document: Mapping[str, Any]) -> Encoding:
    """Read back what `to_json` wrote."""
    return Encoding(
        width=int(document["width"]),
        numbers=tuple(document["numbers"]),
        means=np.array(document["means"], dtype=np.float64),
        scales=np.array(document["scales"], dtype=np.float64),
        indicators=tuple(document["indicators"]),
        categories=tuple(document["categories"]),
        levels=tuple(np.array(values, dtype=np.float64) for values in document["levels"]),
    )


def fit_encoding(train: Matrix, max_levels: int) -> Encoding:
    """Fit on the training rows; columns that never vary are left out."""
    numbers: list[int] = []
    moments: list[tuple[float, float]] = []
    patterns: dict[bytes, int] = {}
    categories: list[int] = []
    levels: list[Floats] = []
    for index, name in enumerate(train.names):
        column = train.x[:, index].copy()  # one pass over rows, not three
        known = np.isfinite(column)
        if name in train.categorical:
            categories.append(index)
            levels.append(frequent_levels(column[known], max_levels))
            continue
        if 0 < int(known.sum()) < len(column):
            patterns.setdefault(np.packbits(known).tobytes(), index)
        mean, scale = _moments(column[known])
        if scale > 0:
            numbers.append(index)
            moments.append((mean, scale))
    means, scales = np.array(moments, dtype=np.float64).reshape(-1, 2).T
    return Encoding(
        train.x.shape[1],
        tuple(numbers),
        means.copy(),
        scales.copy(),
        tuple(patterns.values()),
        tuple(categories),
        tuple(levels),
    )


def frequent_levels(values: Floats, most: int) -> Floats:
    """Give the most frequent values, of equally frequent ones the smallest, in rising order.

    >>> frequent_levels(np.array([3.0, 1.0, 3.0, 2.0]), 2).tolist()
    [1.0, 3.0]
    """
    found, count = np.unique(values, return_counts=True)
    kept = np.lexsort((found, -count))[:most]
    return np.sort(found[kept])


def standardised(column: Floats, mean: float, scale: float) -> Floats:
    """Give a column around 0 with null as 0."""
    return np.where(np.isfinite(column), (column - mean) / scale, 0.0)


def places(column: Floats, levels: Floats) -> NDArray[np.int64]:
    """Give each value's place among the levels; for other values, and for null, one past the last."""
    if not len(levels):
        return np.zeros(len(column), dtype=np.int64)
    found = np.searchsorted(levels, column).clip(0, len(levels) - 1)
    return np.where(levels[found] == column, found, len(levels))


def _moments(values: Floats) -> tuple[float, float]:
    """Give mean and standard deviation; a scale of 0 when the values are constant or beyond what doubles can square."""
    if not len(values) or values.min() == values.max():
        return 0.0, 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        mean, scale = float(values.mean()), float(values.std())
    return (mean, scale) if np.isfinite(mean) and np.isfinite(scale) else (0.0, 0.0)
