"""Compile a source's declaration: types of its columns, derived columns in dependency order, what its time and key are.

Called by `compile_program` for every source, and for one alone by `compile_source`. No data library.
"""

from __future__ import annotations

from engine.dag import CyclicError, topological
from engine.errors import ConfigError
from engine.features.expectations import check_expectations
from engine.features.expression import ExpressionError, canonical, check, columns_of
from engine.features.problems import Problems
from engine.features.steps import Formula, SourceProgram
from engine.spec.sources import SourceSpec

KEY_TYPES = ("i64", "str", "bool", "timestamp")
ID_TYPES = ("i64", "str")


def compile_source(name: str, spec: SourceSpec) -> SourceProgram:
    """Compile one source; raises `ConfigError` with every problem (paths `sources.<name>.…`)."""
    problems = Problems()
    program = check_source(name, spec, problems)
    if problems.found or program is None:
        raise ConfigError(problems.found)
    return program


def check_source(name: str, spec: SourceSpec, problems: Problems) -> SourceProgram | None:
    """As `compile_source`, adding to `problems`; None when the columns cannot be known."""
    path = f"sources.{name}"
    before = len(problems.found)
    derive = _derived(path, spec, problems)
    if len(problems.found) > before:
        return None
    columns = {**spec.columns, **{step.name: step.type for step in derive}}
    _check_roles(path, spec, columns, problems)
    check_expectations(path, spec, columns, problems)
    where = problems.typed(f"{path}.where", spec.where, columns, want="bool") if spec.where is not None else None
    delay = problems.duration(f"{path}.available.delay", spec.available.delay)
    return SourceProgram(
        name=name,
        columns=columns,
        key=spec.key,
        time=spec.time,
        id=spec.id,
        available_column=spec.available.column,
        delay=delay or 0,
        static=spec.static,
        decimals=dict(spec.decimals),
        declared=dict(spec.columns),
        derive=derive,
        where=where[0] if where is not None else None,
    )


def _derived(path: str, spec: SourceSpec, problems: Problems) -> tuple[Formula, ...]:
    trees = {}
    for name, text in spec.derive.items():
        place = f"{path}.derive.{name}"
        if name in spec.columns:
            problems.add(place, f"`{name}` is already a declared column", hint="give the derived column another name")
        tree = problems.parse(place, text)
        if tree is not None:
            trees[name] = tree
    edges = {name: [column for column in sorted(columns_of(tree)) if column in trees] for name, tree in trees.items()}
    try:
        order = topological(edges)
    except CyclicError as cycle:
        problems.add(f"{path}.derive.{cycle.path[0]}", f"derived columns need each other: {' -> '.join(cycle.path)}")
        return ()
    types, made = dict(spec.columns), []
    broken = spec.derive.keys() - trees.keys()
    for name in order:
        if broken & columns_of(trees[name]):
            broken.add(name)
            continue
        try:
            types[name] = check(trees[name], types)
        except ExpressionError as error:
            problems.refused(f"{path}.derive.{name}", spec.derive[name], error)
            broken.add(name)
            continue
        made.append(Formula(name=name, type=types[name], expr=canonical(trees[name])))
    return tuple(made)


def _check_roles(path: str, spec: SourceSpec, columns: dict[str, str], problems: Problems) -> None:
    """Check that time, id, key, availability and decimals name columns of fitting types."""

    def role(place: str, column: str | None, types: tuple[str, ...]) -> None:
        if column is None:
            return
        if column not in columns:
            problems.unknown(place, "column", column, tuple(columns))
        elif columns[column] not in types:
            problems.add(place, f"`{column}` is {columns[column]}; allowed here: {', '.join(types)}", value=column)

    role(f"{path}.time", spec.time, ("timestamp",))
    role(f"{path}.id", spec.id, ID_TYPES)
    role(f"{path}.available.column", spec.available.column, ("timestamp",))
    for index, column in enumerate(spec.key):
        role(f"{path}.key.{index}", column, KEY_TYPES)
    for column in spec.decimals:
        role(f"{path}.decimals.{column}", column, ("f64",))
    if spec.time is None and not spec.static:
        problems.add(
            f"{path}.time",
            "a source needs the time of its rows",
            hint="name a timestamp column, or say `static: true` for a dimension that never changes",
        )
    if spec.static and spec.time is not None:
        problems.add(f"{path}.static", "a static dimension has no `time`", hint="remove one of the two")
    if spec.static and spec.available.column is not None:
        problems.add(f"{path}.available", "a static dimension is always available", hint="remove `available`")
    if spec.static and not spec.key:
        problems.add(f"{path}.key", "a static dimension needs a key")
    if spec.available.column is not None and spec.available.delay != "0s":
        problems.add(f"{path}.available", "give `column` or `delay`, not both")
