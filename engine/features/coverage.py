"""Which queries each event counts for, and exact aggregates over that. Called by `windows` and `lookups`.

Queries (spine rows) are sorted by key and time, so an event that counts for times `[enter, leave]` of one key covers one
contiguous range `[low, high)` of them: that holds for late rows and for replaced ones too. Two implementations give the
same integers: NumPy for what is small (nothing to import, nothing to compile) and compiled sweeps for what is large.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from engine.features.exact import Integers
from engine.features.frames import Codes, Ints

COMPILED_FROM = 1_000_000
"""Events plus queries from which compiled code is worth its import (about half a second)."""
LEAST = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class Ranges:
    """Per event, the queries it counts for: positions `[low, high)` in query order; empty ranges are possible."""

    low: Ints
    high: Ints


@dataclass(frozen=True, slots=True)
class Queries:
    """Spine rows with a key, sorted by key and time. `row` gives each position's spine row, `place` the reverse.

    `place` is `count` for a spine row without a key.
    """

    row: Ints
    codes: Codes
    times: Ints
    place: Ints

    @property
    def count(self) -> int:
        """How many spine rows have a key."""
        return len(self.row)

    def spread(self, values: npt.NDArray[Any], fill: Any) -> npt.NDArray[Any]:
        """Values by position as values by spine row; rows without a key get `fill`."""
        if self.count == len(self.place):
            return values[self.place]
        return np.append(values, np.array(fill, dtype=values.dtype))[self.place]


class Coverage(Protocol):
    """Aggregates over ranges of the queries; every result has one entry a query position."""

    def find(self, codes: Codes, moments: Ints) -> Ints:
        """Per event, the first position whose key is the event's and whose time is `moments` or later.

        Events are given by key.
        """
        ...

    def count(self, ranges: Ranges) -> Ints:
        """How many ranges contain the position."""
        ...

    def total(self, ranges: Ranges, values: Ints, most: int) -> Integers:
        """The exact sum over the ranges that contain it; `most` is the largest number of them."""
        ...

    def spread(self, ranges: Ranges, values: Ints, most: int) -> npt.NDArray[np.float64]:
        """Compute n * sum(x^2) - sum(x)^2 in exact integers, as the nearest doubles."""
        ...

    def largest(self, ranges: Ranges, values: Ints, most: int) -> Ints:
        """The largest value; `LEAST` where there is none."""
        ...

    def distinct(self, ranges: Ranges, codes: Ints, size: int) -> Ints:
        """How many different codes (from 0, below `size`)."""
        ...

    def nth(self, ranges: Ranges, codes: Ints, targets: Ints) -> Ints:
        """The code with that rank, from 1, in ascending order; -1 where the rank is below 1. No rank is too high."""
        ...

    def frequent(self, ranges: Ranges, codes: Ints, rank: int) -> Ints:
        """The `rank`-th most frequent code, the smaller first among equals; -1 where there are fewer codes."""
        ...


def coverage_of(queries: Queries, events: int) -> Coverage:
    """The implementation for that many queries and events."""
    if queries.count + events >= COMPILED_FROM:
        from engine.features.coverage_compiled import CompiledCoverage  # noqa: PLC0415 - imports numba

        return CompiledCoverage(queries)
    from engine.features.coverage_arrays import ArrayCoverage  # noqa: PLC0415 - the other half of the choice

    return ArrayCoverage(queries)


def sort_queries(codes: Codes, times: Ints) -> Queries:
    """Sort queries by key code and time; a negative code is a null key, which matches nothing."""
    if np.all(times[1:] >= times[:-1]):  # as training has them
        row = order_by_code(codes)
    else:
        order = np.argsort(times, kind="stable")
        row = order[order_by_code(codes[order])]
    place = np.full(len(codes), len(row))
    place[row] = np.arange(len(row))
    return Queries(row, codes[row], times[row], place)


def order_by_code(codes: Codes) -> Ints:
    """Indices by code, stable; negative codes are left out."""
    held = np.flatnonzero(codes >= 0)
    kept = codes[held] if len(held) < len(codes) else codes
    if len(kept) and kept.max() < 1 << 16:
        order = np.argsort(kept.astype(np.uint16), kind="stable")  # 16 bits take a radix sort
    elif len(kept) >= COMPILED_FROM:
        from engine.features.coverage_compiled import counting_order  # noqa: PLC0415 - imports numba

        order = counting_order(kept)
    else:
        order = np.argsort(kept, kind="stable")
    return held[order] if len(held) < len(codes) else order


def in_order(ranges: Ranges) -> bool:
    """Whether ranges neither begin nor end before an earlier one: then events leave in the order in which they came."""
    low, high = ranges.low, ranges.high
    return bool(np.all(low[1:] >= low[:-1]) and np.all(high[1:] >= high[:-1]))
