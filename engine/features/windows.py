"""Window features: exact aggregates of the visible rows of `[T - window, T)`. Called by `compute`.

All windows of one source and one join share the matching of keys, the sorting and the row expressions; steps that
aggregate the same rows share those; windows of one length share ranges, and aggregates of one operand share sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import numpy as np
import polars as pl

from engine.features.columns import Column
from engine.features.coverage import Coverage, Ranges
from engine.features.exact import Flags, quantile_rank, quantise
from engine.features.finalising import Made, counted, deviated, fills_nulls, given, selected, summed
from engine.features.frames import Ints, plain
from engine.features.joining import Joined, Piece
from engine.features.lowered_functions import DTYPES
from engine.features.lowering import evaluate, lower
from engine.features.operands import Operand, operand_of
from engine.features.steps import Window
from engine.features.syntax import Expression

T = TypeVar("T")
Side = tuple[pl.DataFrame, dict[str, str]]
"""Rows, and the types of their columns."""


def compute_windows(joined: Joined, steps: Sequence[Window], history: Side, spine: Side) -> list[pl.Series]:
    """One series a step, in spine order. The steps share source and join; `include_request` reads the spine's fields."""
    rows = _Rows(steps, history, spine)
    columns = {step.name: Column(spine[0].height, step.type) for step in steps}
    joined.each_piece(lambda piece: _evaluate(_Group(piece, rows), steps, columns))
    made = []
    for step in steps:
        values = columns.pop(step.name).series(step.name, rows.texts(step))
        made.append(values.fill_null(pl.lit(step.empty, dtype=DTYPES[step.type])) if fills_nulls(step) else values)
    return made


def _evaluate(group: _Group, steps: Sequence[Window], columns: dict[str, Column]) -> None:
    for window in dict.fromkeys(step.window for step in steps):  # one at a time: its ranges are the bulk of the memory
        piece = _Slice(group, group.piece.within(window))
        of_window = [step for step in steps if step.window == window]
        for step in sorted(of_window, key=lambda step: (str(step.where), str(step.of))):
            values, valid = _compute_one(piece, step)
            columns[step.name].put(group.piece.queries.row, values, valid)


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
    """Row expressions over the history, followed by those over the rows that are asked about where a step takes them."""

    def __init__(self, steps: Sequence[Window], history: Side, spine: Side) -> None:
        self._sides = (history, spine)
        self.height = history[0].height
        self._values: dict[tuple[Expression, bool], pl.Series] = {}
        self._texts: dict[tuple[Expression, bool], pl.Series] = {}
        wanted = {(step.of, step.of_type, step.include_request) for step in steps}
        wanted |= {(step.where, "bool", step.include_request) for step in steps}
        for tree, type_, request in wanted:
            if tree is not None and type_ is not None:
                self._values[tree, request] = self._evaluate(tree, type_, request=request)
                if type_ == "str":
                    self._number(tree, request=request)

    def _evaluate(self, tree: Expression, type_: str, *, request: bool) -> pl.Series:
        made = [
            plain(evaluate(lower({"0": tree}, types), frame)["0"]).cast(DTYPES[type_])
            for frame, types in self._sides[: 1 + request]
        ]
        return pl.concat(made, rechunk=True) if request else made[0]

    def _number(self, tree: Expression, *, request: bool) -> None:
        """Replace texts by their rank: there are fewer of them than of rows."""
        values = self._values[tree, request]
        texts = values.drop_nulls().unique().sort()
        ranks = pl.Series(range(len(texts)), dtype=pl.Int64)
        self._texts[tree, request] = texts
        self._values[tree, request] = values.replace_strict(texts, ranks, default=None, return_dtype=pl.Int64)

    def take(self, tree: Expression, order: Ints, *, request: bool) -> pl.Series:
        """The values of these rows; texts as integers."""
        return self._values[tree, request].gather(order)

    def texts(self, step: Window) -> pl.Series | None:
        """The distinct texts in order, if the step gives one of them."""
        return self._texts[step.of, step.include_request] if step.type == "str" and step.of is not None else None


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Rows that a step aggregates: by key and in total order, followed by the rows asked about if it takes them.

    `index` are their places there, `None` for all; `low` the first query of each; `requests` how many are asked about.
    """

    index: Ints | None
    low: Ints
    requests: bool

    def take(self, values: Ints) -> Ints:
        """Those of all values."""
        return values if self.index is None else values[self.index]


@dataclass(frozen=True, slots=True)
class _Group:
    """What the windows of one piece share."""

    piece: Piece
    source: _Rows
    kept: _Kept = field(default_factory=_Kept)

    def values(self, step: Window) -> pl.Series:
        """A step's operand, by key."""
        of = cast("Expression", given(step, step.of))  # mypy joins the union's members to their base
        request = step.include_request
        make = lambda: self.source.take(of, self.order(request=request), request=request)  # noqa: E731
        return self.kept.get(("values", of, request), make)

    def operand(self, step: Window) -> Operand:
        """A step's operand as integers that sort as it does, by key."""
        key = ("operand", step.of, step.include_request)
        return self.kept.get(key, lambda: operand_of(self.values(step), given(step, step.of_type)))

    def quanta(self, step: Window) -> tuple[Ints, Flags]:
        """A step's operand as exact integers, by key, and which are valid."""
        key = ("quanta", step.of, step.decimals, step.include_request)
        return self.kept.get(key, lambda: self._make_quanta(step))

    def _make_quanta(self, step: Window) -> tuple[Ints, Flags]:
        quanta, valid = quantise(self.values(step), step.decimals or 0)
        present = self.operand(step).valid
        return quanta, present if np.array_equal(valid, present) else valid

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
        request, low = step.include_request, self.piece.low
        if request:
            low = np.concatenate([low, np.arange(self.piece.queries.count)])
        keep = np.ones(len(low), dtype=np.bool_) if valid is None else valid
        if step.where is not None:
            holds = self.source.take(step.where, self.order(request=request), request=request)
            keep = keep & holds.fill_null(value=False).to_numpy()
        if keep.all():
            return _Chosen(None, low, request)
        index = np.flatnonzero(keep)
        return _Chosen(index, low[index], request)

    def order(self, *, request: bool) -> Ints:
        """Rows by key, then the rows asked about."""
        if not request:
            return self.piece.rows
        return np.concatenate([self.piece.rows, self.source.height + self.piece.queries.row])


