"""Which model a command means: `pipeline=flights`, `model=flights@champion`, `model=flights:3`. Called by `serve` and `predict`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from engine.commands.arguments import split_overrides
from engine.errors import NotFoundError, UsageError
from engine.project import Project
from engine.records import ModelVersion
from engine.spec import StoresSpec
from engine.stores.registry import Registry

_MODEL = re.compile(r"model=(?P<name>[A-Za-z_]\w*)(?:@(?P<alias>[A-Za-z_]\w*)|:(?P<version>\d+))?")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A model by alias or version, and where the project's stores are."""

    project: Project
    model: str
    alias: str | None
    version: int | None
    stores: StoresSpec
    online: str | None = None
    plugins: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def find(self, registry: Registry) -> ModelVersion:
        """The version that this means now; raises `NotFoundError` with what there is."""
        if self.version is None:
            held = registry.alias(self.model, self.alias or "champion")
            if held is not None:
                return held
        versions = registry.versions(self.model)
        for version in versions:
            if version.version == self.version:
                return version
        wanted = f"@{self.alias}" if self.version is None else f":{self.version}"
        known = ", ".join(f"{item.name}:{item.version}" for item in versions) or "none"
        raise NotFoundError(
            f"there is no {self.model}{wanted}; registered: {known}",
            hint="train one: engine run pipeline=…; see engine models list",
        )


def wanted_model(project: Project, rest: Sequence[str]) -> Wanted:
    """Read what a command line left; raises `UsageError`, and `ConfigError` for a pipeline that does not compile."""
    words = split_overrides(rest)
    named = [word for word in words if word.startswith("model=")]
    if named:
        if len(words) > 1:
            raise UsageError(f"`{named[0]}` names a registered model; nothing else is composed: {', '.join(words)}")
        return _registered(project, named[0])
    if not any(word.startswith("pipeline=") for word in words):
        raise UsageError("say which model", hint="pipeline=flights, or model=flights@champion, or model=flights:3")
    return _declared(project, words)


def _registered(project: Project, word: str) -> Wanted:
    found = _MODEL.fullmatch(word)
    if found is None:
        raise UsageError(f"`{word}` names no model", hint="model=flights@champion, or model=flights:3")
    version = int(found["version"]) if found["version"] else None
    alias = None if version is not None else found["alias"] or "champion"
    return Wanted(project, found["name"], alias, version, StoresSpec())


def _declared(project: Project, words: Sequence[str]) -> Wanted:
    from engine.api import declare  # noqa: PLC0415 - start-up time of --help
    from engine.locations import Stores  # noqa: PLC0415

    declared = declare(project, words)
    name, alias = declared.spec.registry.model or declared.spec.name, declared.spec.registry.alias
    plugins = declared.settings.plugins + declared.settings.extra_plugins
    held = Stores(project, declared.settings).registry.alias(name, alias)
    warnings: tuple[str, ...] = ()
    if held is not None:
        from engine.serve.package import differing_features  # noqa: PLC0415 - imports data libraries

        folder = Stores(project, declared.settings).artefacts.open(held.digest)
        differing = differing_features(declared.logical.program, folder)
        if differing:
            listed = "; ".join(differing[:8])
            warnings = (
                f"conf/ declares other features than {name}:{held.version} was trained with, which is what answers: {listed}",
            )
    return Wanted(
        project, name, alias, None, declared.settings.stores, declared.settings.stores.online, plugins, warnings
    )
