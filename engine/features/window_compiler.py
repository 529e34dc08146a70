"""Compile one window feature: its operand, its condition, the scale of its sums, and the row that is asked about.

Called by `feature_compiler`. Leaves a `Window`, or the problems that there were.
"""

from __future__ import annotations

from engine.features.expansion import Single, as_tuple
from engine.features.expression import ExpressionError, check, columns_of, parse
from engine.features.scope import Scope, check_scalar, join_on
from engine.features.steps import SourceProgram, Window
from engine.features.syntax import Column, Expression
from engine.spec.features import WindowFeature

SUMMED = frozenset({"sum", "mean", "std", "smoothed_mean"})
"""Aggregates made of exact sums."""
NUMBERS = {**dict.fromkeys(SUMMED, ("i64", "f64", "bool")), "histogram": ("i64", "f64")}
"""The types that an aggregate takes, where it does not take all."""
NEVER_EMPTY = {"histogram": "counts 0 where there is no value", "smoothed_mean": "is its prior where there is no value"}
"""Aggregates that admit no `empty`, and why."""


def compile_window(scope: Scope, single: Single, spec: WindowFeature) -> Window | None:
    """One step, or None with the reasons recorded."""
    source = scope.source(f"{single.path}.from", spec.source)
    if source is None or single.column is None:
        return None
    if source.static:
        scope.problems.add(
            f"{single.path}.from",
            f"source `{spec.source}` is static: its rows have no time, so there is no window over them",
            hint="use `lookup`, or give the source a `time`",
        )
        return None
    before = len(scope.problems.found)
    column = single.column
    window = scope.problems.duration(f"{single.path}.window", single.window)
    if window == 0:
        scope.problems.add(f"{single.path}.window", "a window of no length is always empty", value=single.window)
    of = _operand(scope, single, spec, source)
    where = (
        scope.problems.typed(f"{single.path}.where", spec.where, source.columns, want="bool") if spec.where else None
    )
    on = join_on(scope, single, source, source.key if spec.by is None else as_tuple(spec.by), spec.on)
    if len(scope.problems.found) > before or on is None or window is None:
        return None
    if spec.include_request:
        check_request_row(scope, single, spec, on)
    of_type = of[1] if of is not None else None
    decimals = _scale(scope, single, spec, source, of)
    type_ = aggregate_type(column.agg, of_type)
    if spec.empty is not None and column.agg in NEVER_EMPTY:
        scope.problems.add(
            f"{single.path}.empty",
            f"`{column.agg}` {NEVER_EMPTY[column.agg]}",
            hint="declare it in a feature of its own",
        )
        return None
    empty = check_scalar(scope.problems, f"{single.path}.empty", spec.empty, type_)
    if len(scope.problems.found) > before:
        return None
    return Window(
        name=single.name,
        type=type_,
        source=spec.source,
        agg=column.agg,
        window=window,
        on=on,
        of=of[0] if of is not None else None,
        of_type=of_type,
        where=where[0] if where is not None else None,
        decimals=decimals,
        empty=empty,
        include_request=spec.include_request,
        q=column.q,
        rank=column.rank,
        bounds=column.bounds,
        prior=column.prior,
        weight=column.weight,
    )


def aggregate_type(agg: str, of_type: str | None) -> str:
    """The column type of an aggregate."""
    match agg:
        case "count" | "n_distinct" | "histogram":
            return "i64"
        case "mean" | "std" | "smoothed_mean":
            return "f64"
        case "sum":
            return "f64" if of_type == "f64" else "i64"
        case _:
            return of_type or "i64"


def _operand(scope: Scope, single: Single, spec: WindowFeature, source: SourceProgram) -> tuple[Expression, str] | None:
    path = f"{single.path}.of"
    agg = single.column.agg if single.column is not None else ""
    if spec.of is None:
        if agg != "count":
            scope.problems.add(path, f"`{agg}` needs `of`: what to aggregate", hint="only `count` counts rows")
        return None
    typed = scope.problems.typed(path, spec.of, source.columns)
    if typed is not None and agg in NUMBERS and typed[1] not in NUMBERS[agg]:
        scope.problems.add(path, f"`{agg}` needs numbers, and this is {typed[1]}", value=spec.of)
    return typed


def _scale(
    scope: Scope, single: Single, spec: WindowFeature, source: SourceProgram, of: tuple[Expression, str] | None
) -> int | None:
    """The decimals at which sums are exact; a double without any is a problem."""
    agg = single.column.agg if single.column is not None else ""
    if of is None or agg not in SUMMED:
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
        f"`{agg}` of a double needs `decimals`, so that its sums are exact in any order",
        value=spec.of,
        hint="add `decimals: 2` (or as many as the values have) here"
        + (f", or to `sources.{source.name}.decimals.{column}`" if column else ""),
    )
    return None


def check_request_row(scope: Scope, single: Single, spec: WindowFeature, on: tuple[tuple[str, str], ...]) -> None:
    """Check that the row that is asked about can be one more row of its own window, by what a request carries."""
    if spec.source != scope.spine.source:
        scope.problems.add(
            f"{single.path}.include_request",
            f"the request is a row of the spine's source `{scope.spine.source}`, not of `{spec.source}`",
            hint=f"remove it, or say `from: {scope.spine.source}`",
        )
        return
    for column, target in on:
        if column != target or target not in scope.spine.request:
            scope.problems.add(
                f"{single.path}.on.{column}" if column in spec.on else single.path,
                f"with include_request the key `{column}` is a request field of that name, so that the request lies in "
                "its own window",
                value=target,
            )
    for key, text in (("of", spec.of), ("where", spec.where)):
        if text is not None:
            _check_request_text(scope, f"{single.path}.{key}", text)


def _check_request_text(scope: Scope, path: str, text: str) -> None:
    """Check that an expression over the source's columns means the same over the request's fields."""
    tree, source = parse(text), scope.sources[scope.spine.source]
    missing = sorted(columns_of(tree) - scope.spine.request.keys())
    if missing:
        scope.problems.add(
            path,
            f"include_request: `{missing[0]}` is not in spine.request, so it is not known of the row that is asked about",
            value=text,
            hint=f"read only {', '.join(scope.spine.request)}, or remove include_request",
        )
        return
    try:
        found = check(tree, scope.spine.request)
    except ExpressionError as error:
        scope.problems.refused(path, text, error, hint="include_request reads the types of spine.request")
        return
    wanted = check(tree, source.columns) if source is not None else found
    if found != wanted:
        scope.problems.add(path, f"gives {wanted} over the source and {found} over the request", value=text)
