"""How far two sets of counts on the same bins are apart: magnitudes, of which none is evidence.

Enters: counts of the reference and of a chunk, (B,), and for numbers the edges. Leaves: named distances. Called by
`compare`. Shares of bins that neither has rows in play no part. On bins, KS and Wasserstein are those of the bins (KS looks
at edges only, Wasserstein takes rows as even within a bin); `mode: compat` has them on values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from engine.profiling.distance import psi
from engine.watch.moderation import Floats

_TENTHS = 10


def shares_of(counts: Floats) -> Floats:
    """Give shares; zeros when there is nothing."""
    total = float(counts.sum())
    return np.asarray(counts / total) if total else np.zeros(len(counts))


def jensen_shannon(p: Floats, q: Floats) -> float:
    """Give the Jensen-Shannon distance (root of the divergence to base 2), 0 to 1. Lin 1991; Endres & Schindelin 2003.

    >>> jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    1.0
    """
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [np.where(side > 0, side * np.log2(side / middle), 0.0).sum() for side in (p, q)]
    return math.sqrt(max(0.0, float(parts[0] + parts[1]) / 2))


def hellinger(p: Floats, q: Floats) -> float:
    """Give the Hellinger distance, 0 to 1.

    >>> hellinger(np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    1.0
    """
    return math.sqrt(max(0.0, 1.0 - float(np.sqrt(p * q).sum())))


def l_infinity(p: Floats, q: Floats) -> float:
    """Give the largest difference of a share."""
    return float(np.abs(p - q).max()) if len(p) else 0.0


def chi_squared(before: Floats, now: Floats) -> float:
    """Give Pearson's statistic of the two-row table of counts, without correction; cells empty on both sides left out."""
    kept = (before + now) > 0
    table = np.array([before[kept], now[kept]], dtype=np.float64)
    total = table.sum()
    if not total or not table.sum(axis=1).all():
        return 0.0
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / total
    return float(((table - expected) ** 2 / expected).sum())


def tenths(before: Floats, now: Floats) -> tuple[list[int], list[int]]:
    """Put ordered bins together to about ten of equal mass in the reference: the bins of the usual PSI."""
    share = shares_of(before)
    middle = np.cumsum(share) - share / 2
    place = np.minimum((middle * _TENTHS).astype(np.int64), _TENTHS - 1)
    return tuple(
        np.bincount(place, weights=item, minlength=_TENTHS).astype(np.int64).tolist() for item in (before, now)
    )


def number_distances(before: Floats, now: Floats, edges: Sequence[float], scale: float) -> Mapping[str, float]:
    """Give every distance of numbers: cells below, between and above the edges. Wasserstein in standard deviations."""
    p, q = shares_of(before), shares_of(now)
    kept = [pair for pair in zip(*tenths(before, now), strict=True) if any(pair)]
    left, right = tuple(a for a, _ in kept), tuple(b for _, b in kept)
    gaps = np.abs(np.cumsum(q - p))[:-1]
    return {
        **_common(np.asarray(left, dtype=np.float64), np.asarray(right, dtype=np.float64)),
        "ks": float(gaps.max()) if len(gaps) else 0.0,
        "wasserstein": _wasserstein(np.cumsum(q - p), edges) / scale,
    }


def category_distances(before: Floats, now: Floats) -> Mapping[str, float]:
    """Give every distance of categories."""
    kept = (before + now) > 0
    return _common(before[kept], now[kept])


def _common(before: Floats, now: Floats) -> dict[str, float]:
    p, q = shares_of(before), shares_of(now)
    counts = [tuple(int(item) for item in side) for side in (before, now)]
    return {
        "psi": psi(counts[0], counts[1]) if len(p) > 1 and before.sum() and now.sum() else 0.0,
        "jensen_shannon": jensen_shannon(p, q),
        "hellinger": hellinger(p, q) if before.sum() and now.sum() else 0.0,
        "l_infinity": l_infinity(p, q),
        "chi_squared": chi_squared(before, now),
    }


def _wasserstein(gaps: Floats, edges: Sequence[float]) -> float:
    """Integrate the distance of two distribution functions that are straight between edges; beyond them is not seen."""
    if len(edges) < 2:
        return 0.0
    left, right = gaps[:-2], gaps[1:-1]
    same = left * right >= 0
    size = np.abs(left) + np.abs(right)
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = np.where(size > 0, (left**2 + right**2) / (2 * size), 0.0)
    return float((np.where(same, size / 2, crossing) * np.diff(np.asarray(edges))).sum())
