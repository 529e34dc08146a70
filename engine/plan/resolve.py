"""Fixing the world: branches become commits and sources become pins, here and once. The only impure part of planning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from engine.components import Catalogue, Params
from engine.contracts import Pin, SnapshotStore
from engine.errors import ConfigError, EngineError, Problem
from engine.keys import digest_file
from engine.plan.logical import LogicalPlan
from engine.spec import PipelineSpec, SourceSpec


@dataclass(frozen=True, slots=True)
class Champion:
    """The model that holds the alias. `model_digest` is its training's output, `compared_with` the package it had to beat."""

    version: int
    package: str
    model_digest: str
    compared_with: str | None


@dataclass(frozen=True, slots=True)
class Inputs:
    """All that a plan takes from outside: what each source will read, who is champion, the content of files that train."""

    pins: Mapping[str, Pin]
    champion: Champion | None = None
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finder:
    """What finds a source's pin: its component, the project's root, and the snapshot store, opened only when needed.

    `where` says in which line a source is declared.
    """

    catalogue: Catalogue
    root: Path
    open_snapshots: Callable[[], SnapshotStore]
    where: Callable[[str], str]

    def pin(self, source: SourceSpec) -> Pin:
        """Pin what a source will read; one with `ref` is pinned to that commit of the snapshot store."""
        if source.ref is None:
            found: Pin = self.catalogue.get("source", source.kind).build(source.params).pin(self.root)
            return found
        commit = self.open_snapshots().resolve(source.repository, source.ref)
        return Pin({"commit": commit}, f"{source.repository}@{commit[:12]}")


def resolve(plan: LogicalPlan, finder: Finder) -> Mapping[str, Pin]:
    """Pin every source of the plan; raises what `pin` raises, naming every source that cannot be pinned and its place."""
    pins: dict[str, Pin] = {}
    failures: list[EngineError] = []
    for node in plan.nodes:
        if node.kind in {"ingest", "checkout"}:
            name = node.name.removeprefix("ingest.")
            try:
                pins[name] = finder.pin(plan.spec.sources[name])
            except EngineError as error:
                failures.append(type(error)(f"{finder.where(name)}: sources.{name}: {error.message}", hint=error.hint))
    if not failures:
        return pins
    *others, last = sorted(failures, key=lambda error: error.exit_code)
    raise type(last)("\n".join([*map(str, others), last.message]), hint=last.hint)


def resolve_files(spec: PipelineSpec, root: Path) -> dict[str, str]:
    """Digest the project's files that trainers read; raises `ConfigError` for one that is not there."""
    found: dict[str, str] = {}
    problems: list[Problem] = []
    for section, declared in (("train", spec.train), ("baseline", spec.baseline)):
        params = declared.params if declared is not None else None
        for name in params.reads_files() if isinstance(params, Params) else ():
            path = root / name
            if path.is_file():
                found[name] = digest_file(path)
            else:
                hint = "give paths relative to the project's folder"
                problems.append(
                    Problem(f"{section}.files", "there is no such file in the project", value=name, hint=hint)
                )
    if problems:
        raise ConfigError(problems)
    return found
