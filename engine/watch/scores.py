"""Small statistics that every comparison is made of: counts and means in standard deviations, and combined evidence.

Enters: counts of a chunk and of a reference. Leaves: signed standard scores under "rows are drawn alike" (real wobble is
`moderation`'s part), tail probabilities combined over statistics, and discoveries among many of them. Pure; arrays of
any leading shape. Called by the evidence modules.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Floats: TypeAlias = "NDArray[np.float64]"
_TINY = 1e-300
_CAP = 0.95  # a probability of exactly 1, which discrete statistics have, would outweigh any evidence in a combination


def count_score(inside: ArrayLike, rows: ArrayLike, before: ArrayLike, before_rows: ArrayLike) -> Floats:
    """Give how far a count is from the reference's share, in standard deviations, with exact tails for small counts.

    Given the total of both, the chunk's count is hypergeometric when rows are drawn alike (Fisher 1935); for rare counts
    that is binomial. The exact binomial tail (Clopper & Pearson 1934) becomes a normal score, widened by what drawing
    without replacement takes away. Never larger than the evidence: the tail includes the count itself.

    >>> float(np.round(count_score(20, 2000, 0, 20_000), 1)), float(count_score(100, 1000, 1000, 10_000))
    (9.5, 0.0)
    """
    x, share, total = _conditional(inside, rows, before, before_rows)
    high, low = _at_least(x, total, share), 1.0 - _at_least(x + 1, total, share)
    up = x > total * share
    score = np.where(up, -special.ndtri(np.clip(high, _TINY, 0.5)), special.ndtri(np.clip(low, _TINY, 0.5)))
    return np.asarray(score / _without_replacement(total, rows, before_rows))


def plain_score(inside: ArrayLike, rows: ArrayLike, before: ArrayLike, before_rows: ArrayLike) -> Floats:
    """As `count_score` by Pearson's residual: its square is 1 on average whatever the share, so it estimates variances.

    >>> float(np.round(plain_score(120, 1000, 1000, 10_000), 2))
    1.99
    """
    x, share, total = _conditional(inside, rows, before, before_rows)
    variance = total * share * (1.0 - share) * _without_replacement(total, rows, before_rows) ** 2
    return np.asarray((x - total * share) / np.sqrt(np.maximum(variance, 1e-12)))


def _conditional(
    inside: ArrayLike, rows: ArrayLike, before: ArrayLike, before_rows: ArrayLike
) -> tuple[Floats, Floats, Floats]:
    x, n, more, other = (np.asarray(item, dtype=np.float64) for item in (inside, rows, before, before_rows))
    return np.broadcast_arrays(x, n / np.maximum(n + other, 1.0), x + more)  # type: ignore[return-value]


def _at_least(x: Floats, total: Floats, share: Floats) -> Floats:
    inner = special.betainc(np.maximum(x, 0.5), np.maximum(total - x + 1, 0.5), share)
    return np.asarray(np.where(x <= 0, 1.0, np.where(x > total, 0.0, inner)))


def _without_replacement(total: Floats, rows: ArrayLike, before_rows: ArrayLike) -> Floats:
    all_rows = np.maximum(np.asarray(rows, dtype=np.float64) + np.asarray(before_rows, dtype=np.float64), 1.0)
    return np.asarray(np.sqrt(np.maximum(1.0 - total / all_rows, 1e-6)))


def unskewed(score: Floats, skewness: Floats, dispersion: Floats | float = 1.0) -> Floats:
    """Correct a standard score for the skewness of what it standardises (Cornish & Fisher 1938, first term).

    `dispersion` is how much wobble has widened it: what is added by wobble is not skewed. A third of the score at most.
    """
    moved = skewness / np.power(dispersion, 1.5) * (score**2 / dispersion - 1.0) / 6.0 * np.sqrt(dispersion)
    limit = np.abs(score) / 3.0
    return np.asarray(score - np.clip(moved, -limit, limit))


def combine(probabilities: Floats, weights: Floats) -> Floats:
    """Combine tail probabilities along the last axis by their Cauchy quantiles; valid whatever their dependence, far out.

    Liu & Xie 2020, "Cauchy combination test". A weight of 0 leaves a statistic out; nothing left gives 1.

    >>> float(np.round(combine(np.array([0.001, 0.5]), np.array([1.0, 1.0])), 4))
    0.002
    """
    total = weights.sum(axis=-1)
    kept = np.clip(probabilities, _TINY, _CAP)
    with np.errstate(over="ignore", divide="ignore"):
        quantile = np.where(kept < 1e-12, 1.0 / (np.pi * kept), np.tan((0.5 - kept) * np.pi))
        statistic = np.sum(np.where(weights > 0, weights * quantile, 0.0), axis=-1) / np.maximum(total, 1e-12)
        far = statistic > 1e6
        found = np.where(far, 1.0 / (np.pi * np.where(far, statistic, 1.0)), 0.5 - np.arctan(statistic) / np.pi)
    return np.asarray(np.where(total > 0, np.minimum(found, 1.0), 1.0))


def adjust(probabilities: Floats, present: NDArray[np.bool_] | None = None) -> Floats:
    """Give Benjamini & Hochberg's (1995) adjusted values along the last axis: at most `level` means a discovery.

    The expected share of false ones among the discoveries is at most the level; when nothing changed at all, so is the
    probability of any. Statistics that are not `present` are not counted, and get 1.

    >>> adjust(np.array([0.01, 0.02, 0.5])).tolist()
    [0.03, 0.03, 0.5]
    """
    known = np.ones(probabilities.shape, dtype=bool) if present is None else present
    filled = np.where(known, probabilities, 2.0)
    order = np.argsort(filled, axis=-1, kind="stable")
    ranked = np.take_along_axis(filled, order, -1)
    count = known.sum(axis=-1, keepdims=True)
    scaled = ranked * count / np.arange(1, filled.shape[-1] + 1)
    monotone = np.minimum.accumulate(scaled[..., ::-1], axis=-1)[..., ::-1]
    found = np.empty_like(scaled)
    np.put_along_axis(found, order, np.minimum(monotone, 1.0), -1)
    return np.where(known, found, 1.0)
