"""Coverage in NumPy: O((n + q) log n), for what is small enough that compiling would cost more. Called by `coverage`.

Sums are differences accumulated over the queries; a maximum is a sparse table filled in reverse: each range is two
overlapping blocks of a power of two, and blocks are pushed down to their halves.
"""

from __future__ import annotations

import sys
from bisect import bisect_left, insort
from collections import Counter
from heapq import nsmallest

import numpy as np
import numpy.typing as npt

from engine.features.coverage import LEAST, Coverage, Queries, Ranges
from engine.features.exact import Integers, spread_of
from engine.features.frames import Codes, Ints

_INT64 = 2**63
_COMPILED = "engine.features.coverage_compiled"
_FEW = 256
_LOADED = 2_000
_NTH = 400_000
_FREQUENT = 40_000
"""Events plus queries up to which an interpreted loop is quicker than importing and loading the compiled one, which takes a
second and a half of CPU (2.5 s the first time, when it is compiled): 5 us an item for ranks, 30 us and more for frequencies."""


class ArrayCoverage:
    """`Coverage` by NumPy."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries
        self._size = queries.count
        self._moments, ranks = np.unique(queries.times, return_inverse=True)
        self._composite = queries.codes.astype(np.int64) * (len(self._moments) + 1) + ranks

    def find(self, codes: Codes, moments: Ints) -> Ints:
        """See `Coverage`."""
        composite = codes.astype(np.int64) * (len(self._moments) + 1) + np.searchsorted(self._moments, moments, "left")
        return np.searchsorted(self._composite, composite, "left")

    def count(self, ranges: Ranges) -> Ints:
        """See `Coverage`."""
        size = self._size
        steps = np.bincount(ranges.low, minlength=size + 1) - np.bincount(ranges.high, minlength=size + 1)
        return np.cumsum(steps[:size])

    def total(self, ranges: Ranges, values: Ints, most: int) -> Integers:
        """See `Coverage`."""
        return self._sum(ranges, values, most)

    def _sum(self, ranges: Ranges, values: Integers, most: int) -> Integers:
        """64-bit arithmetic wraps, so it is exact whenever the result fits; else Python's integers are used."""
        exact = values if largest_size(values) * max(most, 1) < _INT64 else values.astype(object)
        steps = np.zeros(self._size + 1, dtype=exact.dtype)
        np.add.at(steps, ranges.low, exact)
        np.subtract.at(steps, ranges.high, exact)
        return np.cumsum(steps[: self._size])

    def spread(self, ranges: Ranges, values: Ints, most: int) -> npt.NDArray[np.float64]:
        """See `Coverage`."""
        wide = values if largest_size(values) ** 2 < _INT64 else values.astype(object)
        return spread_of(self.count(ranges), self._sum(ranges, values, most), self._sum(ranges, wide * wide, most))

    def largest(self, ranges: Ranges, values: Ints, most: int) -> Ints:
        """See `Coverage`."""
        length = ranges.high - ranges.low
        table = np.full(self._size, LEAST, dtype=np.int64)
        if not most:
            return table
        level = (np.frexp(length.astype(np.float64))[1] - 1).astype(np.int8)  # floor(log2), and -1 for an empty range
        order = np.argsort(level, kind="stable")
        bounds = np.searchsorted(level[order], np.arange(level.max() + 2))
        for exponent in range(int(level.max()), -1, -1):
            chosen = order[bounds[exponent] : bounds[exponent + 1]]
            np.maximum.at(table, ranges.low[chosen], values[chosen])
            np.maximum.at(table, ranges.high[chosen] - (1 << exponent), values[chosen])
            if exponent:
                half = 1 << (exponent - 1)
                pushed = table.copy()
                np.maximum(pushed[half:], table[:-half], out=pushed[half:])
                table = pushed
        return table

    def distinct(self, ranges: Ranges, codes: Ints, size: int) -> Ints:  # noqa: ARG002 - the other half needs it
        """See `Coverage`. Ranges of one code are cut so that they do not overlap: each starts where all before it end."""
        width = self._size + 1
        order = np.argsort(codes * width + ranges.low, kind="stable")
        base, low, high = codes[order] * width, ranges.low[order], ranges.high[order]
        ended = np.maximum.accumulate(base + high) if len(order) else base
        start = low.copy()
        start[1:] = np.maximum(low[1:], ended[:-1] - base[1:])
        kept = start < high
        return self.count(Ranges(start[kept], high[kept]))

    def nth(self, ranges: Ranges, codes: Ints, targets: Ints) -> Ints:
        """See `Coverage`."""
        if self._is_long(ranges, _NTH):
            return self._compiled().nth(ranges, codes, targets)
        found = np.full(self._size, -1, dtype=np.int64)
        held: list[int] = []
        for at, coming, going in self._steps(ranges, codes):
            for code in coming:
                insort(held, code)
            for code in going:
                del held[bisect_left(held, code)]
            if targets[at] >= 1:
                found[at] = held[targets[at] - 1]
        return found

    def frequent(self, ranges: Ranges, codes: Ints, rank: int) -> Ints:
        """See `Coverage`."""
        if self._is_long(ranges, _FREQUENT):
            return self._compiled().frequent(ranges, codes, rank)
        found = np.full(self._size, -1, dtype=np.int64)
        held: Counter[int] = Counter()
        for at, coming, going in self._steps(ranges, codes):
            held.update(coming)
            held.subtract(going)
            held = +held
            if len(held) >= rank:
                found[at] = nsmallest(rank, ((-times, code) for code, times in held.items()))[-1][1]
        return found

    def _is_long(self, ranges: Ranges, most: int) -> bool:
        """Say whether the loop would take longer than compiled code, which costs nothing once this process has it.

        A request is a few queries over however many events, and waits for no compiler.
        """
        limit = _LOADED if _COMPILED in sys.modules else most
        return self._size > _FEW and self._size + len(ranges.low) > limit

    def _compiled(self) -> Coverage:
        from engine.features.coverage_compiled import CompiledCoverage  # noqa: PLC0415 - imports numba

        return CompiledCoverage(self._queries)

    def _steps(self, ranges: Ranges, codes: Ints) -> list[tuple[int, list[int], list[int]]]:
        """Per position, the codes that come and those that go."""
        steps: list[tuple[int, list[int], list[int]]] = [(at, [], []) for at in range(self._size + 1)]
        kept = ranges.low < ranges.high
        for low, high, code in zip(
            ranges.low[kept].tolist(), ranges.high[kept].tolist(), codes[kept].tolist(), strict=True
        ):
            steps[low][1].append(code)
            steps[high][2].append(code)
        return steps[:-1]


def largest_size(values: Integers) -> int:
    """The largest absolute value."""
    return max(abs(int(values.min())), abs(int(values.max()))) if len(values) else 0
