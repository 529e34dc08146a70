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

__all__ = ["compute", "spine_of"]

_Join = tuple[str, tuple[tuple[str, str], ...]]


@dataclass(frozen=True, slots=True)
class _Level:
    """Steps that need only earlier levels: formulas lowered together, windows and lookups by source and join."""

    formulas: tuple[Formula, ...]
    lowered: Lowered
    windows: Mapping[_Join, tuple[Window, ...]]
    lookups: Mapping[_Join, tuple[Lookup, ...]]


_PLANS: dict[str, tuple[_Level, ...]] = {}


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
    for level in _levels(program):
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
        self._fields = {EVENT_TIME: "timestamp", **program.spine.request}
        self._timelines: dict[str, Timeline] = {}
        self._joined: dict[_Join, Joined] = {}

    def compute_level(self, level: _Level, frame: pl.DataFrame) -> list[pl.Series]:
        """The columns of one level."""
        columns = []
        made = evaluate(level.lowered, frame) if level.formulas else None
        for formula in level.formulas:
            values = made[formula.name] if made is not None else pl.Series()
            if formula.default is not None:
                values = values.fill_null(pl.lit(formula.default, dtype=DTYPES[formula.type]))
            columns.append(values)
        for join, lookups in level.lookups.items():
            columns += compute_lookups(self._join(join, frame), lookups)
        for join, windows in level.windows.items():
            joined = self._join(join, frame)
            held = joined.timeline.frame, self._program.sources[join[0]].columns
            columns += compute_windows(joined, windows, held, (frame, self._fields))
        return columns

    def _join(self, join: _Join, frame: pl.DataFrame) -> Joined:
        if join not in self._joined:
            timeline = self._timeline(join[0])
            asked, held = match_keys(frame, timeline.frame, join[1])
            self._joined[join] = join_rows(timeline, self._times, asked, held)
        return self._joined[join]

    def _timeline(self, name: str) -> Timeline:
        if name not in self._timelines:
            if name not in self._history:
                known = ", ".join(self._history) or "none"
                raise DataError(f"no history of source `{name}`; given: {known}")
            source = self._program.sources[name]
            self._timelines[name] = build_timeline(source, self._history[name], self._as_of)
        return self._timelines[name]


def _levels(program: FeatureProgram) -> tuple[_Level, ...]:
    """The program's steps by level; lowered once a program and kept, since serving evaluates one program many times."""
    if program.digest not in _PLANS:
        if len(_PLANS) >= 64:
            _PLANS.clear()
        _PLANS[program.digest] = _plan_levels(program)
    return _PLANS[program.digest]


def _plan_levels(program: FeatureProgram) -> tuple[_Level, ...]:
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


def _plan_level(steps: list[AnyStep], types: dict[str, str]) -> _Level:
    formulas = tuple(step for step in steps if isinstance(step, Formula))
    windows: dict[_Join, tuple[Window, ...]] = {}
    lookups: dict[_Join, tuple[Lookup, ...]] = {}
    for step in steps:
        if isinstance(step, Window):
            windows[step.source, step.on] = (*windows.get((step.source, step.on), ()), step)
        elif isinstance(step, Lookup):
            lookups[step.source, step.on] = (*lookups.get((step.source, step.on), ()), step)
    return _Level(formulas, lower({step.name: step.expr for step in formulas}, types), windows, lookups)


def _reads(step: AnyStep) -> set[str]:
    match step:
        case Formula():
            return {node.name for node, _ in walk(step.expr) if isinstance(node, Column)}
        case Lookup() | Window():
            return {target for _, target in step.on}
        case Encoded():
            return {step.column}
