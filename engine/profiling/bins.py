"""Frozen bins of a column, and the counts of a chunk on them: additive, so chunks merge by adding.

Enters: a reference column. Leaves: bins that are frozen with it, and counts of any other chunk on the same bins. Called
by the audit (against the last good snapshot) and by `engine data diff`. Nulls are a bin of their own, values that the
reference never had fall into the outer bins (numbers) or into `other` (texts).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import time, timedelta
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import polars as pl

from engine.clock import EPOCH

BINS = 10
VALUES = 50
_DAYS = 30 * 86_400_000_000  # a range this long is told in days

Counts: TypeAlias = tuple[int, ...]
"""One count a bin, the nulls last."""


@dataclass(frozen=True, slots=True)
class NumberBins:
    """Bins `(edges[i-1], edges[i]]` of numbers and times (microseconds), open at both ends."""

    edges: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ValueBins:
    """A bin for each of the most frequent values, as text, and one for all others."""

    values: tuple[str, ...]


Bins: TypeAlias = NumberBins | ValueBins


def freeze_bins(reference: pl.Series, bins: int = BINS) -> Bins:
    """Choose bins that split the reference evenly: quantile edges for numbers and times, else its most frequent values.

    An edge is a value that occurs, so equal values never straddle one.

    >>> freeze_bins(pl.Series([1, 2, 3, 4]), 2)
    NumberBins(edges=(2.0,))
    """
    if not _is_number(reference.dtype):
        return ValueBins(tuple(sorted(str(value) for value, _ in most_frequent(reference, VALUES))))
    present = np.sort(as_doubles(reference))
    if not len(present):
        return NumberBins(())
    places = np.linspace(0, len(present) - 1, bins + 1)[1:-1].astype(np.int64)
    return NumberBins(tuple(np.unique(present[places]).tolist()))


def even_bins(values: pl.Series, bins: int = 12) -> Bins:
    """Choose bins of equal width between the first and the last hundredth, which show a shape; values of text as ever."""
    if not _is_number(values.dtype):
        return freeze_bins(values)
    present = as_doubles(values)
    present = np.sort(present[np.isfinite(present)])
    if not len(present):
        return NumberBins(())
    low, high = present[[int(0.01 * (len(present) - 1)), int(0.99 * (len(present) - 1))]]
    if low == high:
        return NumberBins((float(low),))
    return NumberBins(tuple(np.linspace(low, high, bins - 1).tolist()))


def count_in(values: pl.Series, bins: Bins) -> Counts:
    """Count a chunk on frozen bins.

    >>> count_in(pl.Series([0, 2, 3, None]), NumberBins((2.0,)))
    (2, 1, 1)
    """
    if isinstance(bins, NumberBins):
        present = as_doubles(values)
        places = np.searchsorted(np.asarray(bins.edges), present, side="left")
        counted = np.bincount(places, minlength=len(bins.edges) + 1)
        return (*counted.tolist(), len(values) - len(present))
    found = {str(value): count for value, count in most_frequent(values, None)}
    known = [found.get(value, 0) for value in bins.values]
    nulls = values.null_count()
    return (*known, len(values) - nulls - sum(known), nulls)


def merge_counts(left: Counts, right: Counts) -> Counts:
    """Give the counts of two chunks together.

    >>> merge_counts((1, 0, 2), (1, 1, 1))
    (2, 1, 3)
    """
    return tuple(a + b for a, b in zip(left, right, strict=True))


def describe_bins(bins: Bins, *, times: bool = False) -> tuple[str, ...]:
    """Name the bins for people, the nulls last; `times` are microseconds since 1970.

    >>> describe_bins(NumberBins((2.0,)))
    ('≤ 2', '> 2', 'null')
    """
    if isinstance(bins, ValueBins):
        return (*bins.values, "other", "null")
    days = times and len(bins.edges) > 1 and bins.edges[-1] - bins.edges[0] > _DAYS
    edges = [_as_time(edge, days=days) if times else f"{edge:.4g}" for edge in bins.edges]
    if not edges:
        return ("any", "null")
    inner = [f"{low} – {high}" for low, high in pairwise(edges)]
    return (f"≤ {edges[0]}", *inner, f"> {edges[-1]}", "null")


def most_frequent(values: pl.Series, count: int | None) -> Sequence[tuple[object, int]]:
    """Give the most frequent values with their counts; equal counts by value, so that the order is always the same."""
    texts = values.cast(pl.String) if values.dtype == pl.Boolean else values
    counted = texts.drop_nulls().to_frame("value").group_by("value").len("count")
    ordered = counted.sort("count", "value", descending=[True, False])
    return (ordered if count is None else ordered.head(count)).rows()


def as_doubles(values: pl.Series) -> np.ndarray:
    """Give the values that are not null (nor NaN) as doubles; times in microseconds. (n,) float64."""
    if isinstance(values.dtype, pl.Datetime | pl.Date):
        values = values.cast(pl.Datetime("us")).cast(pl.Int64)
    elif isinstance(values.dtype, pl.Duration | pl.Time):
        values = values.cast(pl.Int64)
    present: np.ndarray = values.drop_nulls().cast(pl.Float64).to_numpy()
    return np.asarray(present[~np.isnan(present)])


def _as_time(edge: float, *, days: bool) -> str:
    moment = EPOCH + timedelta(microseconds=int(edge))
    return f"{moment:%Y-%m-%d}" if days or moment.time() == time() else f"{moment:%Y-%m-%d %H:%M}"


def _is_number(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() or dtype.is_temporal()
