"""Collecting every mistake of a declaration as `Problem`s while compiling goes on. Used by the compilers only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.durations import microseconds
from engine.errors import Problem
from engine.features.expression import Expression, ExpressionError, canonical, check, parse
from engine.features.syntax import nearest

_SHOWN = 40


class Problems:
    """A growing list of problems; each `add` names the dotted path."""

    def __init__(self) -> None:
        self.found: list[Problem] = []

    def add(self, path: str, message: str, *, value: str | None = None, hint: str | None = None) -> None:
        """Record a mistake."""
        self.found.append(Problem(path, message, value=value, hint=hint))

    def unknown(self, path: str, what: str, value: str, known: Sequence[str]) -> None:
        """Record a name that is not among `known`."""
        self.found.append(
            Problem(
                path, f"unknown {what}", value=value, allowed=tuple(known)[:_SHOWN], suggestion=nearest(value, known)
            )
        )

    def refused(self, path: str, text: str, error: ExpressionError, hint: str | None = None) -> None:
        """Record an expression that was refused."""
        self.found.append(
            Problem(
                path,
                error.message,
                value=text,
                allowed=error.allowed[:_SHOWN],
                suggestion=error.suggestion,
                hint=hint,
            )
        )

    def parse(self, path: str, text: str) -> Expression | None:
        """Parse, or record why not."""
        try:
            return parse(text)
        except ExpressionError as error:
            self.refused(path, text, error)
            return None

    def typed(
        self, path: str, text: str, columns: Mapping[str, str], *, want: str | None = None
    ) -> tuple[Expression, str] | None:
        """Parse and type an expression, which must give `want` if that is set; or record why not."""
        tree = self.parse(path, text)
        if tree is None:
            return None
        try:
            found = check(tree, columns)
        except ExpressionError as error:
            self.refused(path, text, error)
            return None
        if want is not None and found != want:
            self.add(path, f"gives {found}, and {'a condition' if want == 'bool' else want} is needed", value=text)
            return None
        return canonical(tree), found

    def duration(self, path: str, text: str) -> int | None:
        """Parse a duration to microseconds, or record why not."""
        try:
            return microseconds(text)
        except ValueError as error:
            self.add(path, str(error), value=text)
            return None
