"""Window features: exact aggregates of the visible rows of `[T - window, T)`. Called by `compute`.

All windows of one source and one join share the matching of keys, the sorting and the row expressions; windows of one
length share ranges; aggregates of one operand share sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from engine.errors import IntegrityError
from engine.features.exact import (
    Flags,
    Integers,
    finalise_mean,
    finalise_std,
    finalise_sum,
    quantise,
    spread_of,
)
from engine.features.frames import Ints, gather, plain
from engine.features.intervals import (
    Queries,
    Ranges,
    best_covering,
    count_covering,
    cover,
    distinct_covering,
    first_positions,
    squares_of,
    sum_covering,
)
from engine.features.lowered_functions import DTYPES
from engine.features.lowering import evaluate, lower
from engine.features.steps import Window
from engine.features.syntax import Expression
from engine.features.timeline import LONGEST, Timeline

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Joined:
    """A timeline's rows that have a key of the spine, sorted by key: `rows` are their indices, `codes` their keys.

    `low` is the first query that each counts for, whatever the window.
    """

    timeline: Timeline
    queries: Queries
    rows: Ints
    codes: Ints
    low: Ints


def join_events(timeline: Timeline, queries: Queries, codes: Ints) -> Joined:
    """Keep the rows whose key the spine has; sorted by key, their searches stay close together."""
    held = np.flatnonzero(codes >= 0)
    kept = codes[held]
    narrow = kept.astype(np.uint16) if len(kept) and kept.max() < 1 << 16 else kept  # 16 bits take a radix sort
    order = np.argsort(narrow, kind="stable")
    rows, codes = held[order], kept[order]
    return Joined(timeline, queries, rows, codes, first_positions(queries, codes, timeline.enter[rows]))


def compute_windows(joined: Joined, steps: Sequence[Window], columns: dict[str, str]) -> list[pl.Series]:
    """One series a step, in spine order. The steps share source and join; `columns` are the source's types."""
    group = _Group(joined, _evaluate_rows(joined.timeline.frame, steps, columns))
    made: dict[str, pl.Series] = {}
    for window in dict.fromkeys(step.window for step in steps):  # one at a time: its ranges are the bulk of the memory
        piece = _Slice(group, _ranges(joined, window))
        made.update((step.name, _compute_one(piece, step)) for step in steps if step.window == window)
    return [made[step.name].alias(step.name) for step in steps]


def _evaluate_rows(
    frame: pl.DataFrame, steps: Sequence[Window], columns: dict[str, str]
) -> dict[Expression, pl.Series]:
    trees = dict.fromkeys(tree for step in steps for tree in (step.of, step.where) if tree is not None)
    names = {str(index): tree for index, tree in enumerate(trees)}
    made = evaluate(lower(names, columns), frame)
    return {tree: plain(made[name]) for name, tree in names.items()}


def _ranges(joined: Joined, window: int) -> Ranges:
    """For which queries each joined row lies in the window: until it is too old, or superseded."""
    line, rows = joined.timeline, joined.rows
    leave = np.minimum(line.time[rows] + min(window, LONGEST), line.until[rows])
    return cover(joined.queries, joined.codes, joined.low, leave)


class _Kept:
    """Values by key, each made when first asked for."""

    def __init__(self) -> None:
        self._made: dict[Any, Any] = {}

    def get(self, key: Any, make: Callable[[], T]) -> T:
        """The value under `key`, made if it is new."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class _Group:
    """What the windows of one join share: their rows, and row expressions by tree."""

    joined: Joined
    values: dict[Expression, pl.Series]
    kept: _Kept = field(default_factory=_Kept)

    def quanta(self, of: Expression, decimals: int) -> tuple[Ints, Flags]:
        """An operand as exact integers, by timeline row, and which are valid."""
        return self.kept.get(("quanta", of, decimals), lambda: quantise(self.values[of], decimals))

    def codes(self, of: Expression) -> Ints:
        """An operand's values numbered in their order, by timeline row."""
        return self.kept.get(("codes", of), lambda: _dense(self.values[of]))

    def present(self, of: Expression) -> Flags:
        """Where an operand is not null, by timeline row."""
        return self.kept.get(("present", of), lambda: self.values[of].is_not_null().to_numpy())


@dataclass(frozen=True, slots=True)
class _Held:
    """The rows that a step aggregates (timeline indices) and the queries that each counts for; no range is empty."""

    rows: Ints
    ranges: Ranges


