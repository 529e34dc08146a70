"""A Pratt parser for SQL scalar expressions: text in, tree out. Called by `expression.parse`.

Binding, loosest first: OR; AND; NOT; comparisons, IS, IN, BETWEEN, LIKE; ||; + -; * / %; unary minus. Aggregates,
window functions and subqueries are refused by name: each has its own place in a pipeline, where time is respected.
"""

from __future__ import annotations

import math

from engine.features.lexer import Token, tokenize
from engine.features.syntax import Call, Case, Cast, Column, Expression, ExpressionError, Literal, nearest, walk
from engine.features.typing_rules import SIGNATURES
from engine.features.vocabulary import (
    AGGREGATES,
    CAST_TYPES,
    CHANGING,
    INTERVAL_UNITS,
    MOMENTS,
    OTHER_NAMES,
    QUERY_WORDS,
    WINDOW_FUNCTIONS,
    WINDOW_WORDS,
)

MAX_DEPTH = 80
_COMPARISON = 40
_NOT = 30
_BINDING = {
    "or": 10,
    "and": 20,
    "is": _COMPARISON,
    "in": _COMPARISON,
    "between": _COMPARISON,
    "like": _COMPARISON,
    "not": _COMPARISON,
    "=": _COMPARISON,
    "<>": _COMPARISON,
    "<": _COMPARISON,
    "<=": _COMPARISON,
    ">": _COMPARISON,
    ">=": _COMPARISON,
    "||": 50,
    "+": 60,
    "-": 60,
    "*": 70,
    "/": 70,
    "%": 70,
}
_UNARY = 80
_INT_LIMIT = 2**63


def parse_text(text: str) -> Expression:
    """Parse one expression; raises `ExpressionError` with the character where it went wrong."""
    parser = _Parser(tokenize(text))
    tree = parser.expression(0)
    parser.expect_end()
    for node, depth in walk(tree):
        if depth > MAX_DEPTH:
            raise ExpressionError(
                f"nested deeper than {MAX_DEPTH} levels: split it into several features, or use IN for a list",
                node.offset,
            )
    return tree


