"""What differs between two feature programs, feature by feature, with both values. Pure; for refusals and plans.

A state that was materialised for one program, or a package that was edited, must not be served with another: whoever
refuses says which feature differs, and how.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from engine.features.describe import show_duration
from engine.features.expression import render
from engine.features.steps import AnyStep, FeatureProgram

_DURATIONS = {"window", "max_age", "horizon", "maturity", "delay"}
_TREES = {"expr", "of", "where"}


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that differs: of which feature (or source, request field, label), which part of it, and both values."""

    feature: str
    part: str
    left: str
    right: str

    def __str__(self) -> str:
        if self.part == "is":
            return f"{self.feature}: {self.left} -> {self.right}"
        return f"{self.feature}.{self.part}: {self.left} -> {self.right}"


def differences(left: FeatureProgram, right: FeatureProgram) -> tuple[Difference, ...]:
    """Every difference, features first; empty exactly when the programs are equal."""
    found = [*_features(left, right)]
    found += _mapping("request field ", left.spine.request, right.spine.request)
    for name in sorted(left.sources.keys() | right.sources.keys()):
        one, other = left.sources.get(name), right.sources.get(name)
        if one is None or other is None:
            found.append(_presence(f"source {name}", one is not None))
        else:
            found += _fields(f"source {name}", _plain(one), _plain(other))
    found += _fields("spine", _plain(left.spine, "request"), _plain(right.spine, "request"))
    if left.label is not None and right.label is not None:
        found += _fields("label", _plain(left.label), _plain(right.label))
    elif left.label is not right.label:
        found.append(_presence("label", left.label is not None))
    if not found and left.digest != right.digest:
        order = ", ".join(left.order), ", ".join(right.order)
        found.append(Difference(feature="features", part="order", left=order[0], right=order[1]))
    return tuple(found)


def _features(left: FeatureProgram, right: FeatureProgram) -> Iterator[Difference]:
    for name in dict.fromkeys((*left.order, *right.order)):
        one, other = left.by_name.get(name), right.by_name.get(name)
        if one is not None and other is not None:
            yield from _fields(name, _step(one), _step(other))
        else:
            yield _presence(name, one is not None)
            twin = _twin(one or other, right if one is not None else left)
            if one is not None and twin is not None:
                yield from _fields(f"{name} and {twin.name}", _step(one), _step(twin))


def _twin(step: AnyStep | None, other: FeatureProgram) -> AnyStep | None:
    """The feature of the other program that is this one but for its window, which is in the name."""
    if step is None:
        return None
    mine = _step(step)
    for name in other.order:
        theirs = _step(other.by_name[name])
        if {key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key)} == {"window"}:
            return other.by_name[name]
    return None


def _step(step: AnyStep) -> dict[str, Any]:
    return _plain(step, "name")


def _plain(value: msgspec.Struct, *without: str) -> dict[str, Any]:
    """The parts of a compiled value as people write them."""
    plain: dict[str, Any] = {"kind": type(value).__name__.lower()}
    for name in value.__struct_fields__:
        part = getattr(value, name)
        if name in without or part is None:
            continue
        if name in _DURATIONS:
            plain[name] = show_duration(part)
        elif name in _TREES:
            plain[name] = render(part)
        else:
            plain[name] = msgspec.to_builtins(part)
    return plain


def _fields(of: str, left: Mapping[str, Any], right: Mapping[str, Any]) -> Iterator[Difference]:
    for part in dict.fromkeys((*left, *right)):
        if left.get(part) != right.get(part):
            yield Difference(feature=of, part=part, left=_show(left.get(part)), right=_show(right.get(part)))


def _mapping(of: str, left: Mapping[str, str], right: Mapping[str, str]) -> Iterator[Difference]:
    for name in dict.fromkeys((*left, *right)):
        if left.get(name) != right.get(name):
            yield Difference(feature=of + name, part="is", left=_show(left.get(name)), right=_show(right.get(name)))


def _presence(of: str, there: bool) -> Difference:  # noqa: FBT001 - a value of the difference, not a switch
    return Difference(feature=of, part="is", left="there" if there else "absent", right="absent" if there else "there")


def _show(value: Any) -> str:
    return "none" if value is None else value if isinstance(value, str) else msgspec.json.encode(value).decode()
