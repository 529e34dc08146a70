"""A feature program in words, for `engine features`, the model card and error reports. Pure."""

from __future__ import annotations

from typing import Any, assert_never

from engine.durations import MICROSECONDS
from engine.features.expression import columns_of, render
from engine.features.steps import AnyStep, Encoded, FeatureProgram, Formula, Lookup, Window

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


def describe(program: FeatureProgram) -> list[dict[str, Any]]:
    """One entry a feature, in order of declaration: name, kind, type, source, columns, window, and a sentence."""
    return [_describe_step(program, program.by_name[name]) for name in program.order]


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
            what = "number in the vocabulary" if step.encoder == "vocab" else "share of training rows"
            words = f"{what} of {step.column}; {step.unknown} when unknown or seen fewer than {step.min_count} times"
            return "encoded", [step.column], words
        case _:
            assert_never(step)


def _window_columns(step: Window) -> list[str]:
    trees = [tree for tree in (step.of, step.where) if tree is not None]
    return sorted(frozenset().union(*(columns_of(tree) for tree in trees)))


def _window_words(step: Window) -> str:
    of = render(step.of) if step.of is not None else "rows"
    where = f" where {render(step.where)}" if step.where is not None else ""
    by = f" with the same {_keys(step.on)}" if step.on else ""
    exact = f", exact to {step.decimals} decimals" if step.decimals else ""
    last = show_duration(step.window)
    return f"{_AGGREGATES[step.agg]} of {of} in {step.source}{by}{where}, last {last}{exact}{_otherwise(step.empty)}"


def _keys(on: tuple[tuple[str, str], ...]) -> str:
    return ", ".join(column if column == target else f"{column} (= {target})" for column, target in on)


def _otherwise(default: Any) -> str:
    return f"; {default!r} when there is none" if default is not None else ""
