"""Compose many configurations that differ in little, as the trials of a sweep do: what they share is done once.

Files are read, merged and resolved once for each choice of groups; overrides are parsed once for each text. A trial
whose overrides only replace plain values of a configuration without interpolations shares everything else with the
others, value by value, so that `load_spec` can tell what it has converted before. Any other trial is composed as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.config.composed import ComposedConfig, Origin
from engine.config.composition import ROOT_KEYS, compose
from engine.config.folders import search_path
from engine.errors import ConfigError
from engine.project import Project

if TYPE_CHECKING:
    from engine.config.hydra_internals import Override
    from engine.config.repository import Repository


@dataclass(frozen=True, slots=True)
class _Read:
    """One override, read: whether it chooses an option of a group, and Hydra's own object."""

    group: bool
    override: Override


class Composer:
    """Composes configurations of one project; `compose` gives and raises what `engine.config.compose` does."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._reader: Repository | None = None
        self._read: dict[str, _Read | None] = {}
        self._bases: dict[tuple[str, ...], ComposedConfig] = {}

    def compose(self, overrides: Sequence[str]) -> ComposedConfig:
        """Compose one configuration."""
        reads = [self._look(text) for text in overrides]
        known = [read for read in reads if read is not None]
        if len(known) < len(reads) or not all(read.group or _is_plain(read.override) for read in known):
            return compose(self._project, overrides)
        groups = tuple(text for text, read in zip(overrides, known, strict=True) if read.group)
        base = self._base(groups)
        if base is None or _interpolates(base):
            return compose(self._project, overrides)
        values, origins = dict(base.values), dict(base.origins)
        for text, read in zip(overrides, known, strict=True):
            if not read.group and not _replace(values, origins, read.override, text):
                return compose(self._project, overrides)
        return ComposedConfig(values, origins, tuple(overrides), base.pipeline, base.file)

    def _look(self, text: str) -> _Read | None:
        """Read an override, once; `None` when something is wrong with it, which composing will tell."""
        if text not in self._read:
            from engine.config.overrides import read_overrides  # noqa: PLC0415 - Hydra costs a quarter of a second
            from engine.config.repository import Repository  # noqa: PLC0415

            if self._reader is None:
                self._reader = Repository(search_path(self._project))
            asked = read_overrides([text], self._reader, ROOT_KEYS)
            found = [*(_Read(True, item) for item in asked.groups), *(_Read(False, item) for item in asked.values)]  # noqa: FBT003
            self._read[text] = found[0] if found and not self._reader.problems else None
            self._reader.problems.clear()
        return self._read[text]

    def _base(self, groups: tuple[str, ...]) -> ComposedConfig | None:
        """Give the configuration of these options without any value, once; `None` when it cannot stand alone."""
        if groups not in self._bases:
            try:
                self._bases[groups] = compose(self._project, groups)
            except ConfigError:
                return None
        return self._bases[groups]


def _is_plain(override: Override) -> bool:
    """Say whether an override just sets a value that holds no interpolation."""
    return not (override.is_add() or override.is_delete() or "${" in str(override.input_line))


def _interpolates(base: ComposedConfig) -> bool:
    """Say whether any value was made from others: then replacing one may change another."""
    return any(origin.sources for origin in base.origins.values())


def _replace(values: dict[str, Any], origins: dict[str, Origin], override: Override, text: str) -> bool:
    """Set one value, copying only the mappings on its way; false when the way is not one of mappings that are there."""
    key, value = override.key_or_group, override.value()
    if isinstance(value, Mapping):
        return False
    *around, last = key.split(".")
    branch: dict[str, Any] = values
    for part in around:
        below = branch.get(part)
        if not isinstance(below, dict):
            return False
        branch[part] = dict(below)
        branch = branch[part]
    if isinstance(branch.get(last), dict):
        return False
    before = branch.get(last)
    branch[last] = _as_json(value)
    if isinstance(before, list):
        for path in [path for path in origins if path.startswith(f"{key}.")]:
            del origins[path]
    origin = Origin(override=text)
    origins[key] = origin
    if isinstance(value, list):
        origins.update({f"{key}.{index}": origin for index in range(len(value))})
    return not isinstance(value, list) or not any(isinstance(item, list | dict) for item in value)


def _as_json(value: Any) -> Any:
    """Give Hydra's quoted texts as texts."""
    if isinstance(value, list):
        return [_as_json(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float) else str(value)
