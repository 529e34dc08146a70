"""Each operator and function as a Polars expression over its lowered arguments. Called by `lowering` only.

Every entry of `typing_rules.SIGNATURES` is here, or in `lowering` when it needs a stage of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeAlias

import polars as pl

from engine.features.syntax import Call, Literal
from engine.features.timestamps import TIMESTAMP, parse_timestamps
from engine.features.typing_rules import unify

DTYPES: dict[str, Any] = {
    "bool": pl.Boolean(),
    "i64": pl.Int64(),
    "f64": pl.Float64(),
    "str": pl.String(),
    "timestamp": TIMESTAMP,
    "duration": pl.Int64(),
    "null": pl.Null(),
}
_MICROSECONDS = {
    "microseconds": 1,
    "seconds": 10**6,
    "minutes": 60 * 10**6,
    "hours": 3600 * 10**6,
    "days": 86_400 * 10**6,
}
_MANY = 16


@dataclass(frozen=True, slots=True)
class Part:
    """A lowered sub-expression: readable once stages before `stage` have run; `raw` doubles may not be finite yet."""

    expr: pl.Expr
    type: str
    stage: int = 0
    raw: bool = False
    simple: bool = False


Args: TypeAlias = list[Part]
Build: TypeAlias = Callable[[Args, str, Call], pl.Expr]


def literal(value: Any, type_: str) -> Part:
    """A constant of exactly that type: never a decimal, never a narrower integer."""
    return Part(pl.lit(value, dtype=DTYPES[type_]), type_, simple=True)


def widen(part: Part, type_: str) -> Part:
    """The value as `type_`, which its own type unifies with."""
    if part.type == type_:
        return part
    return Part(part.expr.cast(DTYPES[type_]), type_, part.stage, part.raw)


def align(parts: Args) -> list[pl.Expr]:
    """The values as their common type."""
    common = reduce(lambda left, right: unify(left, right) or left, (part.type for part in parts))
    return [widen(part, common).expr for part in parts]


def wide(part: Part) -> pl.Expr:
    """An integer, a duration or a timestamp as 128 bits, where one operation cannot overflow."""
    whole = part.expr.dt.epoch("us") if part.type == "timestamp" else part.expr
    return whole.cast(pl.Int128)


def cast(expr: pl.Expr, source: str, target: str) -> pl.Expr:
    """CAST: what cannot be converted is null; doubles lose their fraction, towards zero."""
    match source, target:
        case "str", "timestamp":
            return parse_timestamps(expr)
        case "str", "bool":
            text = expr.str.strip_chars().str.to_lowercase()
            yes, no = text.is_in(["true", "t", "1"]), text.is_in(["false", "f", "0"])
            return pl.when(yes | no).then(yes)
        case "str", "i64" | "f64":
            return expr.str.strip_chars().cast(DTYPES[target], strict=False)
        case "i64", "bool":
            return expr != 0
        case "bool", "str":
            return pl.when(expr).then(pl.lit("true")).when(~expr).then(pl.lit("false"))
        case "timestamp", "str":
            return expr.dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
        case _:
            return expr.cast(DTYPES[target], strict=False)


_COMPARE: dict[str, Callable[[pl.Expr, pl.Expr], pl.Expr]] = {
    "=": lambda left, right: left == right,
    "<>": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


def compare(sign: str, left: pl.Expr, right: pl.Expr) -> pl.Expr:
    """A comparison with its constant on the right: on the left, Polars gives one row where the other side is all null."""
    if not left.meta.root_names() and right.meta.root_names():
        return _COMPARE[_MIRRORED.get(sign, sign)](right, left)
    return _COMPARE[sign](left, right)


def _compare(sign: str) -> Build:
    def build(args: Args, _type: str, _node: Call) -> pl.Expr:
        left, right = align(args)
        return compare(sign, left, right)

    return build


def _between(args: Args, _type: str, _node: Call) -> pl.Expr:
    value, low, high = align(args)
    return compare(">=", value, low) & compare("<=", value, high)


def _in(args: Args, _type: str, node: Call) -> pl.Expr:
    value, *items = align(args)
    constants = [item.value for item in node.args[1:] if isinstance(item, Literal)]
    if len(constants) == len(items) > _MANY and len({part.type for part in args}) == 1:
        return value.is_in(pl.Series(constants, dtype=DTYPES[args[0].type]).implode())
    tests = [compare("=", value, item) for item in items]
    while len(tests) > 1:  # a balanced tree: a long list must not nest deeply
        tests = [
            reduce(lambda left, right: left | right, tests[start : start + 2]) for start in range(0, len(tests), 2)
        ]
    return tests[0]


def _like(args: Args, _type: str, node: Call) -> pl.Expr:
    pattern = _text(node, 1)
    wild = {"%": ".*", "_": "."}
    expression = "".join(wild.get(letter) or re.escape(letter) for letter in pattern)
    return _string(args[0]).str.contains(f"(?s)^{expression}$")


def _nullif(args: Args, type_: str, _node: Call) -> pl.Expr:
    left, right = align(args)
    same = compare("=", left, right).fill_null(value=False)
    return pl.when(~same).then(args[0].expr).cast(DTYPES[type_])


def _round(args: Args, type_: str, node: Call) -> pl.Expr:
    if type_ != "f64":
        return args[0].expr
    places = _whole(node, 1) if len(node.args) == 2 else 0
    return args[0].expr.round(places, mode="half_away_from_zero")


def _substr(args: Args, _type: str, node: Call) -> pl.Expr:
    length = _whole(node, 2) if len(node.args) == 3 else None
    return _string(args[0]).str.slice(_whole(node, 1) - 1, length)


def _abs(args: Args, type_: str, _node: Call) -> pl.Expr:
    if type_ == "f64":
        return args[0].expr.abs()
    return wide(args[0]).abs().cast(pl.Int64, strict=False)


def _modulo(args: Args, _type: str, _node: Call) -> pl.Expr:
    """The remainder of truncated division: it has the sign of the dividend, as in SQL; null for a zero divisor."""
    left, right = wide(args[0]), wide(args[1])
    rest = left.abs() % right.abs()
    return pl.when(left < 0).then(0 - rest).otherwise(rest).cast(pl.Int64, strict=False)


def _duration(args: Args, _type: str, node: Call) -> pl.Expr:
    unit = _MICROSECONDS[node.name]
    if args[0].type == "f64":
        micros = (args[0].expr * pl.lit(float(unit), dtype=pl.Float64)).round(0, mode="half_away_from_zero")
        return micros.cast(pl.Int64, strict=False)
    return (args[0].expr.cast(pl.Int128) * pl.lit(unit, dtype=pl.Int128)).cast(pl.Int64, strict=False)


def _calendar(read: Callable[[Any], pl.Expr]) -> Build:
    def build(args: Args, _type: str, node: Call) -> pl.Expr:
        zone = _text(node, 1) if len(node.args) == 2 else "UTC"
        moment = args[0].expr.cast(TIMESTAMP)
        local = moment if zone == "UTC" else moment.dt.convert_time_zone(zone)
        return read(local.dt).cast(pl.Int64)

    return build


def _parse(args: Args, _type: str, node: Call) -> pl.Expr:
    return parse_timestamps(_string(args[0]), _text(node, 1) if len(node.args) == 2 else None)


def _double(function: Callable[[pl.Expr], pl.Expr]) -> Build:
    return lambda args, _type, _node: function(widen(args[0], "f64").expr)


def _of_string(function: Callable[[Any], pl.Expr]) -> Build:
    return lambda args, _type, _node: function(_string(args[0]).str)


def _of_strings(function: Callable[[Any, pl.Expr], pl.Expr]) -> Build:
    return lambda args, _type, _node: function(_string(args[0]).str, _string(args[1]))


def _of_common(function: Callable[[list[pl.Expr]], pl.Expr]) -> Build:
    return lambda args, type_, _node: function([widen(part, type_).expr for part in args])


def _string(part: Part) -> pl.Expr:
    return widen(part, "str").expr


def _bool(part: Part) -> pl.Expr:
    return widen(part, "bool").expr


def _text(node: Call, index: int) -> str:
    argument = node.args[index]
    return str(argument.value) if isinstance(argument, Literal) else ""


def _whole(node: Call, index: int) -> int:
    argument = node.args[index]
    return int(argument.value or 0) if isinstance(argument, Literal) else 0


ARITHMETIC: dict[str, Callable[..., pl.Expr]] = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
    "neg": lambda value: 0 - value,
}
"""Operators on doubles as they are, and on integers in 128 bits."""

TWICE = frozenset({"between", "in", "%", "nullif", "parse_timestamp"})
"""Functions that use an argument more than once."""

NOT_FINITE = frozenset({"ln", "log10", "exp", "sqrt", "power", "round", "floor", "ceil"})
"""Functions whose double may not be finite or may be a negative zero, though their arguments are neither."""

BUILD: dict[str, Build] = {
    "=": _compare("="),
    "<>": _compare("<>"),
    "<": _compare("<"),
    "<=": _compare("<="),
    ">": _compare(">"),
    ">=": _compare(">="),
    "and": lambda args, _type, _node: _bool(args[0]) & _bool(args[1]),
    "or": lambda args, _type, _node: _bool(args[0]) | _bool(args[1]),
    "not": lambda args, _type, _node: ~_bool(args[0]),
    "is_null": lambda args, _type, _node: args[0].expr.is_null(),
    "is_not_null": lambda args, _type, _node: args[0].expr.is_not_null(),
    "between": _between,
    "in": _in,
    "like": _like,
    "||": _of_common(lambda values: pl.concat_str(values, ignore_nulls=False)),
    "concat": _of_common(lambda values: pl.concat_str(values, ignore_nulls=True)),
    "coalesce": _of_common(pl.coalesce),
    "least": _of_common(pl.min_horizontal),
    "greatest": _of_common(pl.max_horizontal),
    "nullif": _nullif,
    "%": _modulo,
    "abs": _abs,
    "sign": lambda args, type_, _node: args[0].expr.sign().cast(DTYPES[type_]),
    "round": _round,
    "floor": lambda args, type_, _node: args[0].expr.floor() if type_ == "f64" else args[0].expr,
    "ceil": lambda args, type_, _node: args[0].expr.ceil() if type_ == "f64" else args[0].expr,
    "ln": _double(lambda value: value.log()),
    "log10": _double(lambda value: value.log10()),
    "exp": _double(lambda value: value.exp()),
    "sqrt": _double(lambda value: value.sqrt()),
    "sin": _double(lambda value: value.sin()),
    "cos": _double(lambda value: value.cos()),
    "power": lambda args, _type, _node: widen(args[0], "f64").expr.pow(widen(args[1], "f64").expr),
    "length": _of_string(lambda text: text.len_chars().cast(pl.Int64)),
    "lower": _of_string(lambda text: text.to_lowercase()),
    "upper": _of_string(lambda text: text.to_uppercase()),
    "trim": _of_string(lambda text: text.strip_chars()),
    "substr": _substr,
    "starts_with": _of_strings(lambda text, other: text.starts_with(other)),
    "ends_with": _of_strings(lambda text, other: text.ends_with(other)),
    "contains": _of_strings(lambda text, other: text.contains(other, literal=True)),
    "minute": _calendar(lambda local: local.minute()),
    "hour": _calendar(lambda local: local.hour()),
    "weekday": _calendar(lambda local: local.weekday()),
    "day": _calendar(lambda local: local.day()),
    "day_of_year": _calendar(lambda local: local.ordinal_day()),
    "week": _calendar(lambda local: local.week()),
    "month": _calendar(lambda local: local.month()),
    "year": _calendar(lambda local: local.year()),
    **dict.fromkeys(_MICROSECONDS, _duration),
    "parse_timestamp": _parse,
}
