"""A feature program in words, for `engine features`, the model card and error reports. Pure."""

from __future__ import annotations

from typing import Any, assert_never

from engine.durations import MICROSECONDS
from engine.features.expression import columns_of, render
from engine.features.lineage import declarations, personal
from engine.features.steps import AnyStep, Encoded, FeatureProgram, Formula, Lookup, Window
from engine.spec import PipelineSpec

_AGGREGATES = {
    "count": "number",
    "sum": "sum",
    "mean": "mean",
    "std": "sample standard deviation",
    "min": "smallest value",
    "max": "largest value",
    "first": "earliest value",
    "last": "latest value",
    "n_distinct": "number of different values",
}
_ENCODED = {
    "vocab": "number in the vocabulary of {0}",
    "frequency": "share of training rows with this {0}",
    "standardise": "{0}, less its mean in training and over its standard deviation there",
    "bins": "which of {1} quantile bins of training rows {0} falls in",
}


def describe(program: FeatureProgram, spec: PipelineSpec) -> list[dict[str, Any]]:
    """One entry a feature, in order of declaration.

    Name, kind, type, source, columns, key, window, a sentence; then what people wrote: owner, doc, tags; `pii` is `tagged`,
    `derived` from such a feature or source, or null.
    """
    declared, private = declarations(spec.features), personal(program, spec)
    return [
        {
            **_describe_step(program, program.by_name[name]),
            "owner": declared[name][1].owner or spec.owner,
            "doc": declared[name][1].doc,
            "tags": list(declared[name][1].tags),
            "pii": private.get(name),
        }
        for name in program.order
    ]


def show_duration(micros: int) -> str:
    """Microseconds in the largest unit that divides them.

    >>> show_duration(36 * 3600 * 10**6)
    '36h'
    """
    for unit, size in reversed(MICROSECONDS.items()):
        if unit != "w" and micros % size == 0:
            return f"{micros // size}{unit}"
    raise AssertionError("every integer is a number of microseconds")


def _describe_step(program: FeatureProgram, step: AnyStep) -> dict[str, Any]:
    kind, columns, words = _words(program, step)
    source = step.source if isinstance(step, Lookup | Window) else None
    return {
        "name": step.name,
        "kind": kind,
        "type": step.type,
        "source": source,
        "columns": columns,
        "key": [f"{column} = {target}" for column, target in step.on] if isinstance(step, Lookup | Window) else [],
        "window": show_duration(step.window) if isinstance(step, Window) else None,
        "words": words,
    }


def _words(program: FeatureProgram, step: AnyStep) -> tuple[str, list[str], str]:
    match step:
        case Formula():
            return "expression", sorted(columns_of(step.expr)), f"{render(step.expr)}{_otherwise(step.default)}"
        case Lookup():
            which = "the" if program.sources[step.source].static else "the latest known"
            age = f", at most {show_duration(step.max_age)} old" if step.max_age is not None else ""
            words = f"{step.column} of {which} row of {step.source} by {_keys(step.on)}{age}{_otherwise(step.default)}"
            return "lookup", [step.column], words
        case Window():
            return "window", _window_columns(step), _window_words(step)
        case Encoded():
            return "encoded", [step.column], _encoded_words(step)
        case _:
            assert_never(step)


def _encoded_words(step: Encoded) -> str:
    words = _ENCODED[step.encoder].format(step.column, step.bins)
    rare = f" or seen fewer than {step.min_count} times" if step.min_count > 1 else ""
    return f"{words}; {'null' if step.unknown is None else step.unknown} when unknown{rare}"


def _aggregate_words(step: Window) -> str:
    match step.agg:
        case "quantile":
            return f"quantile {step.q:g} (nearest rank)" if step.q is not None else "quantile"
        case "last_k":
            return f"value number {step.rank}, counted from the latest,"
        case "top_k":
            return f"value number {step.rank} by how often it occurs"
        case "histogram":
            low, high = step.bounds or (None, None)
            limits = [f"at least {low:g}" if low is not None else "", f"below {high:g}" if high is not None else ""]
            return f"number of values {' and '.join(filter(None, limits)) or 'at all'}"
        case "smoothed_mean":
            return f"mean, drawn to {step.prior:g} as by {step.weight:g} more values,"
        case _:
            return _AGGREGATES[step.agg]


def _window_columns(step: Window) -> list[str]:
    trees = [tree for tree in (step.of, step.where) if tree is not None]
    return sorted(frozenset().union(*(columns_of(tree) for tree in trees)))


def _window_words(step: Window) -> str:
    of = render(step.of) if step.of is not None else "rows"
    where = f" where {render(step.where)}" if step.where is not None else ""
    by = f" with the same {_keys(step.on)}" if step.on else ""
    exact = f", exact to {step.decimals} decimals" if step.decimals else ""
    last = show_duration(step.window)
    asked = ", the row asked about included" if step.include_request else ""
    words = f"{_aggregate_words(step)} of {of} in {step.source}{by}{where}, last {last}{asked}{exact}"
    return words + _otherwise(step.empty)


def _keys(on: tuple[tuple[str, str], ...]) -> str:
    return ", ".join(column if column == target else f"{column} (= {target})" for column, target in on)


def _otherwise(default: Any) -> str:
    return f"; {default!r} when there is none" if default is not None else ""
