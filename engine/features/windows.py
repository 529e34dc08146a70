"""Window features: exact aggregates of the visible rows of `[T - window, T)`. Called by `compute`.

All windows of one source and one join share the matching of keys, the sorting and the row expressions; steps that
aggregate the same rows share those; windows of one length share ranges, and aggregates of one operand share sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from engine.errors import IntegrityError
from engine.features.coverage import Coverage, Queries, Ranges, coverage_of, order_by_code
from engine.features.exact import (
    Flags,
    Integers,
    by_blocks,
    finalise_mean,
    finalise_smoothed,
    finalise_std,
    finalise_sum,
    quantile_rank,
    quantise,
)
from engine.features.frames import Codes, Ints, plain
from engine.features.lowered_functions import DTYPES
from engine.features.lowering import evaluate, lower
from engine.features.operands import Operand, operand_of
from engine.features.steps import Window
from engine.features.syntax import Expression
from engine.features.timeline import LONGEST, Timeline

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Joined:
    """A timeline's rows that have a key of the spine, by key and in total order: `rows` are their indices, `codes` their keys.

    `low` is the first query that each counts for, whatever the window.
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


def join_events(timeline: Timeline, queries: Queries, codes: Codes) -> Joined:
    """Keep the rows whose key the spine has, by key."""
    rows = order_by_code(codes)
    coverage = coverage_of(queries, len(rows))
    kept = codes[rows]
    return Joined(timeline, queries, coverage, rows, kept, coverage.find(kept, timeline.enter(rows)))


def compute_windows(
    joined: Joined, steps: Sequence[Window], columns: dict[str, str], spine: tuple[pl.DataFrame, dict[str, str]]
) -> list[pl.Series]:
    """One series a step, in spine order. The steps share source and join; `columns` are the source's types.

    `spine` are the rows that are asked about and the types of their fields: `include_request` reads them.
    """
    group = _Group(joined, _Rows(joined.timeline.frame, columns, *spine))
    made: dict[str, pl.Series] = {}
    for window in dict.fromkeys(step.window for step in steps):  # one at a time: its ranges are the bulk of the memory
        piece = _Slice(group, joined.within(window))
        of_window = sorted((s for s in steps if s.window == window), key=lambda s: (str(s.where), str(s.of)))
        made.update((step.name, _compute_one(piece, step)) for step in of_window)
    return [made[step.name].alias(step.name) for step in steps]


class _Kept:
    """Values by key, each made when first asked for."""

    def __init__(self) -> None:
        self._made: dict[Any, Any] = {}

    def get(self, key: Any, make: Callable[[], T]) -> T:
        """The value under `key`, made if it is new."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]  # type: ignore[no-any-return]


class _Rows:
    """Row expressions over the history, and over the rows that are asked about."""

    def __init__(
        self, history: pl.DataFrame, columns: dict[str, str], spine: pl.DataFrame, fields: dict[str, str]
    ) -> None:
        self._sides = ((history, columns), (spine, fields))

    def values(self, tree: Expression, type_: str, *, request: bool) -> pl.Series:
        """One value a history row, followed by one a spine row if `request`."""
        made = [
            plain(evaluate(lower({"0": tree}, types), frame)["0"]).cast(DTYPES[type_])
            for frame, types in self._sides[: 1 + request]
        ]
        return pl.concat(made) if request else made[0]


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Rows that a step aggregates: by key and in total order, followed by the rows asked about if it takes them.

    `index` are their places there, `None` for all; `low` the first query of each; `requests` how many are asked about.
    """

    index: Ints | None
    low: Ints
    requests: int

    def take(self, values: Ints) -> Ints:
        """Those of all values."""
        return values if self.index is None else values[self.index]


