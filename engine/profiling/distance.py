"""How far two columns are apart, as a magnitude: PSI on counts over the same bins, KS on the values themselves."""

from __future__ import annotations

import math

import numpy as np
import polars as pl

from engine.profiling.bins import Counts, as_doubles, count_in, freeze_bins


def psi(reference: Counts, current: Counts) -> float:
    """Give the population stability index of two sets of counts on the same bins; 0 when the shares are equal.

    Sum of (q - p) ln(q / p) over bins (Siddiqi 2006; Jeffreys' divergence). Each bin gets half a row more, so that an
    empty one stays finite. Without any change it is about (bins - 1) (1/n + 1/m) (Yurdakul 2018).

    >>> psi((10, 10), (100, 100)), round(psi((100, 100), (150, 50)), 3)
    (0.0, 0.272)
    """
    if len(reference) != len(current):
        raise ValueError("counts are on the same bins")
    extra = 0.5 * len(reference)
    n, m = sum(reference) + extra, sum(current) + extra
    shares = (((a + 0.5) / n, (b + 0.5) / m) for a, b in zip(reference, current, strict=True))
    return sum((q - p) * math.log(q / p) for p, q in shares)


def ks(reference: pl.Series, current: pl.Series) -> float:
    """Give the largest distance between two empirical distribution functions (two-sample Kolmogorov-Smirnov), 0 to 1.

    Nulls are left out. No rows on a side: 0 when both are empty, else 1.

    >>> ks(pl.Series([1, 2]), pl.Series([1, 2])), ks(pl.Series([1, 2]), pl.Series([3, 4]))
    (0.0, 1.0)
    """
    left, right = np.sort(as_doubles(reference)), np.sort(as_doubles(current))
    if not len(left) or not len(right):
        return 0.0 if len(left) == len(right) else 1.0
    both = np.concatenate([left, right])
    below_left = np.searchsorted(left, both, side="right") / len(left)
    below_right = np.searchsorted(right, both, side="right") / len(right)
    return float(np.abs(below_left - below_right).max())


def column_psi(reference: pl.Series, current: pl.Series) -> float:
    """Give the PSI of a column against a reference, on bins frozen with the reference."""
    bins = freeze_bins(reference)
    known, now = count_in(reference, bins), count_in(current, bins)
    kept = [index for index, pair in enumerate(zip(known, now, strict=True)) if any(pair)]
    return psi(tuple(known[index] for index in kept), tuple(now[index] for index in kept))
