"""Compile a declaration to a `FeatureProgram`: all checks that need no data, all problems at once.

Enters: the specs of features, spine, label and sources. Leaves: `CompileResult`, the one program that training and
serving evaluate and the programs that ingest applies. Called by `engine check` and the planner, so it imports no data
library.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from engine.errors import ConfigError
from engine.features.expansion import expand
from engine.features.expression import Expression, columns_of
from engine.features.feature_compiler import compile_features
from engine.features.problems import Problems
from engine.features.scope import Scope
from engine.features.source_compiler import check_source, compile_source
from engine.features.steps import (
    EVENT_TIME,
    AnyStep,
    Encoded,
    FeatureProgram,
    Formula,
    LabelProgram,
    Lookup,
    SourceProgram,
    SpineProgram,
    Window,
)
from engine.spec.features import FeatureSpec, LabelSpec, SpineSpec
from engine.spec.sources import SourceSpec

__all__ = [
    "EVENT_TIME",
    "CompileResult",
    "Encoded",
    "FeatureProgram",
    "Formula",
    "LabelProgram",
    "Lookup",
    "SourceProgram",
    "SpineProgram",
    "Window",
    "compile_program",
    "compile_source",
]


@dataclass(frozen=True, slots=True)
class CompileResult:
    """The feature program, and what ingest does to each declared source."""

    program: FeatureProgram
    sources: Mapping[str, SourceProgram]


def compile_program(
    features: Mapping[str, FeatureSpec],
    spine: SpineSpec,
    label: LabelSpec | None,
    sources: Mapping[str, SourceSpec],
) -> CompileResult:
    """Check and compile everything; raises `ConfigError` with every problem, each with its dotted path."""
    problems = Problems()
    compiled = {name: check_source(name, spec, problems) for name, spec in sources.items()}
    _check_references(sources, compiled, problems)
    spine_program = _compile_spine(spine, compiled, problems)
    singles = {single.name: single for single in expand(features, spine.request, problems)}
    encoded = frozenset(name for name, single in singles.items() if hasattr(single.spec, "encode"))
    types = {**spine.request, EVENT_TIME: "timestamp"}
    steps = compile_features(Scope(compiled, spine, problems, singles, types, encoded))
    label_program = _compile_label(label, spine, sources, compiled, problems) if label is not None else None
    if problems.found:
        raise ConfigError(tuple(dict.fromkeys(problems.found)))
    known = {name: source for name, source in compiled.items() if source is not None}
    program = FeatureProgram(
        spine=spine_program,
        label=label_program,
        sources=_requirements(known, spine_program, label_program, steps),
        steps=steps,
        order=tuple(singles),
    )
    return CompileResult(program, known)


def _check_references(
    sources: Mapping[str, SourceSpec], compiled: Mapping[str, SourceProgram | None], problems: Problems
) -> None:
    for name, spec in sources.items():
        for index, expectation in enumerate(spec.expect):
            if expectation.references is None:
                continue
            path = f"sources.{name}.expect.{index}.references"
            target, _, column = expectation.references.partition(".")
            other = compiled.get(target)
            if expectation.column is None:
                problems.add(path, "name the `column` whose values must be found there")
            if target not in sources:
                problems.unknown(path, "source", target, tuple(sources))
            elif other is not None and column not in other.columns:
                problems.unknown(path, f"column of source `{target}`", column, tuple(other.columns))


def _compile_spine(spine: SpineSpec, sources: Mapping[str, SourceProgram | None], problems: Problems) -> SpineProgram:
    result = SpineProgram(source=spine.source, request=dict(spine.request))
    if spine.source not in sources:
        problems.unknown("spine.source", "source", spine.source, tuple(sources))
    source = sources.get(spine.source)
    if EVENT_TIME in spine.request:
        problems.add(f"spine.request.{EVENT_TIME}", "every request has its event time: do not list it")
    if "row_id" in spine.request:
        problems.add("spine.request.row_id", "`row_id` names the rows themselves", hint="derive it under another name")
    if source is None:
        return result
    if source.static or source.time is None:
        problems.add("spine.source", f"source `{spine.source}` has no time, so its rows cannot be a spine")
    if source.id is None:
        problems.add(
            f"sources.{spine.source}.id",
            "the spine's source needs an `id`, which names each row",
            hint="name a column that is unique, or derive one, such as `key || '-' || number`",
        )
    for name, type_ in spine.request.items():
        found = source.columns.get(name)
        if name == EVENT_TIME or found == type_ or (found, type_) == ("i64", "f64"):
            continue
        if found is None:
            problems.unknown(f"spine.request.{name}", f"column of source `{spine.source}`", name, tuple(source.columns))
        else:
            problems.add(f"spine.request.{name}", f"`{name}` is {found} in source `{spine.source}`", value=type_)
    where = problems.typed("spine.where", spine.where, source.columns, want="bool") if spine.where else None
    return SpineProgram(source=spine.source, request=dict(spine.request), where=where[0] if where is not None else None)


def _compile_label(
    label: LabelSpec,
    spine: SpineSpec,
    specs: Mapping[str, SourceSpec],
    sources: Mapping[str, SourceProgram | None],
    problems: Problems,
) -> LabelProgram | None:
    if label.source not in sources:
        problems.unknown("label.from", "source", label.source, tuple(sources))
    horizon = problems.duration("label.horizon", label.horizon) if label.horizon is not None else None
    maturity = problems.duration("label.maturity", label.maturity)
    source, own = sources.get(label.source), sources.get(spine.source)
    if source is None or own is None:
        return None
    if source.static or source.time is None:
        problems.add("label.from", f"source `{label.source}` has no time, so its events cannot be labels")
    typed = problems.typed("label.expr", label.expr, source.columns)
    if typed is None:
        return None
    if typed[1] not in {"bool", "i64", "f64", "str"}:
        problems.add(
            "label.expr",
            f"a label is a number, a boolean or, for several classes, text, and this is {typed[1]}",
            value=label.expr,
        )
    same = label.source == spine.source or _same_origin(specs[label.source], specs[spine.source])
    if same:
        _check_leak(typed[0], spine, own, problems)
    return LabelProgram(
        source=label.source,
        expr=typed[0],
        type=typed[1],
        on=_label_join(label, source, own, problems),
        horizon=horizon,
        maturity=maturity or 0,
    )


def _same_origin(left: SourceSpec, right: SourceSpec) -> bool:
    return left.kind == right.kind and left.params == right.params


def _check_leak(expr: Expression, spine: SpineSpec, source: SourceProgram, problems: Problems) -> None:
    """Refuse a request field that is, or is derived from, a column that the label reads."""
    secret = columns_of(expr)
    derived = {step.name: columns_of(step.expr) for step in source.derive}
    for name in spine.request:
        seen, todo = {name}, [name]
        while todo:
            new = derived.get(todo.pop(), frozenset()) - seen
            seen |= new
            todo += new
        leaks = sorted(seen & secret)
        if leaks:
            problems.add(
                f"spine.request.{name}",
                f"the label leaks: `{name}` "
                + ("is" if leaks[0] == name else f"is derived from `{leaks[0]}`,")
                + " what label.expr reads, and a request knows it before it has happened",
                hint="remove it from spine.request",
            )


def _label_join(
    label: LabelSpec, source: SourceProgram, own: SourceProgram, problems: Problems
) -> tuple[tuple[str, str], ...]:
    """Pairs of (label column, spine column); the ids when `on` is absent."""
    if not label.on:
        if source.id is None:
            problems.add(
                f"sources.{label.source}.id",
                "labels are joined by `id`, and this source has none",
                hint="give it one, or say label.on",
            )
        if source.id is None or own.id is None:
            return ()
        if source.columns.get(source.id) != own.columns.get(own.id):
            problems.add("label.on", f"the ids differ in type: {source.name}.{source.id} and {own.name}.{own.id}")
        return ((source.id, own.id),)
    for column, target in label.on.items():
        if column not in source.columns:
            problems.unknown(f"label.on.{column}", f"column of source `{source.name}`", column, tuple(source.columns))
        elif target not in own.columns:
            problems.unknown(f"label.on.{column}", f"column of source `{own.name}`", target, tuple(own.columns))
        elif source.columns[column] != own.columns[target] or source.columns[column] == "f64":
            problems.add(f"label.on.{column}", f"cannot join {source.columns[column]} to {own.columns[target]}")
    return tuple(label.on.items())


def _requirements(
    sources: Mapping[str, SourceProgram], spine: SpineProgram, label: LabelProgram | None, steps: tuple[AnyStep, ...]
) -> dict[str, SourceProgram]:
    """What the program reads of each source: columns by role and by expression, in the source's order."""
    read: dict[str, set[str]] = {spine.source: {*spine.request, *_read_by(spine.where)}}
    for step in steps:
        if isinstance(step, Lookup):
            read.setdefault(step.source, set()).update({step.column}, (column for column, _ in step.on))
        elif isinstance(step, Window):
            read.setdefault(step.source, set()).update(
                _read_by(step.of), _read_by(step.where), (column for column, _ in step.on)
            )
    if label is not None:
        read.setdefault(label.source, set()).update(_read_by(label.expr), (column for column, _ in label.on))
        read[spine.source].update(column for _, column in label.on)
    needed = {}
    for name in sorted(read):
        source = sources[name]
        wanted = read[name] | {column for column in (source.time, source.id, source.available_column) if column}
        columns = {column: type_ for column, type_ in source.columns.items() if column in wanted}
        needed[name] = SourceProgram(
            name=name,
            columns=columns,
            key=source.key,
            time=source.time,
            id=source.id,
            available_column=source.available_column,
            delay=source.delay,
            static=source.static,
            decimals={column: places for column, places in source.decimals.items() if column in columns},
        )
    return needed


def _read_by(expr: Expression | None) -> frozenset[str]:
    return columns_of(expr) if expr is not None else frozenset()
