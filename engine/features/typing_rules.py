"""Which operators and functions an expression may use, and the type each gives. Called by `parser` and `expression`.

Types are the column types of the specs, plus `duration` (inside expressions only) and `null` (the type of NULL).
Integers and doubles mix and give doubles; `/` always gives a double; everything else converts by CAST only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from engine.features.syntax import Expression, ExpressionError, Literal

Types: TypeAlias = Sequence[str]
Rule: TypeAlias = Callable[["Site"], str]
NUMERIC = ("i64", "f64")
NAMES = {"i64": "bigint", "f64": "double", "str": "varchar", "bool": "boolean"}
MAX_DECIMALS = 12
FORMAT_PARTS = ("%Y", "%m", "%b", "%d", "%j", "%H", "%M", "%S", "%.f", "%z", "%#z", "%%")


@dataclass(frozen=True, slots=True)
class Site:
    """One use of a function: its name as people write it, its arguments, their types."""

    shown: str
    args: tuple[Expression, ...]
    types: tuple[str, ...]

    def refuse(self, index: int, wanted: str) -> ExpressionError:
        """The error for argument `index`."""
        found = NAMES.get(self.types[index], self.types[index])
        hint = ""
        if self.types[index] == "str" and "timestamp" in wanted:
            hint = ": write CAST(x AS timestamp) or PARSE_TIMESTAMP(x)"
        elif self.types[index] == "bool" and "number" in wanted:
            hint = ": write CAST(x AS bigint)"
        return ExpressionError(f"{self.shown} takes {wanted}, not {found}{hint}", self.args[index].offset)

    def require(self, index: int, types: Types, wanted: str) -> str:
        """The type of argument `index`, which must be one of `types` or null."""
        if self.types[index] not in (*types, "null"):
            raise self.refuse(index, wanted)
        return self.types[index]

    def literal(self, index: int, type_: str, wanted: str) -> Literal:
        """Argument `index`, which must be written as a constant."""
        argument = self.args[index]
        if not (isinstance(argument, Literal) and argument.type == type_):
            raise ExpressionError(f"{self.shown} takes {wanted}, written as a constant", argument.offset)
        return argument


@dataclass(frozen=True, slots=True)
class Signature:
    """Number of arguments (`most` is None for any number), the rule that types them, and how people write it."""

    least: int
    most: int | None
    rule: Rule
    shown: str
    callable: bool = True


def unify(left: str, right: str) -> str | None:
    """The common type of two values, or None: null joins anything, integers widen to doubles."""
    if right in {left, "null"}:
        return left
    if left == "null":
        return right
    return "f64" if left in NUMERIC and right in NUMERIC else None


def _common(site: Site, first: int = 0) -> str:
    result = site.types[first]
    for index in range(first + 1, len(site.types)):
        joined = unify(result, site.types[index])
        if joined is None:
            raise site.refuse(index, f"values of one type, here {NAMES.get(result, result)}")
        result = joined
    return result


def _numbers(site: Site) -> str:
    for index in range(len(site.types)):
        site.require(index, NUMERIC, "numbers")
    return _common(site)


def _plus(site: Site) -> str:
    match site.types:
        case ("timestamp", "duration" | "null") | ("duration" | "null", "timestamp"):
            return "timestamp"
        case ("duration", "duration" | "null") | ("null", "duration"):
            return "duration"
        case ("timestamp", "i64" | "f64"):
            raise site.refuse(1, "a duration such as MINUTES(n)")
    return _numbers(site)


def _minus(site: Site) -> str:
    match site.types:
        case ("timestamp", "duration"):
            return "timestamp"
        case ("timestamp", "timestamp") | ("duration", "duration"):
            return "duration"
        case ("timestamp", "i64" | "f64"):
            raise site.refuse(1, "a timestamp or a duration such as MINUTES(n)")
        case ("timestamp" | "duration", "null") | ("null", "timestamp" | "duration"):
            raise ExpressionError("NULL has no type here: write CAST(NULL AS timestamp)", site.args[0].offset)
    return _numbers(site)


def _modulo(site: Site) -> str:
    site.require(0, ("i64",), "integers")
    site.require(1, ("i64",), "integers")
    return "i64"


def _division(site: Site) -> str:
    _numbers(site)
    return "f64"


def _negation(site: Site) -> str:
    return site.require(0, (*NUMERIC, "duration"), "a number or a duration")


def _comparison(site: Site) -> str:
    _common(site)
    return "bool"


def _membership(site: Site) -> str:
    for argument in site.args[1:]:
        if isinstance(argument, Literal) and argument.type == "null":
            raise ExpressionError("NULL is never IN a list: write IS NULL", argument.offset)
    return _comparison(site)


def _logic(site: Site) -> str:
    for index in range(len(site.types)):
        site.require(index, ("bool",), "conditions")
    return "bool"


def _anything(_site: Site) -> str:
    return "bool"


def _like(site: Site) -> str:
    site.require(0, ("str",), "a text")
    site.literal(1, "str", "a pattern")
    return "bool"


def _nullif(site: Site) -> str:
    _common(site)
    return site.types[0]


def _ordered(site: Site) -> str:
    common = _common(site)
    if common == "bool":
        raise site.refuse(0, "values that have an order")
    return common


def _number(site: Site) -> str:
    return site.require(0, NUMERIC, "a number")


def _double(site: Site) -> str:
    _numbers(site)
    return "f64"


def _round(site: Site) -> str:
    if len(site.args) == 2:
        places = site.literal(1, "i64", f"a number of decimals from 0 to {MAX_DECIMALS}")
        if not (isinstance(places.value, int) and 0 <= places.value <= MAX_DECIMALS):
            raise ExpressionError(f"{site.shown} takes 0 to {MAX_DECIMALS} decimals", places.offset)
    return _number(site)


def _texts(result: str) -> Rule:
    def rule(site: Site) -> str:
        for index in range(len(site.types)):
            site.require(index, ("str",), "texts: write CAST(x AS varchar)" if len(site.types) > 1 else "a text")
        return result

    return rule


def _substr(site: Site) -> str:
    site.require(0, ("str",), "a text")
    for index, least in ((1, 1), (2, 0)):
        if index < len(site.args):
            value = site.literal(index, "i64", "whole numbers").value
            if not (isinstance(value, int) and least <= value < 2**31):
                raise ExpressionError(f"{site.shown} counts characters from 1", site.args[index].offset)
    return "str"


def _calendar(site: Site) -> str:
    site.require(0, ("timestamp",), "a timestamp")
    if len(site.args) == 2:
        zone = site.literal(1, "str", "an IANA time zone")
        if not _is_zone(str(zone.value)):
            raise ExpressionError(
                f"{zone.value!r} is not an IANA time zone, such as 'America/New_York' or 'UTC'", zone.offset
            )
    return "i64"


def _is_zone(name: str) -> bool:
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - only for expressions that name a zone

    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        return False
    return "/" in name or name == "UTC"


def _epoch(site: Site) -> str:
    site.require(0, ("timestamp",), "a timestamp")
    return "f64"


def _between_times(site: Site) -> str:
    site.require(0, ("timestamp",), "timestamps")
    site.require(1, ("timestamp",), "timestamps")
    return "f64"


def _duration(site: Site) -> str:
    site.require(0, NUMERIC, "a number")
    return "duration"


def _parse_timestamp(site: Site) -> str:
    site.require(0, ("str",), "a text")
    if len(site.args) == 2:
        pattern = site.literal(1, "str", "a format such as '%Y-%m-%d %H:%M'")
        parts = re.findall(r"%(?:\.f|#z|.|$)", str(pattern.value))
        strange = [part for part in parts if part not in FORMAT_PARTS]
        if strange:
            raise ExpressionError(f"{strange[0]!r} is not a part of a format", pattern.offset, allowed=FORMAT_PARTS)
        date = "%Y" in parts and ({"%m", "%d"} <= set(parts) or {"%b", "%d"} <= set(parts) or "%j" in parts)
        if not date or ("%H" in parts) != ("%M" in parts):
            message = "a format names the year, the month and the day (%Y-%m-%d), and the hour with its minute (%H:%M)"
            raise ExpressionError(message, pattern.offset)
    return "timestamp"


def _operator(shown: str, rule: Rule, arity: int = 2) -> Signature:
    return Signature(arity, arity, rule, shown, callable=False)


SIGNATURES: dict[str, Signature] = {
    "+": _operator("+", _plus),
    "-": _operator("-", _minus),
    "*": _operator("*", _numbers),
    "/": _operator("/", _division),
    "%": _operator("%", _modulo),
    "neg": _operator("unary -", _negation, 1),
    **{sign: _operator(sign, _comparison) for sign in ("=", "<>", "<", "<=", ">", ">=")},
    "and": _operator("AND", _logic),
    "or": _operator("OR", _logic),
    "not": _operator("NOT", _logic, 1),
    "is_null": _operator("IS NULL", _anything, 1),
    "is_not_null": _operator("IS NOT NULL", _anything, 1),
    "between": _operator("BETWEEN", _comparison, 3),
    "in": Signature(2, None, _membership, "IN", callable=False),
    "like": _operator("LIKE", _like),
    "||": _operator("||", _texts("str")),
    "microseconds": _operator("INTERVAL", _duration, 1),
    "coalesce": Signature(1, None, _common, "COALESCE(x, …)"),
    "nullif": Signature(2, 2, _nullif, "NULLIF(x, y)"),
    "least": Signature(2, None, _ordered, "LEAST(x, y, …)"),
    "greatest": Signature(2, None, _ordered, "GREATEST(x, y, …)"),
    "abs": Signature(1, 1, _number, "ABS(x)"),
    "sign": Signature(1, 1, _number, "SIGN(x)"),
    "round": Signature(1, 2, _round, "ROUND(x[, decimals])"),
    "floor": Signature(1, 1, _number, "FLOOR(x)"),
    "ceil": Signature(1, 1, _number, "CEIL(x)"),
    **{name: Signature(1, 1, _double, f"{name.upper()}(x)") for name in ("ln", "log10", "exp", "sqrt", "sin", "cos")},
    "power": Signature(2, 2, _double, "POWER(x, y)"),
    "length": Signature(1, 1, _texts("i64"), "LENGTH(text)"),
    "lower": Signature(1, 1, _texts("str"), "LOWER(text)"),
    "upper": Signature(1, 1, _texts("str"), "UPPER(text)"),
    "trim": Signature(1, 1, _texts("str"), "TRIM(text)"),
    "substr": Signature(2, 3, _substr, "SUBSTR(text, start[, length])"),
    "concat": Signature(1, None, _texts("str"), "CONCAT(text, …)"),
    "starts_with": Signature(2, 2, _texts("bool"), "STARTS_WITH(text, text)"),
    "ends_with": Signature(2, 2, _texts("bool"), "ENDS_WITH(text, text)"),
    "contains": Signature(2, 2, _texts("bool"), "CONTAINS(text, text)"),
    **{
        name: Signature(1, 2, _calendar, f"{name.upper()}(timestamp[, 'zone'])")
        for name in ("minute", "hour", "weekday", "day", "day_of_year", "week", "month", "year")
    },
    "epoch_seconds": Signature(1, 1, _epoch, "EPOCH_SECONDS(timestamp)"),
    "hours_between": Signature(2, 2, _between_times, "HOURS_BETWEEN(from, to)"),
    **{name: Signature(1, 1, _duration, f"{name.upper()}(n)") for name in ("seconds", "minutes", "hours", "days")},
    "parse_timestamp": Signature(1, 2, _parse_timestamp, "PARSE_TIMESTAMP(text[, format])"),
}

CASTS = {
    "i64": ("i64", "f64", "bool", "str"),
    "f64": ("i64", "f64", "bool", "str"),
    "bool": ("bool", "i64", "str"),
    "str": ("str", "i64", "f64", "bool", "timestamp"),
    "timestamp": ("timestamp", "str"),
}
"""What each target type can be cast from."""
