"""Coverage by compiled sweeps: linear time, on as many threads as Polars may use. Called by `coverage` for large inputs.

Ranges in order (nothing late, nothing replaced) are one stream for additions and removals alike; other ranges are sorted
once for each. Queries are shared out between threads at the borders of keys, so every share begins with nothing held.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

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

    def cursor(self, position: int) -> tuple[int, int]:
        """Where a sweep from that position begins, at which no event of an earlier key is left."""
        coming = int(np.searchsorted(self.low, position, "left"))
        if self.coming is None:
            return coming, coming
        return coming, int(np.searchsorted(self.high, position, "right"))


class CompiledCoverage:
    """`Coverage` by compiled sweeps."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries
        self._size = queries.count
        codes = queries.codes
        self._starts = np.zeros(int(codes[-1]) + 2 if len(codes) else 1, dtype=np.int64)
        self._starts[1:] = np.cumsum(np.bincount(codes, minlength=len(self._starts) - 1))
        self._spans = _share(self._starts, self._size)
        self._streams: tuple[Ranges, _Streams] | None = None

    def find(self, codes: Codes, moments: Ints) -> Ints:
        """See `Coverage`."""
        out = np.empty(len(codes), dtype=np.int64)
        cuts = np.linspace(0, len(codes), pl.thread_pool_size() + 1).astype(np.int64)

        def one(first: int, last: int) -> None:
            kernels.find(self._starts, self._queries.times, codes[first:last], moments[first:last], out[first:last])

        _on_threads(one, list(zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True)))
        return out

    def count(self, ranges: Ranges) -> Ints:
        """See `Coverage`."""
        made, streams = np.empty(self._size, dtype=np.int64), self._sorted(ranges)
        self._sweep(lambda span: kernels.count(streams.low, streams.high, streams.cursor(span[0]), span, made))
        return made

    def total(self, ranges: Ranges, values: Ints, most: int) -> Integers:
        """See `Coverage`."""
        if largest_size(values) * max(most, 1) >= _INT64:
            return ArrayCoverage(self._queries).total(ranges, values, most)
        made = np.empty(self._size, dtype=np.int64)
        self._flow(kernels.total, ranges, values, lambda: (made,))
        return made

    def spread(self, ranges: Ranges, values: Ints, most: int) -> npt.NDArray[np.float64]:
        """See `Coverage`. Where sums fit into 64 bits, sums of squares times their number fit into 128."""
        if largest_size(values) * max(most, 1) >= _INT64:
            return ArrayCoverage(self._queries).spread(ranges, values, most)
        made = np.empty(self._size, dtype=np.float64)
        self._flow(kernels.spread, ranges, values, lambda: (made,))
        return made

    def largest(self, ranges: Ranges, values: Ints, most: int) -> Ints:
        """See `Coverage`."""
        best, streams = np.full(self._size, LEAST, dtype=np.int64), self._sorted(ranges)
        room = 1 << (most + 1).bit_length()

        def one(span: tuple[int, int]) -> None:
            cursor = streams.cursor(span[0])
            if streams.coming is None:
                queue = np.empty(room, dtype=np.int64)
                kernels.largest_in_order(streams.low, streams.high, values, cursor, span, queue, best)
            else:
                heap = np.empty(len(streams.low), dtype=np.int64)
                kernels.largest(streams.low, streams.until, streams.added(values), cursor, span, heap, best)

        self._sweep(one)
        return best

    def distinct(self, ranges: Ranges, codes: Ints, size: int) -> Ints:
        """See `Coverage`."""
        made = np.empty(self._size, dtype=np.int64)
        self._flow(kernels.distinct, ranges, codes, lambda: (np.zeros(size, dtype=np.int32), made))
        return made

    def nth(self, ranges: Ranges, codes: Ints, targets: Ints) -> Ints:
        """See `Coverage`."""
        found = np.full(self._size, -1, dtype=np.int64)
        width = 1 << int(codes.max(initial=0) + 1).bit_length()
        self._flow(kernels.nth, ranges, codes, lambda: (np.zeros(width + 1, dtype=np.int32), targets, found))
        return found

    def frequent(self, ranges: Ranges, codes: Ints, rank: int) -> Ints:
        """See `Coverage`."""
        found = np.full(self._size, -1, dtype=np.int64)
        size = int(codes.max(initial=0)) + 1
        self._flow(kernels.frequent, ranges, codes, lambda: (np.zeros((3, size), dtype=np.int64), rank, found))
        return found

    def _flow(
        self, kernel: Callable[..., None], ranges: Ranges, values: Ints, rest: Callable[[], tuple[Any, ...]]
    ) -> None:
        streams = self._sorted(ranges)
        added, removed = streams.added(values), streams.removed(values)
        self._sweep(
            lambda span: kernel(
                streams.low, added, streams.high, removed, streams.cursor(span[0]), span, *rest()
            )
        )

    def _sweep(self, one: Callable[[tuple[int, int]], None]) -> None:
        _on_threads(lambda first, last: one((first, last)), self._spans)

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


def _share(starts: Ints, size: int) -> list[tuple[int, int]]:
    """Cut the positions at borders of keys, about evenly between the threads."""
    wanted = np.linspace(0, size, pl.thread_pool_size() + 1)
    cuts = np.unique(starts[np.searchsorted(starts, wanted[:-1], "left")]).tolist() if size else []
    return list(zip(cuts, [*cuts[1:], size], strict=True))


def counting_order(codes: Codes) -> Ints:
    """Indices by code (from 0), stable."""
    starts = np.zeros(int(codes.max(initial=0)) + 1, dtype=np.int64)
    starts[1:] = np.cumsum(np.bincount(codes))[:-1]
    out = np.empty(len(codes), dtype=np.int64)
    kernels.place(codes, starts, out)
    return out


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(pl.thread_pool_size(), thread_name_prefix="sweep")


def _on_threads(one: Callable[[int, int], None], shares: list[tuple[int, int]]) -> None:
    """Call `one` for each share. Kernels give up the interpreter's lock."""
    if len(shares) == 1:
        one(*shares[0])
        return
    for done in [_threads().submit(one, *share) for share in shares]:
        done.result()
