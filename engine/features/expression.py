"""SQL scalar expressions: parse, check against typed columns, list the columns read, canonical JSON.

Text enters from the specs; a frozen tree leaves, for `lowering` to evaluate and for keys to depend on. Semantics:
null in, null out, except where SQL says otherwise; AND and OR are three-valued; division by zero, an integer that
leaves 64 bits, a double that is not finite and a timestamp outside the years 1 to 9999 give null; CONCAT, LEAST and
GREATEST ignore nulls. Nothing here imports a data library, so that checking a configuration stays fast.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import msgspec

from engine.features.lexer import KEYWORDS
from engine.features.parser import parse_text
from engine.features.syntax import (
    Call,
    Case,
    Cast,
    Column,
    Expression,
    ExpressionError,
    Literal,
    canonical,
    nearest,
    walk,
)
from engine.features.typing_rules import CASTS, NAMES, SIGNATURES, Site, unify
from engine.features.vocabulary import MOMENTS, QUERY_WORDS
from engine.keys import Json

__all__ = [
    "Expression",
    "ExpressionError",
    "canonical",
    "check",
    "columns_of",
    "from_json",
    "parse",
    "render",
    "to_json",
    "type_of",
]


def parse(text: str) -> Expression:
    """Parse an expression; raises `ExpressionError` with the offset, what is allowed and the nearest name.

    >>> sorted(columns_of(parse("amt / NULLIF(mean, 0) > 2 AND country IN ('NL', 'BE')")))
    ['amt', 'country', 'mean']
    """
    return parse_text(text)


def columns_of(expression: Expression) -> frozenset[str]:
    """The names of the columns that an expression reads."""
    return frozenset(node.name for node, _ in walk(expression) if isinstance(node, Column))


def check(expression: Expression, columns: Mapping[str, str]) -> str:
    """The column type of the result; raises `ExpressionError` for an unknown column or a type error.

    >>> check(parse("1 / 2"), {})
    'f64'
    """
    found = type_of(expression, columns)
    if found == "null":
        raise ExpressionError("the result is always NULL and has no type: write CAST(NULL AS double)", 0)
    if found == "duration":
        raise ExpressionError("the result is a duration: write HOURS_BETWEEN(from, to) to get a number", 0)
    return found


def type_of(expression: Expression, columns: Mapping[str, str]) -> str:
    """As `check`, for a sub-expression: `duration` and `null` are types here."""
    match expression:
        case Literal():
            return expression.type
        case Column():
            return _column_type(expression, columns)
        case Call():
            return _call_type(expression, columns)
        case Cast():
            return _cast_type(expression, columns)
        case Case():
            return _case_type(expression, columns)


def to_json(expression: Expression) -> Json:
    """Canonical JSON: the same for texts that differ in white space or the case of keywords only."""
    return cast("Json", msgspec.to_builtins(canonical(expression)))


def from_json(value: Json) -> Expression:
    """Read what `to_json` wrote; raises `ExpressionError`."""
    try:
        return cast("Expression", msgspec.convert(value, Expression))
    except msgspec.ValidationError as error:
        raise ExpressionError(f"not an expression tree: {error}", 0) from error


def _column_type(column: Column, columns: Mapping[str, str]) -> str:
    if column.name not in columns:
        raise ExpressionError(
            f"unknown column `{column.name}`",
            column.offset,
            allowed=tuple(sorted(columns)),
            suggestion=nearest(column.name, tuple(columns)),
        )
    return columns[column.name]


def _call_type(call: Call, columns: Mapping[str, str]) -> str:
    signature = SIGNATURES.get(call.name)
    if signature is None:
        raise ExpressionError(f"unknown function {call.name!r}", call.offset)
    if len(call.args) < signature.least or (signature.most is not None and len(call.args) > signature.most):
        raise ExpressionError(f"wrong number of arguments: write {signature.shown}", call.offset)
    types = tuple(type_of(argument, columns) for argument in call.args)
    shown = signature.shown.partition("(")[0]
    return signature.rule(Site(shown, call.args, types))


def _cast_type(node: Cast, columns: Mapping[str, str]) -> str:
    found = type_of(node.operand, columns)
    if found not in (*CASTS[node.type], "null"):
        shown, target = NAMES.get(found, found), NAMES.get(node.type, node.type)
        hint = {
            ("timestamp", "i64"): ": use EPOCH_SECONDS(x)",
            ("timestamp", "f64"): ": use EPOCH_SECONDS(x)",
            ("f64", "bool"): ": compare it, as in x <> 0",
        }
        raise ExpressionError(f"cannot cast {shown} to {target}{hint.get((found, node.type), '')}", node.offset)
    return node.type


def _case_type(node: Case, columns: Mapping[str, str]) -> str:
    operand = type_of(node.operand, columns) if node.operand is not None else None
    result = type_of(node.otherwise, columns) if node.otherwise is not None else "null"
    for condition, value in node.branches:
        found = type_of(condition, columns)
        if operand is None and found not in {"bool", "null"}:
            raise ExpressionError(
                f"WHEN takes a condition, not {NAMES.get(found, found)}: write CASE x WHEN … to compare with x",
                condition.offset,
            )
        if operand is not None and unify(operand, found) is None:
            raise ExpressionError(
                f"WHEN compares {NAMES.get(operand, operand)} with {NAMES.get(found, found)}", condition.offset
            )
        joined = unify(result, type_of(value, columns))
        if joined is None:
            raise ExpressionError("the results of CASE have different types: CAST them to one", value.offset)
        result = joined
    return result


def render(expression: Expression) -> str:
    """The expression as text, fully parenthesised; parses back to the same tree.

    >>> render(parse("a+b*2 is  not null"))
    '((a + (b * 2)) IS NOT NULL)'
    """
    match expression:
        case Literal():
            return _render_literal(expression)
        case Column():
            return (
                f'"{expression.name.replace(chr(34), chr(34) * 2)}"'
                if _must_quote(expression.name)
                else expression.name
            )
        case Cast():
            return f"CAST({render(expression.operand)} AS {NAMES.get(expression.type, expression.type)})"
        case Case():
            return _render_case(expression)
        case Call():
            return _render_call(expression)


def _must_quote(name: str) -> bool:
    return not (name.isidentifier() and name.isascii()) or name.lower() in KEYWORDS | QUERY_WORDS | MOMENTS


def _render_literal(node: Literal) -> str:
    match node.value:
        case None:
            return "NULL"
        case bool():
            return str(node.value).upper()
        case str():
            return "'" + node.value.replace("'", "''") + "'"
        case _:
            return repr(node.value)


def _render_case(node: Case) -> str:
    parts = ["CASE"] + ([render(node.operand)] if node.operand is not None else [])
    parts += [f"WHEN {render(condition)} THEN {render(result)}" for condition, result in node.branches]
    parts += [f"ELSE {render(node.otherwise)}"] if node.otherwise is not None else []
    return " ".join([*parts, "END"])


def _render_call(node: Call) -> str:
    args = [render(argument) for argument in node.args]
    match node.name:
        case "neg":
            return f"(-({args[0]}))"
        case "not":
            return f"(NOT {args[0]})"
        case "is_null" | "is_not_null":
            return f"({args[0]} {SIGNATURES[node.name].shown})"
        case "in":
            return f"({args[0]} IN ({', '.join(args[1:])}))"
        case "between":
            return f"({args[0]} BETWEEN {args[1]} AND {args[2]})"
        case "microseconds":
            return f"INTERVAL '{int(args[0]) // 10**6} seconds'"
        case name if not SIGNATURES[name].callable:
            return f"({args[0]} {SIGNATURES[name].shown} {args[1]})"
        case name:
            return f"{name.upper()}({', '.join(args)})"
