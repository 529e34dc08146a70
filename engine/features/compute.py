"""The one evaluation of a feature program, for training and for serving alike.

Enters: a program, a spine (the rows to score) and the history of each source. Leaves: one row a spine row, in its
order, one column a feature. The value of a row depends on that row and on what was visible at its time, on nothing
else: not on the other rows, on the order or the chunks of either frame, or on what happened later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from engine.errors import DataError
from engine.features.frames import Ints, conform, microseconds_of
from engine.features.joining import Joined, join_rows
from engine.features.lookups import compute_lookups
from engine.features.lowered_functions import DTYPES
from engine.features.lowering import Lowered, evaluate, lower
from engine.features.matching import match_keys
from engine.features.spine import spine_of
from engine.features.steps import EVENT_TIME, AnyStep, Encoded, FeatureProgram, Formula, Lookup, Window
from engine.features.syntax import Column, walk
from engine.features.timeline import Timeline, build_timeline
from engine.features.timestamps import Moment, moment_of
from engine.features.windows import compute_windows

__all__ = ["Joining", "Level", "compute", "evaluate_formulas", "evaluate_join", "levels_of", "spine_of"]

On = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Joining:
    """The steps of one level that read one source by one key."""

    source: str
    on: On
    lookups: tuple[Lookup, ...]
    windows: tuple[Window, ...]

    @property
    def steps(self) -> tuple[Lookup | Window, ...]:
        """All steps, in the order of `evaluate_join`'s columns."""
        return (*self.lookups, *self.windows)

    @property
    def request_columns(self) -> tuple[str, ...]:
        """The request fields that steps with `include_request` read."""
        trees = [
            tree for step in self.windows if step.include_request for tree in (step.of, step.where) if tree is not None
        ]
        return tuple(sorted({node.name for tree in trees for node, _ in walk(tree) if isinstance(node, Column)}))


@dataclass(frozen=True, slots=True)
class Level:
    """Steps that need only earlier levels: formulas lowered together, windows and lookups by source and join."""

    formulas: tuple[Formula, ...]
    lowered: Lowered
    joins: tuple[Joining, ...]


_PLANS: dict[str, tuple[Level, ...]] = {}


def compute(
    program: FeatureProgram,
    spine: pl.DataFrame,
    history: Mapping[str, pl.DataFrame],
    as_of: Moment | None = None,
) -> pl.DataFrame:
    """Every computed feature of every spine row, in order of declaration; encoded ones are added by `encode`.

    `spine` has `event_time` (Datetime in microseconds, UTC, never null) and the request fields; other columns are
    ignored. `history` has each source of `program.feature_sources` as ingested, in any order; rows that became
    available after `as_of` are invisible. Raises `DataError` for a missing source or column, or another type.
    """
    frame = conform(spine, {EVENT_TIME: "timestamp", **program.spine.request}, "spine")
    if frame[EVENT_TIME].null_count():
        raise DataError(f"spine: {frame[EVENT_TIME].null_count()} rows have no event_time")
    limit = moment_of(as_of) if as_of is not None else None
    evaluation = _Evaluation(program, history, microseconds_of(frame[EVENT_TIME]), limit)
    for level in levels_of(program):
        frame = frame.hstack(evaluation.compute_level(level, frame))
    return frame.select(program.computed_names)


class _Evaluation:
    """One call of `compute`: timelines and joins are made once and shared."""

    def __init__(
        self, program: FeatureProgram, history: Mapping[str, pl.DataFrame], times: Ints, as_of: int | None
    ) -> None:
        self._program = program
        self._history = history
        self._times = times
        self._as_of = as_of
        self._timelines: dict[str, Timeline] = {}
        self._joined: dict[tuple[str, On], Joined] = {}

    def compute_level(self, level: Level, frame: pl.DataFrame) -> list[pl.Series]:
        """The columns of one level."""
        columns = evaluate_formulas(level, frame)
        for joining in level.joins:
            columns += _evaluate(self._program, joining, frame, self._join(joining, frame))
        return columns

    def _join(self, joining: Joining, frame: pl.DataFrame) -> Joined:
        key = (joining.source, joining.on)
        if key not in self._joined:
            self._joined[key] = _join_frame(joining, frame, self._timeline(joining.source), self._times)
        return self._joined[key]

    def _timeline(self, name: str) -> Timeline:
        if name not in self._timelines:
            if name not in self._history:
                known = ", ".join(self._history) or "none"
                raise DataError(f"no history of source `{name}`; given: {known}")
            source = self._program.sources[name]
            self._timelines[name] = build_timeline(source, self._history[name], self._as_of)
        return self._timelines[name]


