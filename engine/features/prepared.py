"""A feature program prepared for requests: the same definition as `compute`, evaluated one row at a time without frames.

Enters: a program, once; then rows (plain values) and a reader of events. Leaves: every computed feature of each row, with
the bits that `compute` gives over all rows at once. Called by scorers; training and large batches call `compute`. The tests
hold the two together on random programs and histories, and the parity gate on every run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from engine.errors import DataError
from engine.features.events import EventReader, Events, Join, Key, Scalar, Values, joins_of
from engine.features.matching import On
from engine.features.scalars import scalar
from engine.features.single import Request, View, aggregate, look_up, view_of
from engine.features.steps import EVENT_TIME, AnyStep, Encoded, FeatureProgram, Formula, Lookup, Window
from engine.features.syntax import Expression

Row: TypeAlias = list[Any]
_MISTAKES = {
    "bool": "true or false",
    "i64": "a whole number",
    "f64": "a number",
    "str": "a text",
    "timestamp": "a time",
}


@dataclass(slots=True)
class _Asking:
    """One row being computed: its time, who finds events, and what has been found by join."""

    at: int
    reader: EventReader
    views: list[View | None]


_Conform: TypeAlias = Callable[[Any, str], Any]
_Operation: TypeAlias = Callable[..., Any]
"""A step of one row: of the row alone (a formula), or of the row and `_Asking`."""


class Prepared:
    """A program with every expression compiled and every join known; safe for several threads at once."""

    def __init__(self, program: FeatureProgram) -> None:
        self.program = program
        self.joins: tuple[Join, ...] = joins_of(program)
        steps = [step for step in program.steps if not isinstance(step, Encoded)]
        request = {EVENT_TIME: "timestamp", **program.spine.request}
        self._conform = [(name, _CONFORM[type_]) for name, type_ in request.items()]
        self._types = {**request, **{step.name: step.type for step in steps}}
        self.slots: Mapping[str, int] = {name: place for place, name in enumerate(self._types)}
        self._outputs = [self.slots[name] for name in program.computed_names]
        self._operations = [(self._operation(step), not isinstance(step, Formula)) for step in steps]

    def row(self, request: Mapping[str, Scalar], reader: EventReader) -> Row:
        """One row's values by `slots`: its time, its request fields and every computed feature.

        `request` has `event_time` in microseconds and the request fields; a field that is absent is null. Raises
        `DataError` for a value of another type.
        """
        get = request.get
        row: Row = [conform(get(name), name) for name, conform in self._conform]
        if row[0] is None:
            raise DataError(f"a request has no {EVENT_TIME}")
        asking = _Asking(row[0], reader, [None] * len(self.joins))
        for run, asks in self._operations:
            row.append(run(row, asking) if asks else run(row))
        return row

    def features(self, request: Mapping[str, Scalar], reader: EventReader) -> list[Scalar]:
        """Every computed feature of one row, in the order of `program.computed_names`."""
        row = self.row(request, reader)
        return [row[slot] for slot in self._outputs]

    @cached_property
    def _numbers(self) -> Mapping[tuple[str, On], int]:
        return {(join.source, join.on): number for number, join in enumerate(self.joins)}

    @cached_property
    def _trees(self) -> Sequence[dict[Expression, str]]:
        """The row expressions of each join's windows."""
        found: list[dict[Expression, str]] = [{} for _ in self.joins]
        for step in self.program.steps:
            if isinstance(step, Window):
                trees = found[self._numbers[step.source, step.on]]
                if step.of is not None:
                    trees[step.of] = str(step.of_type)
                if step.where is not None:
                    trees[step.where] = "bool"
        return found

    def _operation(self, step: AnyStep) -> _Operation:
        match step:
            case Formula():
                read, default = scalar(step.expr, self._types, self.slots), typed(step.default, step.type)
                return read if default is None else lambda row: default if (value := read(row)) is None else value
            case Lookup():
                view, default = self._viewing(step), typed(step.default, step.type)
                found = step
                return lambda row, asking: default if (value := look_up(view(row, asking), found)) is None else value
            case Window():
                return self._window(step)
            case Encoded():
                raise DataError(f"feature `{step.name}` is encoded, not computed")

    def _window(self, step: Window) -> _Operation:
        view = self._viewing(step)
        run = aggregate(step, self._trees[self._numbers[step.source, step.on]])
        if not step.include_request:
            return lambda row, asking: run(view(row, asking), None)
        of = scalar(step.of, self._types, self.slots) if step.of is not None else None
        where = scalar(step.where, self._types, self.slots) if step.where is not None else None

        def with_request(row: Row, asking: _Asking) -> Any:
            counts = where is None or where(row) is True
            own = Request(of(row) if of is not None else None) if counts else None
            return run(view(row, asking), own)

        return with_request

    def _viewing(self, step: Lookup | Window) -> Callable[[Row, _Asking], View]:
        number = self._numbers[step.source, step.on]
        join, slots = self.joins[number], [self.slots[target] for _, target in step.on]
        columns = self.program.sources[step.source].columns
        nothing = _no_events({name: columns[name] for name in join.columns})

        def view(row: Row, asking: _Asking) -> View:
            made = asking.views[number]
            if made is None:
                key: Key = tuple([row[slot] for slot in slots])
                events = nothing if None in key else asking.reader.read(join, key, asking.at)
                made = asking.views[number] = view_of(events, asking.at)
            return made

        return view


def prepare(program: FeatureProgram) -> Prepared:
    """Compile a program for requests; a few milliseconds, once."""
    return Prepared(program)


def typed(value: Any, type_: str) -> Any:
    """A declared constant as a value of that type."""
    return float(value) if type_ == "f64" and value is not None else value


def _double(value: Any, name: str) -> Any:
    """A double that is not finite is null, and there is one zero, as in frames."""
    if type(value) is float or type(value) is int:
        number = float(value)
        return number + 0.0 if number - number == 0.0 else None
    return _null(value, name, "f64")


def _whole(type_: str) -> _Conform:
    def conform(value: Any, name: str) -> Any:
        if type(value) is int and -(2**63) <= value < 2**63:
            return value
        return _null(value, name, type_)

    return conform


def _exactly(kind: type, type_: str) -> _Conform:
    return lambda value, name: value if type(value) is kind else _null(value, name, type_)


def _null(value: Any, name: str, type_: str) -> Any:
    """Null is of every type; anything else that comes here is of the wrong one."""
    if value is not None:
        raise DataError(f"request: `{name}` is {value!r}, and {_MISTAKES[type_]} is expected")
    return None


_CONFORM: Mapping[str, _Conform] = {
    "bool": _exactly(bool, "bool"), "i64": _whole("i64"), "f64": _double, "str": _exactly(str, "str"),
    "timestamp": _whole("timestamp"),
}  # fmt: skip
"""What makes a request's value what the program expects, by type; raises `DataError` for another type."""


def _no_events(columns: Mapping[str, str]) -> Events:
    none = np.zeros(0, dtype=np.int64)
    return Events(none, none, {name: Values.of(type_, ()) for name, type_ in columns.items()})
