"""Each operator and function over plain values of one row: the counterpart of `lowered_functions`. Called by `scalars`.

A builder gets how to read its arguments (widened as `WIDENED` says), their types and the call; it gives how to read the
result. Null in, null out, unless a builder says otherwise.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from typing import Any, TypeAlias

from engine.features.scalar_lowering import by_lowering
from engine.features.scalar_times import calendar
from engine.features.syntax import Call, Column, Literal

Row: TypeAlias = list[Any]
Read: TypeAlias = Callable[[Row], Any]
Build: TypeAlias = Callable[[list[Read], list[str], Any], Read]

_INFINITY = math.inf
_WHITE = "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
_INTEGRAL = 2.0**52  # from here on every double is whole
_UNITS = {"microseconds": 1, "seconds": 10**6, "minutes": 60 * 10**6, "hours": 3600 * 10**6, "days": 86_400 * 10**6}


def finite(read: Read) -> Read:
    """The same, with null for a double that is not finite, and one zero."""

    def checked(row: Row) -> Any:
        value = read(row)
        return value + 0.0 if value is not None and -_INFINITY < value < _INFINITY else None

    return checked


def narrowed(read: Read) -> Read:
    """The same, with null for an integer that leaves 64 bits."""

    def checked(row: Row) -> Any:
        value = read(row)
        return value if value is not None and -(2**63) <= value < 2**63 else None

    return checked


def _one(function: Callable[[Any], Any]) -> Build:
    def build(args: list[Read], _types: list[str], _node: Any) -> Read:
        (read,) = args
        return lambda row: None if (value := read(row)) is None else function(value)

    return build


def _two(function: Callable[[Any, Any], Any]) -> Build:
    def build(args: list[Read], _types: list[str], _node: Any) -> Read:
        first, second = args

        def call(row: Row) -> Any:
            left = first(row)
            if left is None:
                return None
            right = second(row)
            return None if right is None else function(left, right)

        return call

    return build


def _guarded(function: Callable[[float], float]) -> Build:
    """A function of doubles that may have no finite value."""

    def guarded(value: float) -> float | None:
        try:
            made = function(value)
        except (ValueError, OverflowError):
            return None
        return made + 0.0 if -_INFINITY < made < _INFINITY else None

    return _one(guarded)


def _divided(left: float, right: float) -> float | None:
    if right == 0.0:
        return None
    made = left / right
    return made + 0.0 if -_INFINITY < made < _INFINITY else None


def _power(base: float, exponent: float) -> float | None:
    try:
        made = math.pow(base, exponent)
    except (ValueError, OverflowError):
        return None
    return made + 0.0 if -_INFINITY < made < _INFINITY else None


def _modulo(left: int, right: int) -> int | None:
    if right == 0:
        return None
    rest = abs(left) % abs(right)
    return -rest if left < 0 else rest


def _settled_by(*, settles: bool) -> Build:
    """AND (settled by false) and OR (by true): else null where one side is null."""

    def build(args: list[Read], _types: list[str], _node: Any) -> Read:
        first, second = args

        def call(row: Row) -> Any:
            left = first(row)
            if left is settles:
                return settles
            right = second(row)
            return settles if right is settles else None if left is None or right is None else not settles

        return call

    return build


def _between(args: list[Read], _types: list[str], _node: Any) -> Read:
    read, first, last = args

    def call(row: Row) -> Any:
        value = read(row)
        if value is None:
            return None
        low, high = first(row), last(row)
        if (low is not None and value < low) or (high is not None and value > high):
            return False
        return None if low is None or high is None else True

    return call


def _in(args: list[Read], _types: list[str], node: Call) -> Read:
    read, *items = args
    if all(isinstance(item, Literal) for item in node.args[1:]):
        constants = frozenset(item([]) for item in items)
        return lambda row: None if (value := read(row)) is None else value in constants

    def call(row: Row) -> Any:
        value = read(row)
        if value is None:
            return None
        others = [item(row) for item in items]
        return True if value in others else None if None in others else False

    return call


def _like(args: list[Read], _types: list[str], node: Call) -> Read:
    wild = {"%": ".*", "_": "."}
    pattern = "".join(wild.get(letter) or re.escape(letter) for letter in str(_constant(node, 1)))
    matches, read = re.compile(pattern, re.DOTALL).fullmatch, args[0]
    return lambda row: None if (value := read(row)) is None else matches(value) is not None


def _concat(args: list[Read], _types: list[str], _node: Any) -> Read:
    return lambda row: "".join([value for read in args if (value := read(row)) is not None])


def _coalesce(args: list[Read], _types: list[str], _node: Any) -> Read:
    def call(row: Row) -> Any:
        for read in args:
            value = read(row)
            if value is not None:
                return value
        return None

    return call


def _nullif(args: list[Read], types: list[str], _node: Any) -> Read:
    first, second = args
    narrow = types[0] == "i64" and types[1] == "f64"

    def call(row: Row) -> Any:
        value = first(row)
        if value is None:
            return None
        return None if (float(value) if narrow else value) == second(row) else value

    return call


def _extreme(better: Callable[[Any, Any], bool]) -> Build:
    """The best of the arguments that are not null."""

    def build(args: list[Read], _types: list[str], _node: Any) -> Read:
        def call(row: Row) -> Any:
            best = None
            for read in args:
                value = read(row)
                if value is not None and (best is None or better(value, best)):
                    best = value
            return best

        return call

    return build


def _round(args: list[Read], types: list[str], node: Call) -> Read:
    if types[0] != "f64":
        return args[0]
    scale = 10.0 ** (int(_constant(node, 1)) if len(node.args) == 2 else 0)
    if scale == 1.0:
        return _one(half_away)(args[:1], types, node)

    def rounded(value: float) -> float:
        scaled = value * scale
        return half_away(scaled) / scale + 0.0 if -_INFINITY < scaled < _INFINITY else value

    return _one(rounded)(args[:1], types, node)


def half_away(value: float) -> float:
    """The nearest whole number, halves away from zero."""
    if not -_INTEGRAL < value < _INTEGRAL:
        return value
    whole = float(math.trunc(value))
    return whole + math.copysign(1.0, value) if abs(value - whole) >= 0.5 else whole


def _of_type(whole: Build, double: Build) -> Build:
    return lambda args, types, node: (double if types[0] == "f64" else whole)(args, types, node)


def _same(args: list[Read], _types: list[str], _node: Any) -> Read:
    return args[0]


def _absolute(value: int) -> int | None:
    return abs(value) if value != -(2**63) else None


def _sign(value: float) -> float:
    return 1.0 if value > 0.0 else -1.0 if value < 0.0 else value


def _substr(args: list[Read], _types: list[str], node: Call) -> Read:
    start, read = int(_constant(node, 1)) - 1, args[0]
    end = start + int(_constant(node, 2)) if len(node.args) == 3 else None
    return lambda row: None if (value := read(row)) is None else value[start:end]


def _cased(name: str) -> Build:
    """ASCII as Python has it; the tables of other letters are those of Polars."""
    lowered = by_lowering(Call(name, (Column("0"),)), {"0": "str"})
    plain = str.lower if name == "lower" else str.upper
    return _one(lambda text: plain(text) if text.isascii() else lowered(text))


def _calendar(args: list[Read], types: list[str], node: Call) -> Read:
    zone = str(_constant(node, 1)) if len(node.args) == 2 else "UTC"
    return _one(calendar(node.name, zone))(args[:1], types, node)


def _duration(args: list[Read], types: list[str], node: Call) -> Read:
    unit = _UNITS[node.name]
    if types[0] != "f64":
        return narrowed(_one(lambda value: value * unit)(args, types, node))

    def micros(value: float) -> int | None:
        scaled = half_away(value * float(unit))
        return int(scaled) if -(2.0**63) <= scaled < 2.0**63 else None

    return _one(micros)(args, types, node)


def _parsed(args: list[Read], types: list[str], node: Call) -> Read:
    lowered = by_lowering(Call(node.name, (Column("0"), *node.args[1:])), {"0": "str"})
    return _one(lowered)(args[:1], types, node)


def _constant(node: Call, index: int) -> Any:
    argument = node.args[index]
    return argument.value if isinstance(argument, Literal) else None


WIDENED = {
    **dict.fromkeys(("=", "<>", "<", "<=", ">", ">=", "between", "in"), "common"),
    **dict.fromkeys(("coalesce", "least", "greatest"), "result"),
}
"""Functions whose arguments are brought to one type first: to their common one, or to that of the result."""

BUILD: dict[str, Build] = {
    "+": _two(operator.add),
    "-": _two(operator.sub),
    "*": _two(operator.mul),
    "neg": _one(lambda value: 0 - value),
    "/": _two(_divided),
    "%": _two(_modulo),
    "=": _two(operator.eq),
    "<>": _two(operator.ne),
    "<": _two(operator.lt),
    "<=": _two(operator.le),
    ">": _two(operator.gt),
    ">=": _two(operator.ge),
    "and": _settled_by(settles=False),
    "or": _settled_by(settles=True),
    "not": _one(operator.not_),
    "is_null": lambda args, _types, _node: lambda row: args[0](row) is None,
    "is_not_null": lambda args, _types, _node: lambda row: args[0](row) is not None,
    "between": _between,
    "in": _in,
    "like": _like,
    "||": _two(operator.add),
    "concat": _concat,
    "coalesce": _coalesce,
    "nullif": _nullif,
    "least": _extreme(lambda value, best: value < best),
    "greatest": _extreme(lambda value, best: value > best),
    "abs": _of_type(_one(_absolute), _one(abs)),
    "sign": _of_type(_one(lambda value: (value > 0) - (value < 0)), _one(_sign)),
    "round": _round,
    "floor": _of_type(_same, _one(lambda value: float(math.floor(value)))),
    "ceil": _of_type(_same, _one(lambda value: float(math.ceil(value)))),
    "ln": _guarded(math.log),
    "log10": _guarded(lambda value: math.log(value) / math.log(10.0)),
    "exp": _guarded(math.exp),
    "sqrt": _guarded(math.sqrt),
    "sin": _one(math.sin),
    "cos": _one(math.cos),
    "power": _two(_power),
    "length": _one(len),
    "lower": _cased("lower"),
    "upper": _cased("upper"),
    "trim": _one(lambda text: text.strip(_WHITE)),
    "substr": _substr,
    "starts_with": _two(lambda text, other: text.startswith(other)),
    "ends_with": _two(lambda text, other: text.endswith(other)),
    "contains": _two(lambda text, other: other in text),
    **dict.fromkeys(("minute", "hour", "weekday", "day", "day_of_year", "week", "month", "year"), _calendar),
    "epoch_seconds": _one(lambda moment: float(moment) / 1e6),
    "hours_between": _two(lambda start, end: float(end - start) / 3.6e9),
    **dict.fromkeys(_UNITS, _duration),
    "parse_timestamp": _parsed,
}