@dataclass(frozen=True, slots=True)
class _Group:
    """What the windows of one join share."""

    joined: Joined
    source: _Rows
    kept: _Kept = field(default_factory=_Kept)

    def values(self, step: Window) -> pl.Series:
        """A step's operand, by row."""
        of, type_ = _operand(step)
        make = lambda: self.source.values(of, type_, request=step.include_request)  # noqa: E731
        return self.kept.get(("values", of, step.include_request), make)

    def operand(self, step: Window) -> Operand:
        """A step's operand as integers that sort as it does, by key."""
        return self.kept.get(("operand", step.of, step.include_request), lambda: self._make_operand(step))

    def _make_operand(self, step: Window) -> Operand:
        made, order = operand_of(self.values(step), _operand(step)[1]), self._order(step)
        return Operand(made.physical[order], made.valid[order], made.type, made.texts)

    def quanta(self, step: Window) -> tuple[Ints, Flags]:
        """A step's operand as exact integers, by key, and which are valid."""
        key = ("quanta", step.of, step.decimals, step.include_request)
        return self.kept.get(key, lambda: self._make_quanta(step))

    def _make_quanta(self, step: Window) -> tuple[Ints, Flags]:
        quanta, valid = quantise(self.values(step), step.decimals or 0)
        order = self._order(step)
        present = self.operand(step).valid
        flags = valid[order]
        return quanta[order], present if np.array_equal(flags, present) else flags

    def codes(self, step: Window) -> tuple[Ints, Ints]:
        """A step's operand numbered in the order of its values, by key, and the distinct values."""
        return self.kept.get(("codes", step.of, step.include_request), lambda: self.operand(step).dense)

    def present(self, step: Window) -> Flags | None:
        """Where a step's operand is not null; `None` for everywhere."""
        return self.operand(step).valid if step.of is not None else None

    def chosen(self, step: Window, valid: Flags | None) -> _Chosen:
        """The rows that satisfy `where` and are valid."""
        key = ("chosen", step.where, step.include_request, id(valid))  # flags live as long as the group
        return self.kept.get(key, lambda: self._choose(step, valid))

    def _choose(self, step: Window, valid: Flags | None) -> _Chosen:
        requests = self.joined.queries.count if step.include_request else 0
        low = np.concatenate([self.joined.low, np.arange(requests)]) if requests else self.joined.low
        keep = np.ones(len(low), dtype=np.bool_) if valid is None else valid
        if step.where is not None:
            holds = self.source.values(step.where, "bool", request=step.include_request)
            keep = keep & holds.fill_null(value=False).to_numpy()[self._order(step)]
        if keep.all():
            return _Chosen(None, low, requests)
        index = np.flatnonzero(keep)
        return _Chosen(index, low[index], int(keep[len(keep) - requests :].sum()) if requests else 0)

    def _order(self, step: Window) -> Ints:
        """Rows by key, then the rows asked about."""
        joined = self.joined
        if not step.include_request:
            return joined.rows
        return np.concatenate([joined.rows, joined.timeline.frame.height + joined.queries.row])


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

    @property
    def coverage(self) -> Coverage:
        """What computes aggregates."""
        return self.group.joined.coverage

    def ranges(self, chosen: _Chosen) -> Ranges:
        """The queries that the chosen rows count for; a row asked about counts for itself."""
        return self.kept.get(("ranges", id(chosen)), lambda: self._make_ranges(chosen))

    def _make_ranges(self, chosen: _Chosen) -> Ranges:
        high = self.every.high
        if chosen.requests:
            high = np.concatenate([high, np.arange(1, self.queries.count + 1)])
        return Ranges(chosen.low, chosen.take(high))

    def count(self, chosen: _Chosen) -> Ints:
        """By query, how many of the chosen rows count."""
        return self.kept.get(("count", id(chosen)), lambda: self.coverage.count(self.ranges(chosen)))

    def most(self, chosen: _Chosen) -> int:
        """The most rows that count for one query."""
        return int(self.count(chosen).max(initial=0))


def _compute_one(piece: _Slice, step: Window) -> pl.Series:
    match step.agg:
        case "sum" | "mean" | "std" | "smoothed_mean":
            return _moments(piece, step)
        case "min" | "max" | "first" | "last" | "last_k" | "quantile" | "top_k":
            return _selection(piece, step)
        case "histogram":
            return _histogram(piece, step)
    chosen = piece.group.chosen(step, piece.group.present(step))
    counts = piece.count(chosen)
    if step.agg == "count":
        return _counted(piece, step, counts, counts)
    codes, levels = piece.group.codes(step)
    found = piece.coverage.distinct(piece.ranges(chosen), chosen.take(codes), len(levels))
    return _counted(piece, step, counts, found)


def _histogram(piece: _Slice, step: Window) -> pl.Series:
    """How many values lie in the interval."""
    bounds = step.bounds or (None, None)
    key = ("between", step.of, bounds, step.include_request)
    inside = piece.group.kept.get(key, lambda: piece.group.operand(step).between(*bounds))
    counts = piece.count(piece.group.chosen(step, inside))
    every = piece.count(piece.group.chosen(step, piece.group.present(step)))
    return _counted(piece, step, every, counts)


