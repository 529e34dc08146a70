"""Which pipelines have triggers, and what these are: composed once, then read from a cache until a file changes.

Enters: a project. Leaves: a `Declaration` a pipeline, or why there is none. Called by the tick, which must cost next to
nothing when nothing is due: composing takes a tenth of a second a pipeline, reading the cache a thousandth.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from engine import __version__
from engine.components import Catalogue, load_catalogue
from engine.dag import CyclicError, topological
from engine.errors import EngineError, IntegrityError
from engine.keys import digest
from engine.loop_contracts import Trigger
from engine.project import Project, shipped
from engine.spec import RetrainSpec, StoresSpec, TriggerSpec, identity, rebuild
from engine.stores.disk import write_durably


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """What the cache holds of a pipeline: `stamp` identifies every file that it may depend on.

    `watch` is how long a chunk of its monitors is (a day where that is not a matter of time), absent without monitors.
    """

    stamp: str
    name: str
    model: str
    alias: str
    plugins: tuple[str, ...]
    triggers: dict[str, dict[str, Any]]
    sources: dict[str, dict[str, Any]]
    retrain: RetrainSpec
    stores: StoresSpec
    maturity: str
    watch: str | None


@dataclass(frozen=True, slots=True)
class Declaration:
    """A pipeline as the tick sees it: its file's name, its triggers in order (parts before what combines them), its policy."""

    pipeline: str
    declared: Declared
    root: Path
    catalogue: Catalogue
    specs: Mapping[str, TriggerSpec]
    triggers: Mapping[str, Trigger]

    @property
    def observes(self) -> bool:
        """Say whether monitors, a rollout or a trigger look at data, so that new data has to be ingested and monitored."""
        return self.declared.watch is not None or any(
            spec.kind not in {"cron", "manual", "any", "all"} for spec in self.specs.values()
        )

    @property
    def counts_labels(self) -> bool:
        """Say whether a trigger wants to know how many labels there are."""
        return any(spec.kind == "new_labels" for spec in self.specs.values())


def pipelines_of(project: Project) -> list[str]:
    """Name the project's own pipelines, sorted."""
    folder = project.conf / "pipeline"
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))


def read_declarations(project: Project) -> Iterator[tuple[str, Declaration | EngineError | None]]:
    """Give each pipeline with its triggers, `None` when it has none, or the error that its declaration is."""
    stamp = stamp_of(project)
    catalogues: dict[tuple[str, ...], Catalogue] = {}
    for pipeline in pipelines_of(project):
        try:
            declared = _cached(project, pipeline, stamp) or _compose(project, pipeline, stamp)
            if not declared.triggers:
                yield pipeline, None
                continue
            if declared.plugins not in catalogues:
                catalogues[declared.plugins] = load_catalogue(project.root, declared.plugins)
            yield pipeline, build(pipeline, declared, project.root, catalogues[declared.plugins])
        except EngineError as error:
            yield pipeline, error


def build(pipeline: str, declared: Declared, root: Path, catalogue: Catalogue) -> Declaration:
    """Make the triggers, those that combine others last; raises `IntegrityError` for a cache that is not one."""
    specs: dict[str, TriggerSpec] = {}
    for name in _parts_first(declared.triggers):
        document = declared.triggers[name]
        component = catalogue.get("trigger", document["kind"])
        try:
            params = msgspec.convert(document["params"], component.params, strict=True)
            specs[name] = rebuild(TriggerSpec, document, params)
        except (msgspec.ValidationError, KeyError) as error:
            raise IntegrityError(
                f"{pipeline}: the cached trigger `{name}` cannot be read: {error}",
                hint="delete .plumbline/loop/declared",
            ) from error
    made = {name: catalogue.get("trigger", spec.kind).build(spec.params) for name, spec in specs.items()}
    return Declaration(pipeline, declared, root, catalogue, specs, made)


def _parts_first(triggers: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Order triggers so that parts come before what combines them; raises `IntegrityError` for a circle."""
    graph = {
        name: [part for part in document["params"].get("triggers", ()) if part in triggers]
        for name, document in triggers.items()
    }
    try:
        return list(topological(graph))
    except CyclicError as error:
        raise IntegrityError(
            f"the cached triggers {', '.join(triggers)} go in a circle", hint="delete .plumbline/loop/declared"
        ) from error


def subject_of(declaration: Declaration, moment: str | None) -> str:
    """Identify data, code and configuration without reading data: the files' stamp, and what each source would read.

    Raises what pinning a source raises. A simulation adds its `moment`, which decides what of the data can be seen.
    """
    pins: dict[str, Any] = {}
    for name, source in declaration.declared.sources.items():
        component = declaration.catalogue.get("source", source["kind"])
        params = msgspec.convert(source["params"], component.params)
        pins[name] = source["ref"] or component.build(params).pin(declaration.root).identity
    return digest({"stamp": declaration.declared.stamp, "pins": pins, "moment": moment})


def stamp_of(project: Project) -> str:
    """Identify every YAML file and plugin that a declaration may depend on, by name, size and time of change."""
    found: list[Any] = [__version__, Declared.__struct_fields__]
    folders = (project.conf, shipped("conf"), project.root / "plugins", shipped("plugins"))
    for folder in dict.fromkeys(path.resolve() for path in folders):
        found += [[str(folder), *entry] for entry in _entries(folder)]
    return digest(found)


def _entries(folder: Path) -> list[list[Any]]:
    entries = []
    for parent, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            if name.endswith((".yaml", ".yml", ".py")):
                path = os.path.join(parent, name)  # noqa: PTH118 - for thousands of files pathlib takes half of the time
                status = os.stat(path)  # noqa: PTH116 - as above
                entries.append([os.path.relpath(path, folder), status.st_size, status.st_mtime_ns])
    return entries


def _place(project: Project, pipeline: str) -> Path:
    return project.home / "loop" / "declared" / f"{pipeline.replace('/', '.')}.json"


def _cached(project: Project, pipeline: str, stamp: str) -> Declared | None:
    try:
        found = msgspec.json.decode(_place(project, pipeline).read_bytes(), type=Declared)
    except (OSError, msgspec.DecodeError):
        return None
    return found if found.stamp == stamp else None


def _compose(project: Project, pipeline: str, stamp: str) -> Declared:
    from engine.api import declare  # noqa: PLC0415 - composing imports Hydra, which an idle tick need not pay for

    whole = declare(project, [f"pipeline={pipeline}"])
    spec, settings = whole.spec, whole.settings
    declared = Declared(
        stamp=stamp,
        name=spec.name,
        model=spec.registry.model or spec.name,
        alias=spec.registry.alias,
        plugins=(*settings.plugins, *settings.extra_plugins),
        triggers={
            name: {"kind": trigger.kind, "params": identity(trigger.params), "alone": trigger.alone}
            for name, trigger in spec.triggers.items()
        },
        sources={
            name: {"kind": source.kind, "params": identity(source.params), "ref": source.ref}
            for name, source in spec.sources.items()
        },
        retrain=spec.retrain,
        stores=settings.stores,
        maturity=spec.label.maturity,
        watch=(spec.watch.chunk.by or "day") if spec.monitors or spec.rollout else None,
    )
    place = _place(project, pipeline)
    with suppress(OSError):  # kept to be quicker; a full disk is told of where something is lost by it
        place.parent.mkdir(parents=True, exist_ok=True)
        write_durably(place, msgspec.json.encode(declared))
    return declared
