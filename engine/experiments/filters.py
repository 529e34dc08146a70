"""Filter expressions over runs: `status = 'succeeded' and metrics.roc_auc > 0.7 and train.params.num_leaves in (31, 63)`.

Enters: text. Leaves: a predicate over a run's facts by dotted name, and the names that it asks for. A fact that a run
does not have makes a comparison false, and `x = null` true. Recursive descent over a dozen kinds of tokens; no Python is
evaluated. Called by `engine runs list` and `best`.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from engine.errors import UsageError

Facts: TypeAlias = Callable[[str], Any]
"""`facts(name)` gives a run's value, `None` when it has none."""
Predicate: TypeAlias = Callable[[Facts], bool]

_TOKEN = re.compile(
    r"\s*(?:(?P<number>-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?(?![\w.:-]))|(?P<text>'(?:[^']|'')*'|\"[^\"]*\")"
    r"|(?P<sign><=|>=|!=|<>|==|[=<>(),])|(?P<word>[\w@#/:-][\w.@#/:-]*))"
)
_SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_WORDS = {"true": True, "false": False, "null": None, "none": None}
_EXAMPLE = "as in: status = 'succeeded' and metrics.roc_auc > 0.7 and train.rounds in (20, 30) and not tags.old = 'yes'"


@dataclass(frozen=True, slots=True)
class Filter:
    """An expression, read: what it asks of a run, and which names it needs."""

    text: str
    accepts: Predicate
    names: frozenset[str]


def read_filter(text: str) -> Filter:
    """Read an expression; raises `UsageError` that shows where it cannot be read.

    >>> read_filter("a > 1 and b like 'x%'").accepts({"a": 2, "b": "xyz"}.get)
    True
    """
    reader = _Reader(text, list(_tokens(text)))
    accepts = reader.either()
    if reader.left:
        raise reader.error(f"`{reader.left[0].text}` was not expected here")
    return Filter(text, accepts, frozenset(reader.names))


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text.rstrip()):
        found = _TOKEN.match(text, at)
        if found is None or found.lastgroup is None:
            raise UsageError(f"{text}\n{' ' * at}^ cannot be read", hint=_EXAMPLE)
        yield _Token(found.lastgroup, found[found.lastgroup], found.start(found.lastgroup))
        at = found.end()


class _Reader:
    def __init__(self, text: str, tokens: list[_Token]) -> None:
        self._text = text
        self.left = tokens
        self.names: set[str] = set()

    def either(self) -> Predicate:
        parts = [self._both()]
        while self._take_word("or"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else lambda facts: any(part(facts) for part in parts)

    def _both(self) -> Predicate:
        parts = [self._one()]
        while self._take_word("and"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else lambda facts: all(part(facts) for part in parts)

    def _one(self) -> Predicate:
        if self._take_word("not"):
            inner = self._one()
            return lambda facts: not inner(facts)
        if self._take_sign("("):
            inner = self.either()
            self._need(")")
            return inner
        return self._comparison()

    def _comparison(self) -> Predicate:
        name = self._next("a name such as status, metrics.roc_auc or train.params.num_leaves")
        if name.kind != "word":
            raise self.error(f"`{name.text}` is not a name", name)
        self.names.add(name.text)
        negated = self._take_word("not")
        if self._take_word("in"):
            values = self._list()
            return lambda facts: any(_same(facts(name.text), value) for value in values) != negated
        if self._take_word("like"):
            pattern = _like(str(self._value()))
            return lambda facts: (pattern.fullmatch(str(facts(name.text) or "")) is not None) != negated
        sign = self._next("a comparison (=, !=, <, <=, >, >=, like, in)")
        if sign.text not in _SIGNS or negated:
            raise self.error(f"`{sign.text}` is no comparison", sign)
        return _compare(name.text, sign.text, self._value())

    def _list(self) -> list[Any]:
        self._need("(")
        values = [self._value()]
        while self._take_sign(","):
            values.append(self._value())
        self._need(")")
        return values

    def _value(self) -> Any:
        token = self._next("a value")
        if token.kind == "number":
            return float(token.text)
        if token.kind == "text":
            return token.text[1:-1].replace("''", "'")
        if token.kind == "word":
            return _WORDS.get(token.text.lower(), token.text)
        raise self.error(f"`{token.text}` is no value", token)

    def _next(self, wanted: str) -> _Token:
        if not self.left:
            raise self.error(f"{wanted} is missing at the end")
        return self.left.pop(0)

    def _need(self, sign: str) -> None:
        if not self._take_sign(sign):
            raise self.error(f"`{sign}` is missing")

    def _take_word(self, word: str) -> bool:
        return self._take("word", word)

    def _take_sign(self, sign: str) -> bool:
        return self._take("sign", sign)

    def _take(self, kind: str, text: str) -> bool:
        if self.left and self.left[0].kind == kind and self.left[0].text.lower() == text:
            self.left.pop(0)
            return True
        return False

    def error(self, words: str, token: _Token | None = None) -> UsageError:
        token = token or (self.left[0] if self.left else None)
        at = token.at if token is not None else len(self._text)
        return UsageError(f"{self._text}\n{' ' * at}^ {words}", hint=_EXAMPLE)


def _compare(name: str, sign: str, value: Any) -> Predicate:
    compare, right = _SIGNS[sign], _number(value)
    if compare in {operator.eq, operator.ne}:
        return lambda facts: _same(facts(name), value) == (compare is operator.eq)

    def ordered(facts: Facts) -> bool:
        found = facts(name)
        left = _number(found)
        if left is not None and right is not None:
            return compare(left, right)
        return found is not None and isinstance(value, str) and compare(str(found), value)

    return ordered


def _same(found: Any, value: Any) -> bool:
    """Compare as numbers where both are, else as texts: `run = 7` and `run = '7'` mean the same."""
    if found is None or value is None:
        return found is value
    if isinstance(found, bool) or isinstance(value, bool):
        return str(found).lower() == str(value).lower()
    left, right = _number(found), _number(value)
    if left is not None and right is not None:
        return left == right
    return str(found) == str(value)


def _number(value: Any) -> float | None:
    if type(value) is float:  # what metrics are; the rest of this is for the few others
        return value
    if isinstance(value, bool) or value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _like(pattern: str) -> re.Pattern[str]:
    return re.compile("".join({"%": ".*", "_": "."}.get(letter, re.escape(letter)) for letter in pattern), re.DOTALL)
