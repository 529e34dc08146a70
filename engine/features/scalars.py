"""Typed trees to plain Python functions of one row: the same language as `lowering`, the same bits, for one request.

Enters: a checked expression, the types of its columns and where each stands in a row. Leaves: a function from a row (a list
of plain values; timestamps and durations are integer microseconds) to the value. Called by `prepared`. Nothing here decides
what an expression means: where Python and Polars might differ (other texts than ASCII, formats, time zones, texts as
numbers) the value is made by the lowering itself. `tests/features/test_scalar_parity.py` holds the two to the same bits.

Doubles are checked after every operation; `lowering` checks at the end of a chain, which is the same (it says why).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import itemgetter
from typing import Any, TypeAlias

from engine.features.expression import type_of
from engine.features.scalar_functions import BUILD, WIDENED, finite, narrowed
from engine.features.scalar_lowering import by_lowering
from engine.features.syntax import Call, Case, Cast, Column, Expression, Literal
from engine.features.timestamps import MAX_MOMENT, MIN_MOMENT
from engine.features.typing_rules import unify

Row: TypeAlias = list[Any]
Read: TypeAlias = Callable[[Row], Any]


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A sub-expression: how to read it from a row, and its type."""

    read: Read
    type: str


def scalar(tree: Expression, columns: Mapping[str, str], slots: Mapping[str, int]) -> Read:
    """Compile a checked expression to a function of one row; `slots` says where a column stands in it.

    >>> from engine.features.expression import parse
    >>> scalar(parse("a / 4 + 1"), {"a": "i64"}, {"a": 0})([6])
    2.5
    """
    return _Compiler(columns, slots).compile(tree).read


class _Compiler:
    """Compiles trees over one kind of row."""

    def __init__(self, columns: Mapping[str, str], slots: Mapping[str, int]) -> None:
        self._columns = columns
        self._slots = slots

    def compile(self, node: Expression) -> _Compiled:
        """One node and all below it."""
        match node:
            case Literal():
                return _constant(node)
            case Column():
                return _Compiled(itemgetter(self._slots[node.name]), self._columns[node.name])
            case Cast():
                return self._cast(node)
            case Case():
                return self._case(node)
            case Call():
                return self._call(node)

    def _cast(self, node: Cast) -> _Compiled:
        part = self.compile(node.operand)
        if part.type == "null":
            return _Compiled(lambda _row: None, node.type)
        convert, read = _CASTS.get((part.type, node.type)), part.read
        if part.type == node.type:
            return part
        if convert is None:
            convert = by_lowering(Cast(Column("0"), node.type), {"0": part.type})
        return _Compiled(lambda row: None if (value := read(row)) is None else convert(value), node.type)

    def _call(self, node: Call) -> _Compiled:
        parts = [self.compile(argument) for argument in node.args]
        type_, types = type_of(node, self._columns), [part.type for part in parts]
        if node.name in {"+", "-", "*", "neg"}:
            return self._arithmetic(node.name, parts)
        if node.name in WIDENED:
            common = reduce(lambda left, right: unify(left, right) or left, types)
            common = type_ if WIDENED[node.name] == "result" else common
            parts = [_widened(part, common) for part in parts]
        elif WIDENED.get(node.name) is None and node.name in _DOUBLES:
            parts = [_widened(part, "f64") for part in parts]
        return _Compiled(BUILD[node.name]([part.read for part in parts], types, node), type_)

    def _arithmetic(self, name: str, parts: list[_Compiled]) -> _Compiled:
        types = [part.type for part in parts]
        if "f64" in types:
            made = BUILD[name]([_widened(part, "f64").read for part in parts], ["f64"], None)
            return _Compiled(finite(made), "f64")
        made = narrowed(BUILD[name]([part.read for part in parts], types, None))
        if types.count("timestamp") != 1:
            return _Compiled(made, "duration" if {"timestamp", "duration"} & set(types) else "i64")

        def moment(row: Row) -> Any:
            value = made(row)
            return value if value is not None and MIN_MOMENT <= value <= MAX_MOMENT else None

        return _Compiled(moment, "timestamp")

    def _case(self, node: Case) -> _Compiled:
        result = type_of(node, self._columns)
        operand = self.compile(node.operand) if node.operand is not None else None
        branches = []
        for condition, value in node.branches:
            test = self.compile(condition)
            if operand is not None:
                common = unify(operand.type, test.type) or operand.type
                sides = [_widened(operand, common).read, _widened(test, common).read]
                test = _Compiled(BUILD["="](sides, [common, common], None), "bool")
            branches.append((test.read, _widened(self.compile(value), result).read))
        otherwise = node.otherwise if node.otherwise is not None else Literal("null", None)
        last = _widened(self.compile(otherwise), result).read

        def choose(row: Row) -> Any:
            for test, value in branches:
                if test(row):
                    return value(row)
            return last(row)

        return _Compiled(choose, result)


_DOUBLES = frozenset({"/", "ln", "log10", "exp", "sqrt", "sin", "cos", "power"})


def _constant(node: Literal) -> _Compiled:
    value = float(node.value) if node.type == "f64" and node.value is not None else node.value
    return _Compiled(lambda _row: value, node.type)


def _widened(part: _Compiled, type_: str) -> _Compiled:
    """The value as `type_`: integers as doubles; anything else is that type already, or null."""
    if part.type == "i64" and type_ == "f64":
        read = part.read
        return _Compiled(lambda row: None if (value := read(row)) is None else float(value), type_)
    return _Compiled(part.read, type_)


def _whole(value: float) -> int | None:
    return int(value) if -(2.0**63) <= value < 2.0**63 else None


_CASTS: dict[tuple[str, str], Callable[[Any], Any]] = {
    ("f64", "i64"): _whole,
    ("bool", "i64"): int,
    ("i64", "f64"): float,
    ("bool", "f64"): float,
    ("i64", "bool"): lambda value: value != 0,
    ("i64", "str"): str,
    ("bool", "str"): lambda value: "true" if value else "false",
}
"""Casts that Python makes as Polars does; the rest is made by the lowering."""
