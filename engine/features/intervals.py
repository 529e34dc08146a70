"""Events as ranges of sorted queries, and exact aggregates over them. NumPy only; O((n + q) log n).

Queries (spine rows) are sorted by key and time, so an event that counts for times `[enter, exit]` of one key covers one
contiguous range `[low, high)` of them. Sums are differences accumulated over the queries; a maximum is a sparse table
filled in reverse: each range is two overlapping blocks of a power of two, and blocks are pushed down to their halves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from engine.features.exact import Integers
from engine.features.frames import Ints

_INT64 = 2**63


@dataclass(frozen=True, slots=True)
class Ranges:
    """Per event, the queries it counts for: positions `[low, high)` in query order; empty ranges are possible."""

    low: Ints
    high: Ints


@dataclass(frozen=True, slots=True)
class Queries:
    """Spine rows with a key, sorted by key and time. `row` gives each position's spine row."""

    row: Ints
    moments: Ints
    composite: Ints
    total: int

    @property
    def count(self) -> int:
        """How many spine rows have a key."""
        return len(self.row)

    def scatter(self, values: npt.NDArray[Any], fill: Any) -> npt.NDArray[Any]:
        """Values by position as values by spine row; rows without a key get `fill`."""
        out = np.full(self.total, fill, dtype=values.dtype)
        out[self.row] = values
        return out


def sort_queries(codes: Ints, times: Ints) -> Queries:
    """Sort queries by key code and time; a negative code is a null key, which matches nothing."""
    keyed = np.flatnonzero(codes >= 0)
    moments, ranks = np.unique(times[keyed], return_inverse=True)
    composite = codes[keyed] * (len(moments) + 1) + ranks
    order = np.argsort(composite, kind="stable")
    return Queries(keyed[order], moments, composite[order], len(codes))


def first_positions(queries: Queries, codes: Ints, enter: Ints) -> Ints:
    """Per event, the first position whose key is the event's and whose time is `enter` or later."""
    composite = codes * (len(queries.moments) + 1) + np.searchsorted(queries.moments, enter, "left")
    return np.searchsorted(queries.composite, composite, "left")


def cover(queries: Queries, codes: Ints, low: Ints, leave: Ints) -> Ranges:
    """The ranges of events with these key codes that count from `first_positions` to the time `leave`, inclusive."""
    composite = codes * (len(queries.moments) + 1) + np.searchsorted(queries.moments, leave, "right")
    return Ranges(low, np.maximum(np.searchsorted(queries.composite, composite, "left"), low))


def match_keys(spine: pl.DataFrame, history: pl.DataFrame, on: tuple[tuple[str, str], ...]) -> tuple[Ints, Ints]:
    """Number the spine's keys; give the spine's codes and the history's, -1 for a null or an unmatched key."""
    if not on:
        return np.zeros(spine.height, dtype=np.int64), np.zeros(history.height, dtype=np.int64)
    if spine.height == 1:
        return _match_one_key(spine, history, on)
    names = [f"{index}" for index in range(len(on))]
    asked = spine.select(pl.col(target).alias(name) for name, (_, target) in zip(names, on, strict=True))
    held = history.select(pl.col(column).alias(name) for name, (column, _) in zip(names, on, strict=True))
    distinct = asked.drop_nulls().unique().with_row_index("code")
    if distinct.height == asked.height and asked.equals(held):  # each row joins itself, as labels of the spine's source
        codes = np.arange(asked.height)
        return codes, codes
    return _codes(asked, distinct, names), _codes(held, distinct, names)


def _match_one_key(spine: pl.DataFrame, history: pl.DataFrame, on: tuple[tuple[str, str], ...]) -> tuple[Ints, Ints]:
    """The same for one spine row, as a request is: comparing is much faster than joining."""
    same = np.ones(history.height, dtype=np.bool_)
    for column, target in on:
        if spine[target].null_count():
            return np.full(1, -1), np.full(history.height, -1)
        same &= (history[column] == spine[target]).fill_null(value=False).to_numpy()
    return np.zeros(1, dtype=np.int64), np.where(same, 0, -1)


def _codes(keys: pl.DataFrame, distinct: pl.DataFrame, names: list[str]) -> Ints:
    joined = keys.join(distinct, on=names, how="left", maintain_order="left")
    return joined["code"].cast(pl.Int64).fill_null(-1).to_numpy()


def count_covering(ranges: Ranges, size: int) -> Ints:
    """Per query, how many of the ranges contain it."""
    steps = np.bincount(ranges.low, minlength=size + 1) - np.bincount(ranges.high, minlength=size + 1)
    return np.cumsum(steps[:size])


def sum_covering(ranges: Ranges, values: Integers, size: int, most: int) -> Integers:
    """Per query, the exact sum over the ranges that contain it; `most` is the largest number of them.

    64-bit arithmetic wraps, so it is exact whenever the result fits; where it might not, Python's integers are used.
    """
    bound = max(abs(int(values.min())), abs(int(values.max()))) if len(values) else 0
    exact = values if bound * max(int(most), 1) < _INT64 else values.astype(object)
    steps = np.zeros(size + 1, dtype=exact.dtype)
    np.add.at(steps, ranges.low, exact)
    np.subtract.at(steps, ranges.high, exact)
    return np.cumsum(steps[:size])


def squares_of(values: Integers) -> Integers:
    """The squares, in 64 bits where they fit."""
    bound = max(abs(int(values.min())), abs(int(values.max()))) if len(values) else 0
    wide = values if bound**2 < _INT64 else values.astype(object)
    return wide * wide


def distinct_covering(ranges: Ranges, values: Ints, size: int) -> Ints:
    """Per query, how many different values (codes from 0) the ranges that contain it have.

    Ranges of one value are cut so that they do not overlap: each starts no earlier than all before it have ended.
    """
    width = size + 1
    order = np.argsort(values * width + ranges.low, kind="stable")
    base, low, high = values[order] * width, ranges.low[order], ranges.high[order]
    ended = np.maximum.accumulate(base + high) if len(order) else base
    start = low.copy()
    start[1:] = np.maximum(low[1:], ended[:-1] - base[1:])
    kept = start < high
    return count_covering(Ranges(start[kept], high[kept]), size)


def best_covering(ranges: Ranges, ranks: Ints, size: int) -> Ints:
    """Per query, the highest rank (from 0) among the ranges that contain it, -1 for none."""
    length = ranges.high - ranges.low
    table = np.full(size, -1, dtype=np.int64)
    if not len(length) or length.max() <= 0:
        return table
    level = (np.frexp(length.astype(np.float64))[1] - 1).astype(np.int8)  # floor(log2), and -1 for an empty range
    order = np.argsort(level, kind="stable")
    bounds = np.searchsorted(level[order], np.arange(level.max() + 2))
    for exponent in range(int(level.max()), -1, -1):
        chosen = order[bounds[exponent] : bounds[exponent + 1]]
        np.maximum.at(table, ranges.low[chosen], ranks[chosen])
        np.maximum.at(table, ranges.high[chosen] - (1 << exponent), ranks[chosen])
        if exponent:
            half = 1 << (exponent - 1)
            pushed = table.copy()
            np.maximum(pushed[half:], table[:-half], out=pushed[half:])
            table = pushed
    return table