def evaluate_formulas(level: Level, frame: pl.DataFrame) -> list[pl.Series]:
    """A level's formulas over the frame."""
    if not level.formulas:
        return []
    made, columns = evaluate(level.lowered, frame), []
    for formula in level.formulas:
        values = made[formula.name]
        if formula.default is not None:
            values = values.fill_null(pl.lit(formula.default, dtype=DTYPES[formula.type]))
        columns.append(values)
    return columns


def evaluate_join(program: FeatureProgram, joining: Joining, frame: pl.DataFrame, line: Timeline) -> list[pl.Series]:
    """One join's steps over a frame; `line` has at least the rows of the frame's keys, `frame` the columns they read."""
    times = microseconds_of(frame[EVENT_TIME])
    return _evaluate(program, joining, frame, _join_frame(joining, frame, line, times))


def _join_frame(joining: Joining, frame: pl.DataFrame, line: Timeline, times: Ints) -> Joined:
    asked, held = match_keys(frame, line.frame, joining.on)
    return join_rows(line, times, asked, held)


def _evaluate(program: FeatureProgram, joining: Joining, frame: pl.DataFrame, joined: Joined) -> list[pl.Series]:
    columns = compute_lookups(joined, joining.lookups) if joining.lookups else []
    if joining.windows:
        held = joined.timeline.frame, program.sources[joining.source].columns
        fields = {EVENT_TIME: "timestamp", **program.spine.request}
        columns += compute_windows(joined, joining.windows, held, (frame, fields))
    return columns


def levels_of(program: FeatureProgram) -> tuple[Level, ...]:
    """The program's steps by level; lowered once a program and kept, since serving evaluates one program many times."""
    if program.digest not in _PLANS:
        if len(_PLANS) >= 64:
            _PLANS.clear()
        _PLANS[program.digest] = _plan_levels(program)
    return _PLANS[program.digest]


def _plan_levels(program: FeatureProgram) -> tuple[Level, ...]:
    depth: dict[str, int] = {}
    groups: list[list[AnyStep]] = []
    for step in program.steps:
        if isinstance(step, Encoded):
            continue
        level = max((depth[name] + 1 for name in _reads(step) if name in depth), default=0)
        depth[step.name] = level
        if level == len(groups):
            groups.append([])
        groups[level].append(step)
    types = {EVENT_TIME: "timestamp", **program.spine.request, **program.output_types}
    return tuple(_plan_level(group, types) for group in groups)


def _plan_level(steps: list[AnyStep], types: dict[str, str]) -> Level:
    formulas = tuple(step for step in steps if isinstance(step, Formula))
    keyed: dict[tuple[str, On], list[Lookup | Window]] = {}
    for step in steps:
        if isinstance(step, Window | Lookup):
            keyed.setdefault((step.source, step.on), []).append(step)
    joins = (
        Joining(
            source,
            on,
            tuple(step for step in found if isinstance(step, Lookup)),
            tuple(step for step in found if isinstance(step, Window)),
        )
        for (source, on), found in keyed.items()
    )
    return Level(formulas, lower({step.name: step.expr for step in formulas}, types), tuple(joins))


def _reads(step: AnyStep) -> set[str]:
    match step:
        case Formula():
            return {node.name for node, _ in walk(step.expr) if isinstance(node, Column)}
        case Lookup() | Window():
            return {target for _, target in step.on}
        case Encoded():
            return {step.column}
