"""The expression tree: a few frozen nodes, what they are called, and how an expression is refused.

`parser` makes trees, `typing_rules` types them, `lowering` turns them into Polars. A tree is part of a feature
program, so it is stored as JSON and its shape is versioned with the program. Nothing here imports a data library.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import msgspec

from engine.errors import EngineError, ExitCode

Value: TypeAlias = bool | int | float | str | None


class Node(
    msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, tag_field="node", tag=str.lower
):
    """Base of all nodes. `offset` is the character where the node starts; it is 0 in a canonical tree."""


class Literal(Node, frozen=True):
    """A constant; `type` is a column type or `null`."""

    type: str
    value: Value
    offset: int = 0


class Column(Node, frozen=True):
    """A reference to a column; names are case-sensitive."""

    name: str
    offset: int = 0


class Call(Node, frozen=True):
    """An operator or a function of `typing_rules.SIGNATURES`, in lower case."""

    name: str
    args: tuple[Expression, ...]
    offset: int = 0


class Case(Node, frozen=True):
    """`CASE [operand] WHEN … THEN … ELSE … END`; `branches` are (condition or value, result)."""

    operand: Expression | None
    branches: tuple[tuple[Expression, Expression], ...]
    otherwise: Expression | None
    offset: int = 0


class Cast(Node, frozen=True):
    """`CAST(operand AS type)`; `type` is a column type of the specs."""

    operand: Expression
    type: str
    offset: int = 0


Expression: TypeAlias = Literal | Column | Call | Case | Cast


class ExpressionError(EngineError):
    """An expression that cannot be parsed or typed: `offset` counts characters from 0."""

    exit_code = ExitCode.USAGE

    def __init__(
        self, message: str, offset: int, *, allowed: Sequence[str] = (), suggestion: str | None = None
    ) -> None:
        self.offset = offset
        self.allowed = tuple(allowed)
        self.suggestion = suggestion
        super().__init__(f"at character {offset + 1}: {message}")


def children(node: Expression) -> tuple[Expression, ...]:
    """The direct sub-expressions of a node, in the order of the text."""
    match node:
        case Call():
            return node.args
        case Cast():
            return (node.operand,)
        case Case():
            parts = [part for branch in node.branches for part in branch]
            return tuple(part for part in (node.operand, *parts, node.otherwise) if part is not None)
        case _:
            return ()


def walk(node: Expression) -> Iterator[tuple[Expression, int]]:
    """Every node with its depth, without recursion."""
    pending = [(node, 1)]
    while pending:
        current, depth = pending.pop()
        yield current, depth
        pending.extend((child, depth + 1) for child in reversed(children(current)))


def canonical(node: Expression) -> Expression:
    """The same tree without offsets: equal for texts that differ in white space or the case of keywords only."""
    match node:
        case Literal():
            return Literal(node.type, node.value)
        case Column():
            return Column(node.name)
        case Call():
            return Call(node.name, tuple(canonical(argument) for argument in node.args))
        case Cast():
            return Cast(canonical(node.operand), node.type)
        case Case():
            return Case(
                canonical(node.operand) if node.operand is not None else None,
                tuple((canonical(condition), canonical(result)) for condition, result in node.branches),
                canonical(node.otherwise) if node.otherwise is not None else None,
            )


def nearest(name: str, known: Sequence[str]) -> str | None:
    """The known name that `name` was probably meant to be, ignoring case.

    >>> nearest("amuont", ["amount", "country"])
    'amount'
    """
    import difflib  # noqa: PLC0415 - for start-up time: only when something is wrong

    lowered = {candidate.lower(): candidate for candidate in known}
    found = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    return lowered[found[0]] if found else None
