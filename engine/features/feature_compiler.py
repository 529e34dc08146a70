"""Compile features: order them by what they need, type each, and refuse what would leak or cannot be computed.

Called by `program.compile_program`, which gives the compiled sources and the spine. Each function here either returns a
step or records why there is none; a feature that needs a refused one is skipped in silence, since one mistake is
enough.
"""

from __future__ import annotations

from typing import assert_never

from engine.dag import CyclicError, topological
from engine.features.encoder_compiler import compile_encoded
from engine.features.expansion import Single
from engine.features.expression import columns_of, parse
from engine.features.scope import Scope, check_scalar, join_on
from engine.features.steps import AnyStep, Encoded, Formula, Lookup
from engine.features.syntax import ExpressionError
from engine.features.window_compiler import compile_window
from engine.spec.features import EncodedFeature, ExpressionFeature, LookupFeature, WindowFeature


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
            return compile_window(scope, single, single.spec)
        case EncodedFeature():
            return compile_encoded(scope, single, single.spec)
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