def _moments(piece: _Slice, step: Window) -> pl.Series:
    """Sum, mean and deviation from exact integers."""
    decimals = step.decimals or 0
    quanta, valid = piece.group.quanta(step)
    chosen = piece.group.chosen(step, valid)
    count, most, ranges = piece.count(chosen), piece.most(chosen), piece.ranges(chosen)
    values = chosen.take(quanta)
    if step.agg == "std":
        spread = piece.coverage.spread(ranges, values, most)
        return _measured(piece, step, by_blocks(lambda n, s: finalise_std(n, s, decimals), count, spread), np.nan)
    key = ("total", id(chosen), step.of, decimals)
    total = piece.kept.get(key, lambda: piece.coverage.total(ranges, values, most))
    if step.agg == "sum":
        return _counted(piece, step, count, finalise_sum(total, decimals) if step.type == "f64" else total)
    if step.agg == "mean":
        return _measured(piece, step, by_blocks(lambda n, s: finalise_mean(n, s, decimals), count, total), np.nan)
    if step.prior is None or step.weight is None:
        raise _edited(step, "`smoothed_mean` without `prior` and `weight`")
    prior = (step.prior, step.weight)
    smoothed = by_blocks(lambda n, s: finalise_smoothed(n, s, decimals, prior), count, total)
    return _measured(piece, step, smoothed, step.prior)


def _selection(piece: _Slice, step: Window) -> pl.Series:
    """One row's value: by value (min, max, quantile, top_k) or by the total order (first, last, last_k)."""
    operand = piece.group.operand(step)
    chosen = piece.group.chosen(step, operand.valid)
    count, most, ranges = piece.count(chosen), piece.most(chosen), piece.ranges(chosen)
    coverage, physical = piece.coverage, operand.physical
    match step.agg:
        case "min":
            found, there = ~coverage.largest(ranges, ~chosen.take(physical), most), count > 0
        case "max":
            found, there = coverage.largest(ranges, chosen.take(physical), most), count > 0
        case "quantile":
            codes, levels = piece.group.codes(step)
            found, there = _by_code(levels, coverage.nth(ranges, chosen.take(codes), quantile_rank(count, _q(step))))
        case "top_k":
            codes, levels = piece.group.codes(step)
            found, there = _by_code(levels, coverage.frequent(ranges, chosen.take(codes), _rank(step)))
        case _:
            place = _placed(coverage, ranges, count, most, step)
            found, there = _by_code(chosen.take(physical), place)
    queries = piece.queries
    picked = operand.decode(queries.spread(found, 0), queries.spread(there, fill=False))
    return picked if step.empty is None else picked.fill_null(pl.lit(step.empty, dtype=DTYPES[step.type]))


def _placed(coverage: Coverage, ranges: Ranges, count: Ints, most: int, step: Window) -> Ints:
    """By query, the place among the chosen rows of the first, the last or the k-th last; negative for none."""
    places = np.arange(len(ranges.low))
    if step.agg == "first":
        best = ~coverage.largest(ranges, ~places, most)
    elif step.agg == "last":
        best = coverage.largest(ranges, places, most)
    else:
        return coverage.nth(ranges, places, np.maximum(count - _rank(step) + 1, 0))
    return np.where(count > 0, best, -1)


def _by_code(levels: Ints, codes: Ints) -> tuple[Ints, Flags]:
    """The integers under these codes, and where there is one."""
    there = codes >= 0
    return np.append(levels, 0)[codes], there


def _operand(step: Window) -> tuple[Expression, str]:
    """What a step aggregates; the compiler refuses these aggregates without an operand."""
    if step.of is None or step.of_type is None:
        raise _edited(step, f"`{step.agg}` without `of`")
    return step.of, step.of_type


def _q(step: Window) -> float:
    if step.q is None:
        raise _edited(step, "`quantile` without `q`")
    return step.q


def _rank(step: Window) -> int:
    if step.rank is None:
        raise _edited(step, f"`{step.agg}` without `rank`")
    return step.rank


def _edited(step: Window, what: str) -> IntegrityError:
    return IntegrityError(f"feature `{step.name}`: {what}", hint="the program was edited by hand")


def _counted(piece: _Slice, step: Window, count: Ints, values: Integers) -> pl.Series:
    """A count or a sum: 0 where there is no value, or `empty`; null where an integer leaves 64 bits."""
    queries = piece.queries
    spread = queries.spread(values, 0)
    if spread.dtype == object:
        made = pl.Series([value if -(2**63) <= value < 2**63 else None for value in spread], dtype=pl.Int64)
    else:
        made = pl.Series(spread)
    if step.empty is None:
        return made
    none = pl.Series(queries.spread(count, 0) == 0)
    return made.set(none, step.empty)


def _measured(piece: _Slice, step: Window, values: npt.NDArray[np.float64], absent: float) -> pl.Series:
    """A mean or a deviation: null where it is not defined, or `empty`; `absent` for a row without a key."""
    made = pl.Series(piece.queries.spread(values, absent), nan_to_null=True)
    return made if step.empty is None else made.fill_null(pl.lit(step.empty, dtype=DTYPES[step.type]))