@dataclass(frozen=True, slots=True)
class _Slice:
    """One window of a group: `every` has a range, maybe empty, for each history row."""

    group: _Group
    every: Ranges
    kept: _Kept = field(default_factory=_Kept)

    @property
    def coverage(self) -> Coverage:
        """What computes aggregates."""
        return self.group.piece.coverage

    def ranges(self, chosen: _Chosen) -> Ranges:
        """The queries that the chosen rows count for; a row asked about counts for itself."""
        return self.kept.get(("ranges", id(chosen)), lambda: self._make_ranges(chosen))

    def _make_ranges(self, chosen: _Chosen) -> Ranges:
        high = self.every.high
        if chosen.requests:
            high = np.concatenate([high, np.arange(1, self.group.piece.queries.count + 1)])
        return Ranges(chosen.low, chosen.take(high))

    def count(self, chosen: _Chosen) -> Ints:
        """By query, how many of the chosen rows count."""
        return self.kept.get(("count", id(chosen)), lambda: self.coverage.count(self.ranges(chosen)))

    def most(self, chosen: _Chosen) -> int:
        """The most rows that count for one query."""
        return int(self.count(chosen).max(initial=0))


def _compute_one(piece: _Slice, step: Window) -> Made:
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
        return counted(step, counts, counts)
    codes, levels = piece.group.codes(step)
    found = piece.coverage.distinct(piece.ranges(chosen), chosen.take(codes), len(levels))
    return counted(step, counts, found)


def _histogram(piece: _Slice, step: Window) -> Made:
    """How many values lie in the interval."""
    bounds = step.bounds or (None, None)
    key = ("between", step.of, bounds, step.include_request)
    inside = piece.group.kept.get(key, lambda: piece.group.operand(step).between(*bounds))
    counts = piece.count(piece.group.chosen(step, inside))
    every = piece.count(piece.group.chosen(step, piece.group.present(step)))
    return counted(step, every, counts)


def _moments(piece: _Slice, step: Window) -> Made:
    """Sum, mean and deviation from exact integers."""
    quanta, valid = piece.group.quanta(step)
    chosen = piece.group.chosen(step, valid)
    count, most, ranges = piece.count(chosen), piece.most(chosen), piece.ranges(chosen)
    values = chosen.take(quanta)
    if step.agg == "std":
        return deviated(step, count, piece.coverage.spread(ranges, values, most))
    key = ("total", id(chosen), step.of, step.decimals)
    return summed(step, count, piece.kept.get(key, lambda: piece.coverage.total(ranges, values, most)))


def _selection(piece: _Slice, step: Window) -> Made:
    """One row's value: by value (min, max, quantile, top_k) or by the total order (first, last, last_k)."""
    operand = piece.group.operand(step)
    chosen = piece.group.chosen(step, operand.valid)
    count, most, ranges = piece.count(chosen), piece.most(chosen), piece.ranges(chosen)
    coverage, physical = piece.coverage, operand.physical
    match step.agg:
        case "min":
            return selected(step, ~coverage.largest(ranges, ~chosen.take(physical), most), count > 0)
        case "max":
            return selected(step, coverage.largest(ranges, chosen.take(physical), most), count > 0)
        case "quantile":
            codes, levels = piece.group.codes(step)
            found = coverage.nth(ranges, chosen.take(codes), quantile_rank(count, given(step, step.q)))
            return _by_code(step, levels, found)
        case "top_k":
            codes, levels = piece.group.codes(step)
            return _by_code(step, levels, coverage.frequent(ranges, chosen.take(codes), given(step, step.rank)))
        case _:
            return _by_code(step, chosen.take(physical), _placed(coverage, ranges, count, most, step))


def _placed(coverage: Coverage, ranges: Ranges, count: Ints, most: int, step: Window) -> Ints:
    """By query, the place among the chosen rows of the first, the last or the k-th last; negative for none."""
    places = np.arange(len(ranges.low))
    if step.agg == "first":
        best = ~coverage.largest(ranges, ~places, most)
    elif step.agg == "last":
        best = coverage.largest(ranges, places, most)
    else:
        return coverage.nth(ranges, places, np.maximum(count - given(step, step.rank) + 1, 0))
    return np.where(count > 0, best, -1)


def _by_code(step: Window, levels: Ints, codes: Ints) -> Made:
    return selected(step, np.append(levels, 0)[codes], codes >= 0)
