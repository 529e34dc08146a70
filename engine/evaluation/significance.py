"""Tests and intervals in closed form: McNemar, DeLong, Holm, and intervals of shares and their differences.

Enters: labels and predictions, or counts. Leaves: frozen values. Called by the gates. Only `scipy.special` is imported,
whose functions are the ones behind `scipy.stats`, at a tenth of the start-up time.

All of them take rows to be independent: rows that come in clusters are the bootstrap's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr, betaincinv, chdtrc, ndtr, ndtri

from engine.evaluation.metrics import Floats

EXACT_UP_TO = 1000
"""Discordant pairs up to which McNemar's test is the exact binomial one."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its two-sided interval at a level."""

    value: float
    low: float
    high: float
    level: float


@dataclass(frozen=True, slots=True)
class McNemar:
    """`ours` rows only we have right, `other` only they do; `p` two-sided; `gain` is our share right less theirs."""

    ours: int
    other: int
    statistic: float
    p: float
    gain: Interval
    n: int


@dataclass(frozen=True, slots=True)
class DeLong:
    """Areas of two models on the same rows, the difference `ours - other` with its interval, `z` and two-sided `p`."""

    ours: float
    other: float
    difference: Interval
    z: float
    p: float


def mcnemar(ours: Floats, other: Floats, level: float = 0.95) -> McNemar:
    """Compare which rows two classifiers have right, (n,) boolean each (McNemar 1947).

    Exact binomial up to a thousand discordant pairs, then chi-squared with Edwards' continuity correction. The interval
    of the gain is Wald's with the correction of Agresti and Min (2005): half a pair is added to each cell.
    """
    n = len(ours)
    b, c = int((ours.astype(bool) & ~other.astype(bool)).sum()), int((~ours.astype(bool) & other.astype(bool)).sum())
    if b + c <= EXACT_UP_TO:
        statistic = float(min(b, c))
        p = min(1.0, 2 * float(bdtr(min(b, c), b + c, 0.5))) if b + c else 1.0
    else:
        statistic = (abs(b - c) - 1) ** 2 / (b + c)
        p = float(chdtrc(1, statistic))
    return McNemar(b, c, statistic, p, _paired_gain(b, c, n, level), n)


def _paired_gain(b: int, c: int, n: int, level: float) -> Interval:
    size = n + 2.0
    up, down = (b + 0.5) / size, (c + 0.5) / size
    error = float(np.sqrt(max(0.0, up + down - (up - down) ** 2) / size))
    reach = float(ndtri((1 + level) / 2)) * error
    return Interval((b - c) / n if n else 0.0, up - down - reach, up - down + reach, level)


def delong(y: Floats, ours: Floats, other: Floats, level: float = 0.95) -> DeLong:
    """Compare two correlated areas under the ROC curve (DeLong et al. 1988), by midranks (Sun & Xu 2014), O(n log n).

    `y` is 0 or 1 with at least two rows of each. Equal predictions have no variance: then `p` is 1.
    """
    positive = y == 1
    m, n = int(positive.sum()), int((~positive).sum())
    areas, by_positive, by_negative = [], [], []
    for score in (ours, other):
        whole = midranks(score)
        inside, outside = midranks(score[positive]), midranks(score[~positive])
        areas.append(float(whole[positive].sum() / (m * n) - (m + 1) / (2 * n)))
        by_positive.append((whole[positive] - inside) / n)
        by_negative.append(1 - (whole[~positive] - outside) / m)
    covariance = np.cov(by_positive) / m + np.cov(by_negative) / n
    variance = max(0.0, float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]))
    gap, error = areas[0] - areas[1], float(np.sqrt(variance))
    z = gap / error if error > 0 else 0.0
    p = 2 * float(ndtr(-abs(z))) if error > 0 else float(gap == 0)
    reach = float(ndtri((1 + level) / 2)) * error
    return DeLong(areas[0], areas[1], Interval(gap, gap - reach, gap + reach, level), z, p)


def delong_area(y: Floats, score: Floats, level: float = 0.95) -> Interval:
    """Give one area under the ROC curve with DeLong's interval, kept within 0 and 1."""
    positive = y == 1
    m, n = int(positive.sum()), int((~positive).sum())
    whole = midranks(score)
    area = float(whole[positive].sum() / (m * n) - (m + 1) / (2 * n))
    above = (whole[positive] - midranks(score[positive])) / n
    below = 1 - (whole[~positive] - midranks(score[~positive])) / m
    variance = (float(above.var(ddof=1)) / m if m > 1 else 0.0) + (float(below.var(ddof=1)) / n if n > 1 else 0.0)
    reach = float(ndtri((1 + level) / 2)) * float(np.sqrt(variance))
    return Interval(area, max(0.0, area - reach), min(1.0, area + reach), level)


def midranks(values: Floats) -> Floats:
    """Rank from 1, ties at the middle of their ranks.

    >>> midranks(np.array([3.0, 1.0, 3.0])).tolist()
    [2.5, 1.0, 2.5]
    """
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    # One sort and runs of equal values: searching each value among the sorted ones takes three times as long.
    starts = np.flatnonzero(np.append(True, (ordered[1:] != ordered[:-1]) & ~np.isnan(ordered[:-1])))[: len(values)]
    ends = np.append(starts[1:], len(values))
    found: Floats = np.empty(len(values))
    found[order] = np.repeat((starts + ends + 1) / 2.0, ends - starts)
    return found


def holm_adjusted(p: Mapping[str, float]) -> dict[str, float]:
    """Adjust p-values by Holm's step-down method (1979): reject those at most alpha.

    >>> holm_adjusted({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    ordered = sorted(p, key=lambda name: (p[name], name))
    largest, adjusted = 0.0, {}
    for index, name in enumerate(ordered):
        largest = max(largest, min(1.0, p[name] * (len(ordered) - index)))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p}


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """Give a share with Wilson's score interval (1927)."""
    z = float(ndtri((1 + level) / 2))
    share, spread = successes / n, z * z / n
    middle = (share + spread / 2) / (1 + spread)
    reach = z * float(np.sqrt(share * (1 - share) / n + spread / (4 * n))) / (1 + spread)
    return Interval(share, max(0.0, middle - reach), min(1.0, middle + reach), level)


def clopper_pearson(successes: int, n: int, level: float = 0.95) -> Interval:
    """Give a share with its exact interval (Clopper & Pearson 1934)."""
    tail = (1 - level) / 2
    low = float(betaincinv(successes, n - successes + 1, tail)) if successes else 0.0
    high = float(betaincinv(successes + 1, n - successes, 1 - tail)) if successes < n else 1.0
    return Interval(successes / n, low, high, level)


def newcombe(successes: tuple[int, int], n: tuple[int, int], level: float = 0.95) -> Interval:
    """Give the difference of two independent shares, first less second, by Newcombe's hybrid score interval (1998)."""
    one, two = (wilson(count, size, level) for count, size in zip(successes, n, strict=True))
    gap = one.value - two.value
    below = float(np.hypot(one.value - one.low, two.high - two.value))
    above = float(np.hypot(one.high - one.value, two.value - two.low))
    return Interval(gap, gap - below, gap + above, level)


def difference_p(gap: Interval) -> float:
    """Give the one-sided p-value of a gap at least as large as the null allows: normal, from the interval's lower side."""
    error = (gap.value - gap.low) / float(ndtri((1 + gap.level) / 2))
    if error <= 0:
        return 0.0 if gap.value > 0 else 1.0
    return float(ndtr(-gap.value / error))
