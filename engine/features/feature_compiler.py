"""Compile features: order them by what they need, type each, and refuse what would leak or cannot be computed.

Called by `program.compile_program`, which gives the compiled sources and the spine. Each function here either returns a
step or records why there is none; a feature that needs a refused one is skipped in silence, since one mistake is
enough.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import assert_never

from engine.dag import CyclicError, topological
from engine.features.expansion import Single, as_tuple
from engine.features.expression import columns_of, parse
from engine.features.problems import Problems
from engine.features.source_compiler import KEY_TYPES
from engine.features.steps import AnyStep, Encoded, Formula, Lookup, SourceProgram, Window
from engine.features.syntax import Column, Expression, ExpressionError
from engine.spec.features import EncodedFeature, ExpressionFeature, LookupFeature, Scalar, SpineSpec, WindowFeature

SUMMED = frozenset({"sum", "mean", "std"})


@dataclass(slots=True)
class Scope:
    """What is known while compiling: sources (None for a broken one), the columns so far, what was refused."""

    sources: Mapping[str, SourceProgram | None]
    spine: SpineSpec
    problems: Problems
    singles: Mapping[str, Single]
    types: dict[str, str]
    encoded: frozenset[str] = frozenset()
    broken: set[str] = field(default_factory=set)

    def source(self, path: str, name: str) -> SourceProgram | None:
        """The compiled source, or None with the reason recorded (its own problems count as one)."""
        if name not in self.sources:
            self.problems.unknown(path, "source", name, tuple(self.sources))
            return None
        return self.sources[name]

    def explain_column(self, name: str) -> str | None:
        """Why a name that is no column of the frame cannot be read, when there is something to say."""
        if name in self.encoded:
            return f"`{name}` is encoded after all features are computed; no other feature can read it"
        own = self.sources.get(self.spine.source)
        if own is not None and name in own.columns:
            return f"`{name}` is not known when the prediction is made: it is not in spine.request"
        holders = [key for key, source in self.sources.items() if source is not None and name in source.columns]
        if holders:
            return (
                f"`{name}` is a column of source `{holders[0]}`: read it with a feature `lookup: {holders[0]}.{name}`"
            )
        return None


def compile_features(scope: Scope) -> tuple[AnyStep, ...]:
    """Every feature that compiles, in dependency order; the rest is in `scope.problems`."""
    edges = {name: sorted(_needs(single) & scope.singles.keys()) for name, single in scope.singles.items()}
    while True:
        try:
            order = topological(edges)
            break
        except CyclicError as cycle:
            single = scope.singles[cycle.path[0]]
            scope.problems.add(single.path, f"features need each other: {' -> '.join(cycle.path)}")
            for name in cycle.path:
                scope.broken.add(name)
                edges[name] = []
    steps: list[AnyStep] = []
    for name in order:
        single = scope.singles[name]
        step = None if name in scope.broken or _needs(single) & scope.broken else _compile_one(scope, single)
        if step is None:
            scope.broken.add(name)
            continue
        steps.append(step)
        if not isinstance(step, Encoded):
            scope.types[name] = step.type
    return tuple(steps)


def _needs(single: Single) -> frozenset[str]:
    """The names that a feature reads from the frame; nothing when its text does not parse."""
    match single.spec:
        case ExpressionFeature():
            try:
                return columns_of(parse(single.spec.expr))
            except ExpressionError:
                return frozenset()
        case LookupFeature() | WindowFeature():
            return frozenset(single.spec.on.values())
        case EncodedFeature():
            return frozenset({single.spec.encode})
        case _:
            assert_never(single.spec)


def _compile_one(scope: Scope, single: Single) -> AnyStep | None:
    match single.spec:
        case ExpressionFeature():
            return _formula(scope, single, single.spec)
        case LookupFeature():
            return _lookup(scope, single, single.spec)
        case WindowFeature():
            return _window(scope, single, single.spec)
        case EncodedFeature():
            return _encoded(scope, single, single.spec)
        case _:
            assert_never(single.spec)


def _formula(scope: Scope, single: Single, spec: ExpressionFeature) -> Formula | None:
    path = f"{single.path}.expr"
    tree = scope.problems.parse(path, spec.expr)
    if tree is None:
        return None
    for name in sorted(columns_of(tree) - scope.types.keys()):
        reason = scope.explain_column(name)
        if reason is not None:
            scope.problems.add(path, reason, value=spec.expr)
            return None
    typed = scope.problems.typed(path, spec.expr, scope.types)
    if typed is None:
        return None
    default = check_scalar(scope.problems, f"{single.path}.default", spec.default, typed[1])
    return Formula(name=single.name, type=typed[1], expr=typed[0], default=default)


def _lookup(scope: Scope, single: Single, spec: LookupFeature) -> Lookup | None:
    path = f"{single.path}.lookup"
    name, _, column = spec.lookup.partition(".")
    source = scope.source(path, name)
    if source is None:
        return None
    if column not in source.columns:
        scope.problems.unknown(path, f"column of source `{name}`", column, tuple(source.columns))
        return None
    if not source.key:
        scope.problems.add(path, f"source `{name}` has no key, so there is nothing to look a row up by")
        return None
    max_age = scope.problems.duration(f"{single.path}.max_age", spec.max_age) if spec.max_age is not None else None
    if source.static and spec.max_age is not None:
        scope.problems.add(f"{single.path}.max_age", f"source `{name}` is static: its rows have no age")
    on = join_on(scope, single, source, source.key, spec.on)
    if on is None:
        return None
    type_ = source.columns[column]
    default = check_scalar(scope.problems, f"{single.path}.default", spec.default, type_)
    return Lookup(name=single.name, type=type_, source=name, column=column, on=on, max_age=max_age, default=default)


def _window(scope: Scope, single: Single, spec: WindowFeature) -> Window | None:
    source = scope.source(f"{single.path}.from", spec.source)
    if source is None:
        return None
    if source.static:
        scope.problems.add(
            f"{single.path}.from",
            f"source `{spec.source}` is static: its rows have no time, so there is no window over them",
            hint="use `lookup`, or give the source a `time`",
        )
        return None
    before = len(scope.problems.found)
    window = scope.problems.duration(f"{single.path}.window", single.window)
    if window == 0:
        scope.problems.add(f"{single.path}.window", "a window of no length is always empty", value=single.window)
    of = _operand(scope, single, spec, source)
    where = (
        scope.problems.typed(f"{single.path}.where", spec.where, source.columns, want="bool") if spec.where else None
    )
    by = source.key if spec.by is None else as_tuple(spec.by)
    on = join_on(scope, single, source, by, spec.on)
    if len(scope.problems.found) > before or on is None or window is None:
        return None
    of_type = of[1] if of is not None else None
    decimals = _scale(scope, single, spec, source, of)
    type_ = aggregate_type(single.agg, of_type)
    empty = check_scalar(scope.problems, f"{single.path}.empty", spec.empty, type_)
    if len(scope.problems.found) > before:
        return None
    return Window(
        name=single.name,
        type=type_,
        source=spec.source,
        agg=single.agg,
        window=window,
        on=on,
        of=of[0] if of is not None else None,
        of_type=of_type,
        where=where[0] if where is not None else None,
        decimals=decimals,
        empty=empty,
    )


def aggregate_type(agg: str, of_type: str | None) -> str:
    """The column type of an aggregate."""
    match agg:
        case "count" | "n_distinct":
            return "i64"
        case "mean" | "std":
            return "f64"
        case "sum":
            return "f64" if of_type == "f64" else "i64"
        case _:
            return of_type or "i64"


def _operand(scope: Scope, single: Single, spec: WindowFeature, source: SourceProgram) -> tuple[Expression, str] | None:
    path = f"{single.path}.of"
    if spec.of is None:
        if single.agg != "count":
            scope.problems.add(path, f"`{single.agg}` needs `of`: what to aggregate", hint="only `count` counts rows")
        return None
    typed = scope.problems.typed(path, spec.of, source.columns)
    if typed is not None and single.agg in SUMMED and typed[1] not in {"i64", "f64", "bool"}:
        scope.problems.add(path, f"`{single.agg}` needs numbers, and this is {typed[1]}", value=spec.of)
    return typed


def _scale(
    scope: Scope, single: Single, spec: WindowFeature, source: SourceProgram, of: tuple[Expression, str] | None
) -> int | None:
    """The decimals at which sums are exact; a double without any is a problem."""
    if of is None or single.agg not in SUMMED:
        return None
    if of[1] != "f64":
        return 0
    if spec.decimals is not None:
        return spec.decimals
    if isinstance(of[0], Column) and of[0].name in source.decimals:
        return source.decimals[of[0].name]
    column = of[0].name if isinstance(of[0], Column) else None
    scope.problems.add(
        f"{single.path}.decimals",
        f"`{single.agg}` of a double needs `decimals`, so that its sums are exact in any order",
        value=spec.of,
        hint="add `decimals: 2` (or as many as the values have) here"
        + (f", or to `sources.{source.name}.decimals.{column}`" if column else ""),
    )
    return None


def _encoded(scope: Scope, single: Single, spec: EncodedFeature) -> Encoded | None:
    path = f"{single.path}.encode"
    if spec.encode not in scope.types:
        reason = scope.explain_column(spec.encode)
        if reason is not None:
            scope.problems.add(path, reason, value=spec.encode)
        else:
            scope.problems.unknown(path, "request field or feature", spec.encode, tuple(scope.types))
        return None
    if scope.types[spec.encode] not in KEY_TYPES:
        scope.problems.add(
            path,
            f"`{spec.encode}` is {scope.types[spec.encode]}; an encoder takes {', '.join(KEY_TYPES)}",
            value=spec.encode,
            hint="bin it first with an `expr` such as FLOOR(x), cast to bigint",
        )
        return None
    return Encoded(
        name=single.name,
        type="i64" if spec.encoder == "vocab" else "f64",
        column=spec.encode,
        encoder=spec.encoder,
        min_count=spec.min_count,
        unknown=spec.unknown,
    )


def join_on(
    scope: Scope, single: Single, source: SourceProgram, by: tuple[str, ...], on: Mapping[str, str]
) -> tuple[tuple[str, str], ...] | None:
    """Pair each key column with the frame's column that must equal it; None when one is missing or of another type."""
    before = len(scope.problems.found)
    for column in on:
        if column not in by:
            scope.problems.unknown(f"{single.path}.on.{column}", "key column", column, by)
    pairs = tuple((column, on.get(column, column)) for column in by)
    if len(set(by)) < len(by):
        scope.problems.add(f"{single.path}.by", "a key column is named twice")
    for column, target in pairs:
        path = f"{single.path}.on.{column}" if column in on else single.path
        if column not in source.columns:
            scope.problems.unknown(
                f"{single.path}.by", f"column of source `{source.name}`", column, tuple(source.columns)
            )
        elif target not in scope.types:
            _missing_target(scope, path, column, target)
        elif source.columns[column] != scope.types[target] or source.columns[column] not in KEY_TYPES:
            scope.problems.add(
                path,
                f"cannot join {source.name}.{column} ({source.columns[column]}) to `{target}` ({scope.types[target]}): "
                f"both must be of one type, one of {', '.join(KEY_TYPES)}",
            )
    return pairs if len(scope.problems.found) == before else None


def _missing_target(scope: Scope, path: str, column: str, target: str) -> None:
    reason = scope.explain_column(target)
    hint = f"add `{target}` to spine.request, or map it: `on: {{{column}: <request field>}}`"
    if reason is not None:
        scope.problems.add(path, reason, value=target, hint=None if target in scope.encoded else hint)
    else:
        scope.problems.unknown(path, f"request field or feature for the key `{column}`", target, tuple(scope.types))


def check_scalar(problems: Problems, path: str, value: Scalar | None, type_: str) -> Scalar | None:
    """A default as a value of the column's type, or None with the reason recorded."""
    match type_, value:
        case _, None:
            return None
        case ("bool", bool()) | ("str", str()):
            return value
        case "i64", int() if not isinstance(value, bool) and -(2**63) <= value < 2**63:
            return value
        case "f64", int() | float() if not isinstance(value, bool) and math.isfinite(value):
            return float(value)
        case _:
            problems.add(path, f"the value must be {type_}, as the feature is", value=str(value))
            return None