class _Parser:
    """Consumes tokens from left to right; one instance a text."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._position = 0
        self._depth = 0

    # --- reading tokens ---

    @property
    def _next(self) -> Token:
        return self._tokens[self._position]

    def _take(self) -> Token:
        token = self._next
        if token.kind != "end":
            self._position += 1
        return token

    def _accept(self, *texts: str) -> bool:
        """Take the texts if they come next, all of them."""
        ahead = self._tokens[self._position : self._position + len(texts)]
        if len(ahead) == len(texts) and all(
            token.kind in {"keyword", "operator"} and token.text == text
            for token, text in zip(ahead, texts, strict=True)
        ):
            self._position += len(texts)
            return True
        return False

    def _expect(self, text: str, where: str) -> None:
        if not self._accept(text):
            raise self._unexpected(f"`{text.upper()}` {where}")

    def expect_end(self) -> None:
        """Raise unless the whole text has been read."""
        if self._next.kind != "end":
            raise self._unexpected("an operator or the end")

    def _unexpected(self, wanted: str) -> ExpressionError:
        token = self._next
        if token.kind == "end":
            return ExpressionError(f"the expression ends where {wanted} is expected", token.offset)
        lowered = token.text.lower()
        if token.kind == "name" and lowered in WINDOW_WORDS:
            return ExpressionError(
                "window functions are not scalars: declare a feature with `from`, `of`, `agg` and `window`",
                token.offset,
            )
        if token.kind == "name" and lowered in QUERY_WORDS:
            return ExpressionError(
                "queries are not scalars: another source's value comes from a feature with `lookup` or `from`",
                token.offset,
            )
        return ExpressionError(f"found {token.text!r} where {wanted} is expected", token.offset)

    # --- the grammar ---

    def expression(self, binding: int) -> Expression:
        """Parse everything that binds tighter than `binding`."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ExpressionError(f"nested deeper than {MAX_DEPTH} levels: split it into features", self._next.offset)
        left = self._prefix()
        while True:
            token = self._next
            power = _BINDING.get(token.text, 0) if token.kind in {"keyword", "operator"} else 0
            if power <= binding:
                break
            left = self._infix(left, token, power)
        self._depth -= 1
        return left

    def _prefix(self) -> Expression:
        token = self._next
        match token.kind:
            case "number":
                return _number(self._take(), "")
            case "string":
                self._take()
                return Literal("str", token.text, token.offset)
            case "quoted":
                self._take()
                return Column(token.text, token.offset)
            case "name":
                return self._name()
            case "keyword":
                return self._keyword()
            case "operator":
                return self._sign()
            case _:
                raise self._unexpected("a value")

    def _sign(self) -> Expression:
        token = self._next
        if self._accept("("):
            if self._next.kind == "name" and self._next.text.lower() == "select":
                raise self._unexpected("a value")
            inner = self.expression(0)
            self._expect(")", "to close the parenthesis")
            return inner
        if self._accept("-"):
            if self._next.kind == "number":
                return _number(self._take(), "-", token.offset)
            return Call("neg", (self.expression(_UNARY),), token.offset)
        if self._accept("+"):
            return self.expression(_UNARY)
        raise self._unexpected("a value")

    def _keyword(self) -> Expression:
        token = self._take()
        match token.text:
            case "true" | "false":
                return Literal("bool", token.text == "true", token.offset)
            case "null":
                return Literal("null", None, token.offset)
            case "not":
                return Call("not", (self.expression(_NOT),), token.offset)
            case "case":
                return self._case(token)
            case "cast":
                return self._cast(token)
            case "interval":
                return self._interval(token)
            case _:
                self._position -= 1
                raise self._unexpected("a value")

    def _name(self) -> Expression:
        token = self._take()
        if not self._accept("("):
            if token.text.lower() in MOMENTS:
                raise _moment(token)
            if token.text.lower() == "select":
                self._position -= 1
                raise self._unexpected("a value")
            return Column(token.text, token.offset)
        name = token.text.lower()
        _known_function(token)
        arguments: list[Expression] = []
        if not self._accept(")"):
            arguments.append(self.expression(0))
            while self._accept(","):
                arguments.append(self.expression(0))
            self._expect(")", f"to close {name.upper()}(")
        if name == "pi" and not arguments:
            return Literal("f64", math.pi, token.offset)
        return Call(OTHER_NAMES.get(name, name), tuple(arguments), token.offset)

    def _infix(self, left: Expression, token: Token, power: int) -> Expression:
        self._take()
        match token.text:
            case "is":
                negated = self._accept("not")
                self._expect("null", "after IS")
                return Call("is_not_null" if negated else "is_null", (left,), left.offset)
            case "not":
                return Call("not", (self._negated(left),), left.offset)
            case "in":
                return self._in(left)
            case "between":
                return self._between(left)
            case "like":
                return Call("like", (left, self.expression(_COMPARISON)), left.offset)
            case operator:
                return Call(operator, (left, self.expression(power)), token.offset)

    def _negated(self, left: Expression) -> Expression:
        if self._accept("in"):
            return self._in(left)
        if self._accept("between"):
            return self._between(left)
        if self._accept("like"):
            return Call("like", (left, self.expression(_COMPARISON)), left.offset)
        raise self._unexpected("IN, BETWEEN or LIKE after NOT")

    def _in(self, left: Expression) -> Expression:
        self._expect("(", "after IN")
        if self._next.kind == "name" and self._next.text.lower() == "select":
            raise self._unexpected("a value")
        items = [self.expression(0)]
        while self._accept(","):
            items.append(self.expression(0))
        self._expect(")", "to close the list of IN")
        return Call("in", (left, *items), left.offset)

    def _between(self, left: Expression) -> Expression:
        low = self.expression(_COMPARISON)
        self._expect("and", "between the limits of BETWEEN")
        return Call("between", (left, low, self.expression(_COMPARISON)), left.offset)

    def _case(self, token: Token) -> Expression:
        starts = self._next.kind == "keyword" and self._next.text == "when"
        operand = None if starts else self.expression(0)
        branches: list[tuple[Expression, Expression]] = []
        while self._accept("when"):
            condition = self.expression(0)
            self._expect("then", "after the condition of WHEN")
            branches.append((condition, self.expression(0)))
        if not branches:
            raise self._unexpected("WHEN")
        otherwise = self.expression(0) if self._accept("else") else None
        self._expect("end", "to close CASE")
        return Case(operand, tuple(branches), otherwise, token.offset)

    def _cast(self, token: Token) -> Expression:
        self._expect("(", "after CAST")
        operand = self.expression(0)
        self._expect("as", "in CAST(x AS type)")
        name = self._take()
        target = CAST_TYPES.get(name.text.lower()) if name.kind == "name" else None
        if target is None:
            allowed = ("bigint", "double", "varchar", "boolean", "timestamp")
            raise ExpressionError(
                f"{name.text!r} is not a type to cast to",
                name.offset,
                allowed=allowed,
                suggestion=nearest(name.text, tuple(CAST_TYPES)),
            )
        self._expect(")", "to close CAST(")
        return Cast(operand, target, token.offset)

    def _interval(self, token: Token) -> Expression:
        text = self._take()
        words = text.text.split() if text.kind == "string" else []
        if text.kind == "string" and len(words) == 1 and self._next.kind == "name":
            words.append(self._take().text)
        unit = INTERVAL_UNITS.get(words[1].lower().removesuffix("s")) if len(words) == 2 else None
        if unit is None or not words[0].removeprefix("-").isdecimal():
            raise ExpressionError(
                "an interval is a whole number and a unit, as in INTERVAL '5 minutes'",
                text.offset,
                allowed=tuple(f"{name}s" for name in INTERVAL_UNITS),
            )
        return Call("microseconds", (_integer(int(words[0]) * unit, token.offset),), token.offset)


