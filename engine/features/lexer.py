"""Text to tokens. Called by `parser`; refuses characters, comments and qualified names with their offset."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from engine.features.syntax import ExpressionError

TokenKind = Literal["number", "string", "name", "quoted", "keyword", "operator", "end"]

KEYWORDS = frozenset(
    "and or not is null in between like case when then else end cast as true false interval".split()  # noqa: SIM905
)
_PATTERN = re.compile(
    r"""(?P<space>\s+)
      | (?P<number>(?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d+)?|\d+(?:[eE][+-]?\d+)?)
      | (?P<string>'(?:[^']|'')*')
      | (?P<quoted>"(?:[^"]|"")+")
      | (?P<name>[A-Za-z_]\w*)
      | (?P<operator><>|!=|<=|>=|==|\|\||[-+*/%=<>(),.])
    """,
    re.VERBOSE,
)
_HINTS = {
    "'": "this string is not closed",
    '"': "this quoted name is not closed",
    ";": "an expression is one value, not a statement",
    "`": 'quote a name as in "name"',
    "$": "parameters are not part of an expression",
    ":": "write CAST(x AS type)",
    "^": "write POWER(x, y)",
    "&": "write AND",
    "|": "write OR, or || to join texts",
    "!": "write NOT, or <> to compare",
}


@dataclass(frozen=True, slots=True)
class Token:
    """One token; `text` is lower case for keywords, without its quotes for strings and quoted names."""

    kind: TokenKind
    text: str
    offset: int


def tokenize(text: str) -> list[Token]:
    """Split an expression into tokens, the last of kind `end`; raises `ExpressionError`.

    >>> [token.text for token in tokenize("a >= 'it''s'")]
    ['a', '>=', "it's", '']
    """
    tokens: list[Token] = []
    position = 0
    while position < len(text):
        match = _PATTERN.match(text, position)
        if match is None:
            raise ExpressionError(_refusal(text, position), position)
        if match.lastgroup != "space":
            tokens.append(_token(match))
        position = match.end()
    tokens.append(Token("end", "", len(text)))
    return tokens


def _token(match: re.Match[str]) -> Token:
    kind, text, offset = match.lastgroup, match.group(), match.start()
    if kind == "operator" and text in {"==", "."}:
        meant = {"==": "write = to compare", ".": "write the column's name alone, without its source"}[text]
        raise ExpressionError(f"unexpected `{text}`: {meant}", offset)
    match kind:
        case "number":
            return Token("number", text, offset)
        case "string":
            return Token("string", text[1:-1].replace("''", "'"), offset)
        case "quoted":
            return Token("quoted", text[1:-1].replace('""', '"'), offset)
        case "name":
            return Token("keyword", text.lower(), offset) if text.lower() in KEYWORDS else Token("name", text, offset)
        case _:
            return Token("operator", "<>" if text == "!=" else text, offset)


def _refusal(text: str, position: int) -> str:
    hint = _HINTS.get(text[position])
    return f"unexpected {text[position]!r}" + (f": {hint}" if hint else "")
