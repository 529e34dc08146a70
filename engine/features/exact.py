"""Exact numbers: doubles quantised to integers once, and the only place where sums become means and deviations.

Integers add up the same in any order and any grouping, so a window's sum, count and sum of squares do not depend on
how the rows were partitioned or when they arrived. `finalise` turns them into doubles with a fixed sequence of
correctly rounded operations, the same for 64-bit integers and for Python's own. Called by `sources` and `windows`.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

Integers: TypeAlias = npt.NDArray[Any]
"""64-bit integers, or Python integers (dtype object) where 64 bits do not suffice."""
Doubles: TypeAlias = npt.NDArray[np.float64]
Flags: TypeAlias = npt.NDArray[np.bool_]
N = TypeVar("N", float, npt.NDArray[np.float64])

_BLOCK = 1 << 16
_INT64 = 2**63
QUANTUM_LIMIT = 2**50
"""Beyond this a quantised double is null: below it, quantising twice gives the same integer."""


def quantise(values: pl.Series, decimals: int) -> tuple[npt.NDArray[np.int64], Flags]:
    """Numbers as whole multiples of 10**-decimals (half to even), and which are valid; integers are kept as they are.

    >>> quantise(pl.Series([0.125, None, 1e300]), 2)[0].tolist()
    [12, 0, 0]
    """
    valid = values.is_not_null().to_numpy()
    if not values.dtype.is_float():
        return values.cast(pl.Int64).fill_null(0).to_numpy(), valid
    quanta, fits = quantise_doubles(values.fill_null(0.0).to_numpy(), decimals)
    valid = valid & fits
    return np.where(valid, quanta, 0), valid


def quantise_doubles(doubles: Doubles, decimals: int) -> tuple[npt.NDArray[np.int64], Flags]:
    """The same for doubles without nulls: the nearest multiples, and which of them are small enough."""
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = np.rint(doubles * 10.0**decimals)
        fits = np.abs(scaled) <= QUANTUM_LIMIT
    return np.where(fits, scaled, 0.0).astype(np.int64), fits


def to_doubles(values: Integers) -> Doubles:
    """Integers as the nearest doubles, half to even."""
    return values.astype(np.float64)


# The formulas: one rounding each step, in this order. They take doubles, of one row or of many.


def sum_formula(total: N, scale: float) -> N:
    """The sum: the exact integer rounded once (by the caller), then one division."""
    return total / scale


def mean_formula(count: N, total: N, scale: float) -> N:
    """The mean: the exact sum over count x 10**decimals."""
    return total / (count * scale)


def variance_formula(count: N, spread: N) -> N:
    """The sample variance in quanta, from the exact integer n * sum(x^2) - sum(x)^2 rounded once."""
    return spread / (count * (count - 1.0))


def smoothed_formula(count: N, total: N, scale: float, prior: tuple[float, float]) -> N:
    """The mean shrunk towards a prior (value, weight): (sum + value * weight) / (count + weight)."""
    value, weight = prior
    return (sum_formula(total, scale) + value * weight) / (count + weight)


def finalise_sum(total: Integers, decimals: int) -> Doubles:
    """The sum as a double."""
    return sum_formula(to_doubles(total), 10.0**decimals)


def finalise_mean(count: Integers, total: Integers, decimals: int) -> Doubles:
    """The mean, NaN where there is no value."""
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = mean_formula(to_doubles(count), to_doubles(total), 10.0**decimals)
    return np.where(count > 0, mean, np.nan)


def finalise_std(count: Integers, spread: Doubles, decimals: int) -> Doubles:
    """The sample standard deviation, NaN below two values; `spread` is never negative, its cancellation is exact."""
    with np.errstate(invalid="ignore", divide="ignore"):
        deviation = sum_formula(np.sqrt(variance_formula(to_doubles(count), spread)), 10.0**decimals)
    return np.where(count > 1, deviation, np.nan)


def finalise_smoothed(count: Integers, total: Integers, decimals: int, prior: tuple[float, float]) -> Doubles:
    """The smoothed mean; without a value it is the prior itself."""
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = smoothed_formula(to_doubles(count), to_doubles(total), 10.0**decimals, prior)
    return np.where(count > 0, mean, prior[0])


def quantile_rank(count: Integers, q: float) -> npt.NDArray[np.int64]:
    """The rank, from 1, of the quantile `q` of that many values (Hyndman and Fan 1996, type 1); 0 where there is none.

    `q` is the decimal number as it is written, so the rank is exact.

    >>> quantile_rank(np.array([0, 1, 100]), 0.07).tolist()
    [0, 1, 7]
    """
    share = Fraction(repr(q))
    wide = count.astype(object) if int(count.max(initial=0)) * share.numerator >= _INT64 - share.denominator else count
    rank = (wide * share.numerator + share.denominator - 1) // share.denominator
    return np.where(count > 0, np.maximum(rank, 1), 0).astype(np.int64)


def by_blocks(
    finalise: Callable[[Integers, npt.NDArray[Any]], Doubles], count: Integers, values: npt.NDArray[Any]
) -> Doubles:
    """The same, a block at a time: what lies between two operations stays in the processor's cache."""
    out = np.empty(len(count), dtype=np.float64)
    for start in range(0, len(count), _BLOCK):
        block = slice(start, start + _BLOCK)
        out[block] = finalise(count[block], values[block])
    return out


def spread_of(count: Integers, total: Integers, squares: Integers) -> Doubles:
    """Compute n * sum(x^2) - sum(x)^2 in exact integers, as the nearest doubles."""
    if total.dtype.hasobject or squares.dtype.hasobject:
        n, s, q = (array.astype(object) for array in (count, total, squares))
        return to_doubles(n * q - s * s)
    frame = pl.DataFrame({"n": count, "s": total, "q": squares}).cast(pl.Int128)
    exact = pl.col("n") * pl.col("q") - pl.col("s") * pl.col("s")
    return frame.select(exact.cast(pl.Float64)).to_series().to_numpy()
