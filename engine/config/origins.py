"""Provenance: the places of all values, merged in the order in which Hydra merges the files, overlaid by overrides.

Enters the files of the defaults list with their packages, then the overrides; leaves a map from path to `Origin`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from engine.config.composed import Origin
from engine.config.files import YamlFile
from engine.errors import Place


@dataclass(slots=True)
class _Branch:
    """One value being put together: where it was written, and what is below it; `keyed` when it is a mapping."""

    origin: Origin | None = None
    keyed: bool = False
    below: dict[str, _Branch] = field(default_factory=dict)


class OriginTree:
    """Collects origins; the last writer of a value wins, and a mapping merges into a mapping."""

    def __init__(self) -> None:
        self._root = _Branch(keyed=True)

    def add_file(self, file: YamlFile, package: str) -> None:
        """Overlay a file at its package (dotted, empty for the root)."""
        if file.root is None:
            return
        branch = self._root
        for key in package.split(".") if package else ():
            branch = branch.below.setdefault(key, _Branch(keyed=True))
            branch.keyed = True
            branch.origin = branch.origin or Origin(Place(file.name, 1, 1))
        _merge_mapping(branch, file.root, file, skip=frozenset({"defaults"}))

    def add_override(self, path: str, value: Any, override: str) -> None:
        """Overlay what an override set."""
        *around, last = path.split(".")
        branch = self._root
        for key in around:
            branch = branch.below.setdefault(key, _Branch(Origin(override=override), keyed=True))
            if not (branch.keyed or branch.below):  # a scalar that the override turns into a mapping
                branch.origin, branch.keyed = Origin(override=override), True
        _overlay(branch, last, value, Origin(override=override))

    def remove(self, path: str) -> None:
        """Forget what an override deleted."""
        *around, last = path.split(".")
        branch = self._root
        for key in around:
            branch = branch.below.get(key, _Branch())
        branch.below.pop(last, None)

    def flatten(self) -> dict[str, Origin]:
        """Give the origins by dotted path."""
        return dict(_flatten(self._root, ""))


def _merge_mapping(branch: _Branch, node: yaml.MappingNode, file: YamlFile, skip: frozenset[str] = frozenset()) -> None:
    for key, value in node.value:
        if key.value in skip:
            continue
        origin = Origin(file.place(key.start_mark))
        child = branch.below.get(key.value)
        if child is not None and isinstance(value, yaml.ScalarNode) and value.value == "???":
            continue  # "to be given" never replaces a value that has been given
        if isinstance(value, yaml.MappingNode) and child is not None and child.keyed:
            child.origin = origin
        else:
            child = branch.below[key.value] = _Branch(origin)
        _fill(child, value, file)


def _fill(branch: _Branch, node: yaml.Node, file: YamlFile) -> None:
    if isinstance(node, yaml.MappingNode):
        branch.keyed = True
        _merge_mapping(branch, node, file)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            child = branch.below[str(index)] = _Branch(Origin(file.place(item.start_mark)))
            _fill(child, item, file)


def _overlay(branch: _Branch, key: str, value: Any, origin: Origin) -> None:
    child = branch.below.get(key)
    if child is None or not (isinstance(value, Mapping) and child.keyed):
        child = branch.below[key] = _Branch(origin, keyed=isinstance(value, Mapping))
    child.origin = origin
    items: Sequence[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    for name, item in items:
        _overlay(child, str(name), item, origin)


def _flatten(branch: _Branch, path: str) -> Iterator[tuple[str, Origin]]:
    for key, child in branch.below.items():
        full = f"{path}.{key}" if path else key
        if child.origin is not None:
            yield full, child.origin
        yield from _flatten(child, full)
