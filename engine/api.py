"""The table of contents: the whole engine as one chain, each step taking the last one's result.

    compose(project, overrides)        values, and where each came from       engine.config
    load_spec(config, catalogue)       frozen typed spec, or every error      engine.config
    build_logical(spec)                what has to happen; pure               engine.plan.logical
    resolve(plan, ...)                 branches and files become pins         engine.plan.resolve
    compile_plan(plan, inputs, ...)    nodes with keys                        engine.plan.compile
    execute(plan, ...)                 cache hit -> run -> record; Dask       engine.execute
    promote / report                   the effects, at the rim                engine.nodes.promote, engine.report

`declare`, `plan` and `run` below are those steps joined; the command line and a notebook call the same three. The rule
that keeps planning fast: nothing here imports a data library, and what a step alone needs is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from engine.components import Catalogue, load_catalogue
from engine.config import ComposedConfig, attach_places, compose, load_settings, load_spec
from engine.errors import ConfigError
from engine.plan.compile import compile_plan
from engine.plan.explain import NodeForecast, forecast, known_outputs
from engine.plan.logical import LogicalPlan, build_logical
from engine.plan.model import ExecutionPlan
from engine.plan.resolve import Champion, Inputs, resolve
from engine.project import Project
from engine.spec import PipelineSpec, SettingsSpec
from engine.stores.artefacts import LocalArtefactStore
from engine.stores.database import open_database
from engine.stores.registry import Registry

if TYPE_CHECKING:
    from engine.contracts import SnapshotStore


@dataclass(frozen=True)
class Stores:
    """Where bytes and state live, opened when first used."""

    project: Project
    settings: SettingsSpec

    @property
    def snapshots_url(self) -> str:
        """The snapshot store's URL."""
        return self.project.locate(self.settings.stores.snapshots, "snapshots")

    @property
    def artefacts_root(self) -> Path:
        """The artefact store's folder."""
        return Path(self.project.locate(self.settings.stores.artefacts, "artefacts"))

    @property
    def runs_root(self) -> Path:
        """The folder of the run folders."""
        return self.project.root / self.settings.stores.runs

    @cached_property
    def artefacts(self) -> LocalArtefactStore:
        """Node outputs and actions."""
        return LocalArtefactStore(self.artefacts_root)

    @cached_property
    def registry(self) -> Registry:
        """Models, aliases and their ledger."""
        return Registry(open_database(self.project.locate(self.settings.stores.state, "state.db")))

    def open_snapshots(self) -> SnapshotStore:
        """Versioned data; imported late, since a plan over files never needs it."""
        from engine.stores.snapshots import open_snapshots  # noqa: PLC0415 - start-up time

        return open_snapshots(self.snapshots_url)


@dataclass(frozen=True)
class Declared:
    """A pipeline as declared and checked; no data has been touched."""

    project: Project
    config: ComposedConfig
    settings: SettingsSpec
    catalogue: Catalogue
    spec: PipelineSpec
    logical: LogicalPlan


@dataclass(frozen=True)
class Planned:
    """A declaration bound to the data, code and champion of this moment."""

    declared: Declared
    stores: Stores
    inputs: Inputs
    plan: ExecutionPlan

    def forecast(self, previous: ExecutionPlan | None, digests: Mapping[str, str]) -> tuple[NodeForecast, ...]:
        """Say what would run, and why."""
        return forecast(self.plan, self.stores.artefacts.find_action, previous, digests)


def declare(project: Project, overrides: Sequence[str]) -> Declared:
    """Compose, validate and compile a pipeline's declaration; raises `ConfigError` with every mistake and its place."""
    return declare_composed(project, compose(project, overrides))


def declare_composed(project: Project, config: ComposedConfig) -> Declared:
    """Do what `declare` does after composing; a sweep composes its trials itself."""
    settings = load_settings(config)
    catalogue = load_catalogue(project.root, (*settings.plugins, *settings.extra_plugins))
    spec = load_spec(config, catalogue)
    try:
        logical = build_logical(spec)
    except ConfigError as error:
        raise ConfigError(attach_places(error.problems, config)) from None
    return Declared(project, config, settings, catalogue, spec, logical)


def plan(declared: Declared, sample: float | None = None) -> Planned:
    """Pin the sources, find the champion, make the nodes' keys computable."""
    stores = Stores(declared.project, declared.settings)
    pins = resolve(declared.logical, declared.catalogue, declared.project.root, stores.open_snapshots)
    champion = _champion(declared.spec, stores)
    bound = _bind(declared, Inputs(pins, champion), sample)
    if champion is not None and _made_by(bound, stores, champion):
        # The champion is this very plan's own model: keep the comparison that it won, so a second run has nothing to do.
        rival = Champion(0, champion.compared_with, "", None) if champion.compared_with else None
        inputs = Inputs(pins, rival)
        return Planned(declared, stores, inputs, _bind(declared, inputs, sample))
    return Planned(declared, stores, Inputs(pins, champion), bound)


def _bind(declared: Declared, inputs: Inputs, sample: float | None) -> ExecutionPlan:
    return compile_plan(declared.logical, inputs, declared.catalogue, declared.settings.execute, sample)


def _champion(spec: PipelineSpec, stores: Stores) -> Champion | None:
    found = stores.registry.alias(spec.registry.model or spec.name, spec.registry.alias)
    return found and Champion(found.version, found.digest, found.model_digest, found.compared_with)


def _made_by(bound: ExecutionPlan, stores: Stores, champion: Champion) -> bool:
    trained = known_outputs(bound, stores.artefacts.find_action).get("train")
    return trained is not None and trained.digest == champion.model_digest