def _number(token: Token, sign: str, offset: int | None = None) -> Literal:
    start = token.offset if offset is None else offset
    if token.text.isdecimal():
        return _integer(int(sign + token.text), start)
    value = float(sign + token.text)
    if not math.isfinite(value):
        raise ExpressionError(f"{token.text} is too large for a double", start)
    return Literal("f64", value, start)


def _integer(value: int, offset: int) -> Literal:
    if not -_INT_LIMIT <= value < _INT_LIMIT:
        raise ExpressionError(f"{value} does not fit in 64 bits: write it with a decimal point", offset)
    return Literal("i64", value, offset)


def _known_function(token: Token) -> None:
    name = token.text.lower()
    if name in SIGNATURES and SIGNATURES[name].callable:
        return
    if name in OTHER_NAMES or name == "pi":
        return
    if name in AGGREGATES:
        raise ExpressionError(
            f"{name.upper()} is an aggregate, not a scalar: declare a feature with `from`, `of`, `agg` and `window`"
            + (" (of two values, LEAST or GREATEST)" if name in {"min", "max"} else ""),
            token.offset,
        )
    if name in WINDOW_FUNCTIONS:
        raise ExpressionError(
            f"{name.upper()} is a window function, not a scalar: declare a feature with `from`, `agg` and `window`",
            token.offset,
        )
    if name in CHANGING:
        raise _moment(token)
    known = tuple(sorted(key.upper() for key, signature in SIGNATURES.items() if signature.callable))
    meant = nearest(name, known)
    raise ExpressionError(f"unknown function {name.upper()}", token.offset, allowed=known, suggestion=meant)


def _moment(token: Token) -> ExpressionError:
    return ExpressionError(
        f"{token.text.upper()} differs from run to run: use `event_time`, the time of the row", token.offset
    )
