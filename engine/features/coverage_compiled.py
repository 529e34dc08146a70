"""Coverage by compiled sweeps, in linear time. Called by `coverage` for large inputs.

Ranges in order (nothing late, nothing replaced) are one stream for additions and removals alike; other ranges are sorted
once for each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.features import kernels
from engine.features.coverage import LEAST, Queries, Ranges
from engine.features.coverage_arrays import ArrayCoverage, largest_size
from engine.features.exact import Integers
from engine.features.frames import Codes, Ints

_INT64 = 2**63


@dataclass(frozen=True, slots=True)
class _Streams:
    """Events by where they come (`low`, and `until` when those go) and by where they go (`high`)."""

    low: Ints
    until: Ints
    high: Ints
    coming: Ints | None
    going: Ints | None

    def added(self, values: Ints) -> Ints:
        """Values in the order of additions."""
        return values if self.coming is None else values[self.coming]

    def removed(self, values: Ints) -> Ints:
        """Values in the order of removals."""
        return values if self.going is None else values[self.going]


class CompiledCoverage:
    """`Coverage` by compiled sweeps."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries
        self._size = queries.count
        codes = queries.codes
        self._starts = np.zeros(int(codes[-1]) + 2 if len(codes) else 1, dtype=np.int64)
        self._starts[1:] = np.cumsum(np.bincount(codes, minlength=len(self._starts) - 1))
        self._streams: tuple[Ranges, _Streams] | None = None

    def find(self, codes: Codes, moments: Ints) -> Ints:
        """See `Coverage`."""
        out = np.empty(len(codes), dtype=np.int64)
        kernels.find(self._starts, self._queries.times, codes, moments, out)
        return out

    def count(self, ranges: Ranges) -> Ints:
        """See `Coverage`."""
        made, streams = np.empty(self._size, dtype=np.int64), self._sorted(ranges)
        kernels.count(streams.low, streams.high, made)
        return made

    def total(self, ranges: Ranges, values: Ints, most: int) -> Integers:
        """See `Coverage`."""
        if largest_size(values) * max(most, 1) >= _INT64:
            return ArrayCoverage(self._queries).total(ranges, values, most)
        made, streams = np.empty(self._size, dtype=np.int64), self._sorted(ranges)
        kernels.total(streams.low, streams.added(values), streams.high, streams.removed(values), made)
        return made

    def spread(self, ranges: Ranges, values: Ints, most: int) -> npt.NDArray[np.float64]:
        """See `Coverage`. Where sums fit into 64 bits, sums of squares times their number fit into 128."""
        if largest_size(values) * max(most, 1) >= _INT64:
            return ArrayCoverage(self._queries).spread(ranges, values, most)
        made, streams = np.empty(self._size, dtype=np.float64), self._sorted(ranges)
        kernels.spread(streams.low, streams.added(values), streams.high, streams.removed(values), made)
        return made

    def largest(self, ranges: Ranges, values: Ints, most: int) -> Ints:
        """See `Coverage`."""
        best, streams = np.full(self._size, LEAST, dtype=np.int64), self._sorted(ranges)
        if streams.coming is None:
            queue = np.empty(1 << (most + 1).bit_length(), dtype=np.int64)
            kernels.largest_in_order(streams.low, streams.high, values, queue, best)
        else:
            heap = np.empty(len(streams.low), dtype=np.int64)
            kernels.largest(streams.low, streams.until, streams.added(values), heap, best)
        return best

    def distinct(self, ranges: Ranges, codes: Ints, size: int) -> Ints:
        """See `Coverage`."""
        made, streams = np.empty(self._size, dtype=np.int64), self._sorted(ranges)
        held = np.zeros(size, dtype=np.int64)
        kernels.distinct(streams.low, streams.added(codes), streams.high, streams.removed(codes), held, made)
        return made

    def nth(self, ranges: Ranges, codes: Ints, targets: Ints) -> Ints:
        """See `Coverage`."""
        found, streams = np.full(self._size, -1, dtype=np.int64), self._sorted(ranges)
        tree = np.zeros((1 << int(codes.max(initial=0) + 1).bit_length()) + 1, dtype=np.int64)
        kernels.nth(streams.low, streams.added(codes), streams.high, streams.removed(codes), tree, targets, found)
        return found

    def frequent(self, ranges: Ranges, codes: Ints, rank: int) -> Ints:
        """See `Coverage`."""
        found, streams = np.full(self._size, -1, dtype=np.int64), self._sorted(ranges)
        work = np.zeros((3, int(codes.max(initial=0)) + 1), dtype=np.int64)
        kernels.frequent(streams.low, streams.added(codes), streams.high, streams.removed(codes), work, rank, found)
        return found

    def _sorted(self, ranges: Ranges) -> _Streams:
        """The streams of these ranges; those of the last ones are kept, because several aggregates share them."""
        if self._streams is None or self._streams[0] is not ranges:
            self._streams = (ranges, _streams_of(ranges))
        return self._streams[1]


def _streams_of(ranges: Ranges) -> _Streams:
    low, high = ranges.low, ranges.high
    if kernels.ascending(low) and kernels.ascending(high):
        return _Streams(low, high, high, None, None)
    held = np.flatnonzero(low < high)
    coming = held[np.argsort(low[held], kind="stable")]
    going = held[np.argsort(high[held], kind="stable")]
    return _Streams(low[coming], high[coming], high[going], coming, going)


def counting_order(codes: Codes) -> Ints:
    """Indices by code (from 0), stable."""
    starts = np.zeros(int(codes.max(initial=0)) + 1, dtype=np.int64)
    starts[1:] = np.cumsum(np.bincount(codes))[:-1]
    out = np.empty(len(codes), dtype=np.int64)
    kernels.place(codes, starts, out)
    return out
