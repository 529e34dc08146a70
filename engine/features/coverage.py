"""Which queries each event counts for, and exact aggregates over that. Called by `windows` and `lookups`.

Queries (spine rows) are sorted by key and time, so an event that counts for times `[enter, leave]` of one key covers one
contiguous range `[low, high)` of them: that holds for late rows and for replaced ones too. Two implementations give the
same integers: NumPy for what is small (nothing to import, nothing to compile) and compiled sweeps for what is large.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

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
    """Spine rows with a key, sorted by key and time: `row` (q,), `codes` (q,) from 0, `times` (q,) in microseconds."""

    row: Ints
    codes: Codes
    times: Ints

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.row)


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


def coverage_of(queries: Queries, *, compiled: bool) -> Coverage:
    """One of the two implementations."""
    if compiled:
        from engine.features.coverage_compiled import CompiledCoverage  # noqa: PLC0415 - imports numba

        return CompiledCoverage(queries)
    from engine.features.coverage_arrays import ArrayCoverage  # noqa: PLC0415 - the other half of the choice

    return ArrayCoverage(queries)
