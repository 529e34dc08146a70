"""What is known while features are compiled, and the checks that every kind shares: joins by key, and defaults.

Called by the compilers of features only; each check records its problem and gives None.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.features.expansion import Single
from engine.features.problems import Problems
from engine.features.source_compiler import KEY_TYPES
from engine.features.steps import SourceProgram
from engine.spec.features import Scalar, SpineSpec


@dataclass(slots=True)
class Scope:
    """What is known while compiling: sources (None for a broken one), the columns so far, what was refused."""

    sources: Mapping[str, SourceProgram | None]
    spine: SpineSpec
    problems: Problems
    singles: Mapping[str, Single]
    types: dict[str, str]
    encoded: frozenset[str] = frozenset()
    broken: set[str] = field(default_factory=set)

    def source(self, path: str, name: str) -> SourceProgram | None:
        """The compiled source, or None with the reason recorded (its own problems count as one)."""
        if name not in self.sources:
            self.problems.unknown(path, "source", name, tuple(self.sources))
            return None
        return self.sources[name]

    def explain_column(self, name: str) -> str | None:
        """Why a name that is no column of the frame cannot be read, when there is something to say."""
        if name in self.encoded:
            return f"`{name}` is encoded after all features are computed; no other feature can read it"
        own = self.sources.get(self.spine.source)
        if own is not None and name in own.columns:
            return f"`{name}` is not known when the prediction is made: it is not in spine.request"
        holders = [key for key, source in self.sources.items() if source is not None and name in source.columns]
        if holders:
            return (
                f"`{name}` is a column of source `{holders[0]}`: read it with a feature `lookup: {holders[0]}.{name}`"
            )
        return None


def join_on(
    scope: Scope, single: Single, source: SourceProgram, by: tuple[str, ...], on: Mapping[str, str]
) -> tuple[tuple[str, str], ...] | None:
    """Pair each key column with the frame's column that must equal it; None when one is missing or of another type."""
    before = len(scope.problems.found)
    for column in on:
        if column not in by:
            scope.problems.unknown(f"{single.path}.on.{column}", "key column", column, by)
    pairs = tuple((column, on.get(column, column)) for column in by)
    if len(set(by)) < len(by):
        scope.problems.add(f"{single.path}.by", "a key column is named twice")
    for column, target in pairs:
        path = f"{single.path}.on.{column}" if column in on else single.path
        if column not in source.columns:
            scope.problems.unknown(
                f"{single.path}.by", f"column of source `{source.name}`", column, tuple(source.columns)
            )
        elif target not in scope.types:
            _missing_target(scope, path, column, target)
        elif source.columns[column] != scope.types[target] or source.columns[column] not in KEY_TYPES:
            scope.problems.add(
                path,
                f"cannot join {source.name}.{column} ({source.columns[column]}) to `{target}` ({scope.types[target]}): "
                f"both must be of one type, one of {', '.join(KEY_TYPES)}",
            )
    return pairs if len(scope.problems.found) == before else None


def _missing_target(scope: Scope, path: str, column: str, target: str) -> None:
    reason = scope.explain_column(target)
    hint = f"add `{target}` to spine.request, or map it: `on: {{{column}: <request field>}}`"
    if reason is not None:
        scope.problems.add(path, reason, value=target, hint=None if target in scope.encoded else hint)
    else:
        scope.problems.unknown(path, f"request field or feature for the key `{column}`", target, tuple(scope.types))


def check_scalar(problems: Problems, path: str, value: Scalar | None, type_: str) -> Scalar | None:
    """A default as a value of the column's type, or None with the reason recorded."""
    match type_, value:
        case _, None:
            return None
        case ("bool", bool()) | ("str", str()):
            return value
        case "i64", int() if not isinstance(value, bool) and -(2**63) <= value < 2**63:
            return value
        case "f64", int() | float() if not isinstance(value, bool) and math.isfinite(value):
            return float(value)
        case _:
            problems.add(path, f"the value must be {type_}, as the feature is", value=str(value))
            return None
