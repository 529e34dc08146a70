"""Fixing the world: branches become commits and sources become pins, here and once. The only impure part of planning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.components import Catalogue
from engine.contracts import Pin, SnapshotStore
from engine.plan.logical import LogicalPlan
from engine.spec import SourceSpec


@dataclass(frozen=True, slots=True)
class Champion:
    """The model that holds the alias. `model_digest` is its training's output, `compared_with` the package it had to beat."""

    version: int
    package: str
    model_digest: str
    compared_with: str | None


@dataclass(frozen=True, slots=True)
class Inputs:
    """All that a plan takes from outside: what each source will read, and who is champion."""

    pins: Mapping[str, Pin]
    champion: Champion | None = None


def resolve(
    plan: LogicalPlan, catalogue: Catalogue, root: Path, open_snapshots: Callable[[], SnapshotStore]
) -> Mapping[str, Pin]:
    """Pin every source of the plan; raises `DataError`, `UnavailableError` or `NotFoundError`.

    A source with `ref` is pinned to that commit of the snapshot store, and the store is opened only then.
    """
    names = [node.name.removeprefix("ingest.") for node in plan.nodes if node.kind in {"ingest", "checkout"}]
    sources = {name: plan.spec.sources[name] for name in names}
    return {name: _pin(source, catalogue, root, open_snapshots) for name, source in sources.items()}


def _pin(source: SourceSpec, catalogue: Catalogue, root: Path, open_snapshots: Callable[[], SnapshotStore]) -> Pin:
    if source.ref is None:
        found: Pin = catalogue.get("source", source.kind).build(source.params).pin(root)
        return found
    commit = open_snapshots().resolve(source.repository, source.ref)
    return Pin({"commit": commit}, f"{source.repository}@{commit[:12]}")
