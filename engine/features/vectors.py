"""Simple row conditions over the events of one key, without Polars: what most `where:` say. Called by `tracks`.

Comparisons of a column with a constant of its own type, IN, IS NULL, NOT, AND and OR. Anything else is for the lowering, as
is whatever one of these would convert; `tests/features/test_vectors.py` holds the two to the same flags.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from engine.features.events import Events, Values
from engine.features.exact import Flags
from engine.features.syntax import Call, Column, Expression, Literal

_SIGNS = {"=", "<>", "<", "<=", ">", ">="}
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
Known = tuple[Flags, Flags]
"""Where a condition is true, and where it is false; null is neither."""


def condition(events: Events, tree: Expression) -> Values | None:
    """A condition's values, or `None` when it is not simple."""
    found = _known(events, tree)
    if found is None:
        return None
    yes, no = found
    valid = yes | no
    return Values("bool", yes.astype(np.int64), None if valid.all() else valid)


def _known(events: Events, tree: Expression) -> Known | None:
    match tree:
        case Column() if events.columns[tree.name].type == "bool":
            column = events.columns[tree.name]
            return _split(column, column.data != 0)
        case Call("not", (inner,)):
            found = _known(events, inner)
            return None if found is None else (found[1], found[0])
        case Call("and" | "or", (left, right)):
            return _joined(tree.name, _known(events, left), _known(events, right))
        case Call("is_null" | "is_not_null", (Column() as column,)):
            valid = events.columns[column.name].valid
            there = np.ones(events.count, dtype=np.bool_) if valid is None else valid
            return (there, ~there) if tree.name == "is_not_null" else (~there, there)
        case Call(name, (Column() as column, Literal() as constant)) if name in _SIGNS:
            return _compared(events.columns[column.name], name, constant)
        case Call(name, (Literal() as constant, Column() as column)) if name in _SIGNS:
            return _compared(events.columns[column.name], _MIRRORED.get(name, name), constant)
        case Call("in", (Column() as column, *items)):
            found = None
            for item in items:
                same = _compared(events.columns[column.name], "=", item) if isinstance(item, Literal) else None
                found = same if found is None else _joined("or", found, same)
                if found is None:
                    return None
            return found
        case _:
            return None


def _split(column: Values, holds: Flags) -> Known:
    if column.valid is None:
        return holds, ~holds
    return holds & column.valid, ~holds & column.valid


def _joined(name: str, left: Known | None, right: Known | None) -> Known | None:
    if left is None or right is None:
        return None
    if name == "and":
        return left[0] & right[0], left[1] | right[1]
    return left[0] | right[0], left[1] & right[1]


_COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {
    "=": np.equal,
    "<>": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}


def _compared(column: Values, sign: str, constant: Literal) -> Known | None:
    """A column compared with a constant of its type; an integer constant will do for doubles."""
    fits = constant.type == column.type or (column.type == "f64" and constant.type == "i64")
    if not fits or column.type == "timestamp" or constant.value is None:
        return None
    value: Any = constant.value
    data = column.data
    if column.type == "str":
        # A text that is not there stands between two: places are doubled, so that there is one between them.
        place = bisect_left(column.texts, value)
        there = place < len(column.texts) and column.texts[place] == value
        data, value = data * 2, 2 * place if there else 2 * place - 1
    elif column.type == "f64":
        value = float(value)
    return _split(column, _COMPARE[sign](data, value))
