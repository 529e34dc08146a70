"""The table of contents: the whole engine as one chain, each step taking the last one's result.

    compose(project, overrides)        values, and where each came from       engine.config
    load_spec(config, catalogue)       frozen typed spec, or every error      engine.config
    build_logical(spec)                what has to happen; pure               engine.plan.logical
    resolve(plan, ...)                 branches and files become pins         engine.plan.resolve
    compile_plan(plan, inputs, ...)    nodes with keys                        engine.plan.compile
    execute(plan, ...)                 cache hit -> run -> record; Dask       engine.execute
    promote, report                    the effects, at the rim                engine.nodes.promote, engine.report

`declare` is the first three, `plan` the next two, and `execute_run` (engine.running) the rest; the command line and a notebook call
the same three. The rule that keeps planning fast: nothing here imports a data library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.components import Catalogue, load_catalogue
from engine.config import ComposedConfig, attach_places, compose, load_plugins, load_settings, load_spec
from engine.errors import ConfigError
from engine.evaluation.names import check_metrics
from engine.locations import Stores
from engine.plan.compile import compile_plan
from engine.plan.explain import NodeForecast, forecast
from engine.plan.logical import LogicalPlan, build_logical
from engine.plan.model import ExecutionPlan
from engine.plan.resolve import Champion, Finder, Inputs, resolve, resolve_files
from engine.project import Project
from engine.spec import PipelineSpec, SettingsSpec


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

    @property
    def plugins(self) -> tuple[str, ...]:
        """Every listed plugin, the shipped ones first."""
        return self.declared.settings.plugins + self.declared.settings.extra_plugins

    def forecast(self, previous: ExecutionPlan | None, digests: Mapping[str, str]) -> tuple[NodeForecast, ...]:
        """Say what would run, and why."""
        return forecast(self.plan, self.stores.artefacts.find_action, previous, digests)


def declare(project: Project, overrides: Sequence[str]) -> Declared:
    """Compose, validate and compile a pipeline's declaration; raises `ConfigError` with every mistake and its place."""
    return declare_composed(project, compose(project, overrides))


def declare_composed(project: Project, config: ComposedConfig) -> Declared:
    """Do what `declare` does after composing; a sweep composes its trials itself."""
    catalogue = load_catalogue(project.root, load_plugins(config))
    spec = load_spec(config, catalogue)
    settings = load_settings(config)
    problems = list(check_metrics(spec.train.task, spec.evaluate))
    try:
        logical = build_logical(spec)
    except ConfigError as error:
        raise ConfigError(attach_places([*problems, *error.problems], config)) from None
    if problems:
        raise ConfigError(attach_places(problems, config))
    return Declared(project, config, settings, catalogue, spec, logical)


def plan(declared: Declared, sample: float | None = None) -> Planned:
    """Pin the sources, find the champion, make the nodes' keys computable."""
    stores = Stores(declared.project, declared.settings)
    where = lambda name: str(declared.config.origin(f"sources.{name}"))  # noqa: E731 - said once, where it is used
    pins = resolve(declared.logical, Finder(declared.catalogue, declared.project.root, stores.open_snapshots, where))
    champion = _champion(declared.spec, stores)
    inputs = Inputs(pins, champion, _files(declared))
    bound = compile_plan(declared.logical, inputs, declared.catalogue, declared.settings.execute, sample)
    return Planned(declared, stores, inputs, bound)


def _files(declared: Declared) -> Mapping[str, str]:
    try:
        return resolve_files(declared.spec, declared.project.root)
    except ConfigError as error:
        raise ConfigError(attach_places(error.problems, declared.config)) from None


def _champion(spec: PipelineSpec, stores: Stores) -> Champion | None:
    found = stores.registry.alias(spec.registry.model or spec.name, spec.registry.alias)
    if found is None:
        return None
    return Champion(found.version, found.digest, found.model_digest or "", found.compared_with)