@dataclass(frozen=True, slots=True)
class _Slice:
    """One window of a group: `every` has a range, maybe empty, for each joined row."""

    group: _Group
    every: Ranges
    kept: _Kept = field(default_factory=_Kept)

    @property
    def queries(self) -> Queries:
        """The spine rows."""
        return self.group.joined.queries

    def held(self, where: Expression | None, valid: Flags | None) -> _Held:
        """The rows that satisfy `where` and are valid."""
        every, rows = self.every, self.group.joined.rows
        keep = every.low < every.high
        if where is not None:
            keep &= self.group.values[where].fill_null(value=False).to_numpy()[rows]
        if valid is not None:
            keep &= valid[rows]
        return _Held(rows[keep], Ranges(every.low[keep], every.high[keep]))

    def present(self, step: Window) -> _Held:
        """The rows where the step's operand is not null; all rows when it has none."""
        of = step.of
        valid = self.group.present(of) if of is not None else None
        return self.kept.get(("present", step.where, of), lambda: self.held(step.where, valid))


def _compute_one(piece: _Slice, step: Window) -> pl.Series:
    match step.agg:
        case "count":
            counts = count_covering(piece.present(step).ranges, piece.queries.count)
            return _counted(piece, step, counts, counts)
        case "sum" | "mean" | "std":
            return _moments(piece, step)
        case "n_distinct":
            held = piece.present(step)
            codes = piece.group.codes(_operand(step))[held.rows]
            counts = distinct_covering(held.ranges, codes, piece.queries.count)
            return _counted(piece, step, counts, counts)
        case _:
            return _selection(piece, step)


@dataclass(frozen=True, slots=True)
class _Sums:
    """Of one operand in one window: the rows' integers, and by query how many there are and their exact sum."""

    held: _Held
    quanta: Ints
    count: Ints
    total: Integers


def _sums(piece: _Slice, step: Window, decimals: int) -> _Sums:
    quanta, valid = piece.group.quanta(_operand(step), decimals)
    held = piece.held(step.where, valid)
    chosen = quanta[held.rows]
    count = count_covering(held.ranges, piece.queries.count)
    return _Sums(held, chosen, count, sum_covering(held.ranges, chosen, piece.queries.count, count.max(initial=0)))


def _moments(piece: _Slice, step: Window) -> pl.Series:
    """Sum, mean or standard deviation from exact integers."""
    decimals = step.decimals or 0
    sums = piece.kept.get(("sums", step.where, step.of, decimals), lambda: _sums(piece, step, decimals))
    count, total = sums.count, sums.total
    if step.agg == "sum":
        return _counted(piece, step, count, finalise_sum(total, decimals) if step.type == "f64" else total)
    if step.agg == "mean":
        return _measured(piece, step, finalise_mean(count, total, decimals))
    most = count.max(initial=0)
    squares = sum_covering(sums.held.ranges, squares_of(sums.quanta), piece.queries.count, most)
    return _measured(piece, step, finalise_std(count, spread_of(count, total, squares), decimals))


def _selection(piece: _Slice, step: Window) -> pl.Series:
    """Min and max by value, first and last by the total order; each picks one row's value."""
    of = _operand(step)
    values, held = piece.group.values[of], piece.present(step)
    top = len(values)
    by_value = step.agg in {"min", "max"}
    ranks = piece.group.codes(of) if by_value else np.arange(top)
    falling = step.agg in {"min", "first"}
    chosen = ranks[held.rows]
    best = best_covering(held.ranges, top - chosen if falling else chosen, piece.queries.count)
    best = np.where((best >= 0) & falling, top - best, best)
    if by_value:
        holder = np.zeros(top + 1, dtype=np.int64)
        holder[ranks] = np.arange(top)
        best = np.where(best >= 0, holder[best], -1)
    picked = gather(values, piece.queries.scatter(best, -1))
    return picked if step.empty is None else picked.fill_null(pl.lit(step.empty, dtype=DTYPES[step.type]))


def _operand(step: Window) -> Expression:
    """What a step aggregates; the compiler refuses these aggregates without an operand."""
    if step.of is None:
        raise IntegrityError(f"feature `{step.name}`: `{step.agg}` without `of`", hint="the program was edited by hand")
    return step.of


def _dense(values: pl.Series) -> Ints:
    """Codes from 0 in the order of the values; nulls share a code above all others, which is never asked for."""
    return values.rank("dense").cast(pl.Int64).fill_null(len(values) + 1).to_numpy() - 1


def _counted(piece: _Slice, step: Window, count: Ints, values: Integers) -> pl.Series:
    """A count or a sum: 0 where there is no value, or `empty`; null where an integer leaves 64 bits."""
    queries = piece.queries
    spread = queries.scatter(values, 0)
    if spread.dtype == object:
        made = pl.Series([value if -(2**63) <= value < 2**63 else None for value in spread], dtype=pl.Int64)
    else:
        made = pl.Series(spread)
    if step.empty is None:
        return made
    none = pl.Series(queries.scatter(count, 0) == 0)
    return made.set(none, step.empty)


def _measured(piece: _Slice, step: Window, values: npt.NDArray[np.float64]) -> pl.Series:
    """A mean or a deviation: null where it is not defined, or `empty`."""
    made = pl.Series(piece.queries.scatter(values, np.nan), nan_to_null=True)
    return made if step.empty is None else made.fill_null(pl.lit(step.empty, dtype=DTYPES[step.type]))
