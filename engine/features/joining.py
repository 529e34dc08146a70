"""Spine rows and history rows brought together by key, in pieces that are evaluated one by one. Called by `compute`.

Both sides are sorted by key, so a piece is a slice of each: some keys, all their rows. No value depends on where the
cuts are, so pieces run on as many threads as Polars has, and what lies between two steps of one stays in the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from engine.features.coverage import COMPILED_FROM, Coverage, Queries, Ranges, coverage_of
from engine.features.frames import Codes, Ints
from engine.features.timeline import LONGEST, Timeline
from engine.threads import in_threads

PIECE = 1 << 19
"""Rows of both sides in a piece, about; a key is never cut."""
_Rows: TypeAlias = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Piece:
    """Some keys: their queries, and their history rows by key and in total order (`rows` are timeline indices).

    `low` is the first query that each history row counts for, whatever the window.
    """

    timeline: Timeline
    queries: Queries
    coverage: Coverage
    rows: Ints
    codes: Codes
    low: Ints

    def within(self, age: int | None) -> Ranges:
        """The ranges of the rows, when each counts up to this age, inclusive, or until it is replaced."""
        last = self.timeline.until[self.rows]
        if age is not None:
            leave = self.timeline.time[self.rows]
            leave += min(age, LONGEST)
            np.minimum(last, leave, out=last)
        last += 1
        high = self.coverage.find(self.codes, last)
        return Ranges(self.low, np.maximum(high, self.low, out=high))


@dataclass(frozen=True, slots=True)
class Joined:
    """The rows of both sides by key: spine rows by time, history rows in total order; and how many each key has."""

    timeline: Timeline
    times: Ints
    asked: _Rows
    asked_counts: Ints
    held: _Rows
    held_counts: Ints

    def each_piece(self, evaluate: Callable[[Piece], None]) -> None:
        """Call `evaluate` for every piece; for several at once when there are several."""
        both = self.asked_counts + self.held_counts
        cuts = np.unique(np.searchsorted(np.cumsum(both), np.arange(PIECE, both.sum(), PIECE), "left") + 1)
        bounds = [0, *cuts[cuts < len(both)].tolist(), len(both)]
        starts = np.append(0, np.cumsum(self.asked_counts)), np.append(0, np.cumsum(self.held_counts))
        compiled = bool(both.sum() >= COMPILED_FROM)

        def one(first: int, last: int) -> None:
            asked, held = (side[[first, last]].tolist() for side in starts)
            if asked[0] < asked[1]:
                evaluate(self._piece((first, last), slice(*asked), slice(*held), compiled=compiled))

        shares = list(pairwise(bounds))
        in_threads(lambda share: one(*share), shares)

    def _piece(self, keys: tuple[int, int], asked: slice, held: slice, *, compiled: bool) -> Piece:
        row, rows = self.asked[asked].astype(np.int64), self.held[held].astype(np.int64)
        numbers = np.arange(keys[1] - keys[0], dtype=np.int32)
        queries = Queries(row, np.repeat(numbers, self.asked_counts[slice(*keys)]), self.times[row])
        codes = np.repeat(numbers, self.held_counts[slice(*keys)])
        coverage = coverage_of(queries, compiled=compiled)
        low = coverage.find(codes, self.timeline.enter(rows))
        return Piece(self.timeline, queries, coverage, rows, codes, low)


def join_rows(timeline: Timeline, times: Ints, asked: Codes, held: Codes) -> Joined:
    """Sort both sides by key code; `times` are the spine's. History rows with a negative code have no key of the spine.

    Spine rows with one have a null key: they are a last key without history, since each may still count for itself.
    """
    size = int(asked.max(initial=-1)) + 2
    asked = np.where(asked < 0, np.int32(size - 1), asked)
    if np.all(times[1:] >= times[:-1]):  # as training has them
        by_key = _by_code(asked, size)
    else:
        order = np.argsort(times, kind="stable")
        by_key = order[_by_code(asked[order], size)].astype(np.int32)
    return Joined(timeline, times, by_key, _count(asked, size), _by_code(held, size), _count(held, size))


def _count(codes: Codes, size: int) -> Ints:
    return np.bincount(codes + 1, minlength=size + 1)[1:]


def _by_code(codes: Codes, size: int) -> _Rows:
    """Indices by code (below `size`), stable; negative codes are left out."""
    held = np.flatnonzero(codes >= 0) if codes.min(initial=0) < 0 else None
    kept = codes if held is None else codes[held]
    if len(kept) >= COMPILED_FROM:
        from engine.features.coverage_compiled import counting_order  # noqa: PLC0415 - imports numba

        order = counting_order(kept)
    elif size <= 1 << 16:
        order = np.argsort(kept.astype(np.uint16), kind="stable")  # 16 bits take a radix sort
    else:
        order = np.argsort(kept, kind="stable")
    return (order if held is None else held[order]).astype(np.int32)
