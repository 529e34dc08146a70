"""Signs that training knew the answers, as numbers: pure functions over columns and labels.

Enters: model columns (n,) float64 with NaN for null, labels, row hashes. Leaves: plain values. Called by the leakage
probe; how much is too much is the gate's to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.evaluation.metrics import Floats
from engine.evaluation.significance import delong_area, midranks

_MIN_ROWS = 50


@dataclass(frozen=True, slots=True)
class Association:
    """How well one column alone ranks the label: an area of 0.5 to 1 (binary) or |Spearman's rho|, with its interval."""

    column: str
    measure: str
    value: float
    low: float
    high: float
    n: int


def associate(column: str, values: Floats, y: Floats, level: float) -> Association | None:
    """Measure one column alone; nulls rank below all values. `None` when column or label is constant, or rows are few."""
    known = np.isfinite(y)
    x, y = np.where(np.isfinite(values[known]), values[known], -np.inf), y[known]
    if len(y) < _MIN_ROWS or x.min() == x.max() or y.min() == y.max():
        return None
    if bool(((y == 0) | (y == 1)).all()):
        if min((y == 1).sum(), (y == 0).sum()) < 5:
            return None
        ranks = midranks(x)
        area = delong_area(y, ranks, level)
        if area.value < 0.5:
            area = delong_area(y, -ranks, level)
        return Association(column, "roc_auc", area.value, area.low, area.high, len(y))
    rho = float(abs(np.corrcoef(midranks(x), midranks(y))[0, 1]))
    low, high = fisher_interval(rho, len(y), level)
    return Association(column, "spearman", rho, low, high, len(y))


def fisher_interval(rho: float, n: int, level: float) -> tuple[float, float]:
    """Give the interval of a rank correlation by Fisher's z with Bonett and Wright's variance (2000)."""
    if rho >= 1.0:
        return 1.0, 1.0
    reach = NormalDist().inv_cdf((1 + level) / 2) * float(np.sqrt((1 + rho * rho / 2) / (n - 3)))
    return max(0.0, float(np.tanh(np.arctanh(rho) - reach))), float(np.tanh(np.arctanh(rho) + reach))


def category_rates(train: Floats, y: Floats, test: Floats) -> Floats:
    """Give each test row the mean label of its category among the training rows; a new one gets the mean of all.

    A category's number says nothing by its size, so it is its rate that is ranked.
    """
    keys, member = np.unique(train, return_inverse=True, equal_nan=True)
    total, count = np.bincount(member, weights=y), np.bincount(member)
    place = np.searchsorted(keys, test)  # NaN sorts last, as `unique` puts it
    place = np.minimum(place, len(keys) - 1)
    same = (keys[place] == test) | (np.isnan(keys[place]) & np.isnan(test))
    rates: Floats = np.where(same, total[place] / count[place], y.mean())
    return rates


def shared_rows(learned: NDArray[np.uint64], judged: NDArray[np.uint64]) -> int:
    """Count the judged rows whose hash is among those learned from."""
    return int(np.isin(judged, learned).sum())


def identity_of(values: Floats, order: Floats) -> dict[str, Any] | None:
    """Say how much like an identifier a column of whole numbers is; `None` for other columns.

    `distinct` is the share of rows with a value of their own; `order` is how strictly it follows time, by Spearman.
    """
    known = np.isfinite(values)
    x = values[known]
    if len(x) < _MIN_ROWS or not bool((x == np.floor(x)).all()) or x.min() == x.max():
        return None
    unique = len(np.unique(x))
    rho = (
        float(abs(np.corrcoef(midranks(x), midranks(order[known]))[0, 1])) if len(np.unique(order[known])) > 1 else 0.0
    )
    return {"distinct": unique / len(x), "values": unique, "order": rho}
