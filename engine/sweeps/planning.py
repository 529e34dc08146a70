"""From overrides to planned trials: files are merged once, and only what a trial changes is checked and compiled again.

Enters: the overrides of each trial. Leaves: `Trial`s, each with its plan or with the error that stops it alone. The world
(pins of sources, champions) is looked at once for all trials, so that they are comparable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.api import Declared, Planned, declare_composed
from engine.components import Catalogue, load_catalogue
from engine.config import ComposedConfig, Composer, attach_places, load_plugins, load_settings, load_spec
from engine.config.loading import Known
from engine.contracts import Pin
from engine.errors import ConfigError, EngineError, Problem, UsageError
from engine.evaluation.names import METRIC_NAMES, check_metrics, choose_metrics, higher_is_better
from engine.locations import Stores
from engine.plan.compile import compile_plan
from engine.plan.logical import LogicalPlan, fold_again, tune_model
from engine.plan.resolve import Champion, Finder, Inputs, resolve, resolve_files
from engine.project import Project
from engine.records import ModelVersion
from engine.spec import PipelineSpec, SettingsSpec

MODEL_BYTES = "model_bytes"


@dataclass(frozen=True, slots=True)
class Objective:
    """What trials are ranked by: a metric of the validation rows, or the model's size."""

    name: str
    higher_is_better: bool


@dataclass(frozen=True, slots=True)
class Trial:
    """One parameter set: its number, its overrides, which of them were swept, and its plan or what is wrong with it."""

    number: int
    overrides: tuple[str, ...]
    params: dict[str, str]
    planned: Planned | None = None
    objectives: tuple[Objective, ...] = ()
    error: EngineError | None = None


@dataclass(frozen=True, slots=True)
class _Where:
    """Says in which line a source is declared."""

    config: ComposedConfig

    def __call__(self, name: str) -> str:
        return str(self.config.origin(f"sources.{name}"))


class TrialPlanner:
    """Plans trials of one project; what it has seen of one serves the next."""

    def __init__(self, project: Project, sample: float | None = None) -> None:
        self._project = project
        self._sample = sample
        self._composer = Composer(project)
        self._catalogues: dict[tuple[str, ...], tuple[Catalogue, Known]] = {}
        self._compiled: list[tuple[tuple[Any, ...], LogicalPlan]] = []
        self._pins: list[tuple[Any, Pin]] = []
        self._champions: dict[tuple[str, str], Champion | None] = {}
        self._stores: Stores | None = None

    def plan(self, number: int, overrides: Sequence[str], params: dict[str, str]) -> Trial:
        """Plan one trial; what is wrong with it alone is kept with it."""
        trial = Trial(number, tuple(overrides), params)
        try:
            config = self._composer.compose(overrides)
            declared = self._declare(config)
            objectives = choose_objectives(declared)
            planned = self._plan(declared, tuple(objective.name for objective in objectives))
        except EngineError as error:
            return replace(trial, error=error)
        return replace(trial, planned=planned, objectives=objectives)

    def declare(self, overrides: Sequence[str]) -> Declared:
        """Compose and check without looking at the world; raises `ConfigError`."""
        return self._declare(self._composer.compose(overrides))

    def _declare(self, config: ComposedConfig) -> Declared:
        plugins = load_plugins(config)
        if plugins not in self._catalogues:
            self._catalogues[plugins] = (load_catalogue(self._project.root, plugins), {})
        catalogue, known = self._catalogues[plugins]
        spec = load_spec(config, catalogue, known)
        settings = load_settings(config)
        problems = check_metrics(spec.train.task, spec.evaluate)
        shared = self._find_compiled(spec)
        if problems or shared is None:
            declared = declare_composed(self._project, config)  # which tells every mistake with its place
            self._compiled.append((_program_parts(spec), declared.logical))
            return replace(declared, spec=spec)
        return Declared(self._project, config, settings, catalogue, spec, _folded(spec, shared, config))

    def _find_compiled(self, spec: PipelineSpec) -> LogicalPlan | None:
        """Give a plan whose feature program is this spec's: made of the very same parts, or of equal ones."""
        parts = _program_parts(spec)
        for known, logical in self._compiled:
            if all(one is other for one, other in zip(parts, known, strict=True)):
                return logical
        return next((logical for known, logical in self._compiled if known == parts), None)

    def _plan(self, declared: Declared, metrics: tuple[str, ...]) -> Planned:
        stores = self._open(declared.settings)
        files = resolve_files(declared.spec, self._project.root)
        inputs = Inputs(self._resolve(declared, stores), self._champion(declared.spec, stores), files)
        logical = tune_model(declared.logical, metrics)
        plan = compile_plan(logical, inputs, declared.catalogue, declared.settings.execute, self._sample)
        return Planned(declared, stores, inputs, plan)

    def _open(self, settings: SettingsSpec) -> Stores:
        """Open the stores, of which a sweep has one set."""
        if self._stores is None:
            self._stores = Stores(self._project, settings)
        before = self._stores.settings
        if (before.stores, before.dask) != (settings.stores, settings.dask):
            raise UsageError("a sweep has one set of stores and one scheduler", hint="do not sweep `stores` or `dask`")
        return self._stores

    def _resolve(self, declared: Declared, stores: Stores) -> dict[str, Pin]:
        """Pin each source once for all trials that declare it alike."""
        pins: dict[str, Pin] = {}
        for node in declared.logical.nodes:
            if node.kind not in {"ingest", "checkout"}:
                continue
            name = str(node.settings["source"])
            source = declared.spec.sources[name]
            found = next((pin for known, pin in self._pins if known is source or known == source), None)
            if found is None:
                alone = replace(declared.logical, nodes=(node,))
                where = _Where(declared.config)
                finder = Finder(declared.catalogue, self._project.root, stores.open_snapshots, where)
                found = resolve(alone, finder)[name]
                self._pins.append((source, found))
            pins[name] = found
        return pins

    def _champion(self, spec: PipelineSpec, stores: Stores) -> Champion | None:
        model = (spec.registry.model or spec.name, spec.registry.alias)
        if model not in self._champions:
            found = stores.registry.alias(*model)
            self._champions[model] = found_champion(found) if found is not None else None
        return self._champions[model]


def found_champion(version: ModelVersion) -> Champion:
    """Give what a plan takes of the model that holds the alias."""
    return Champion(version.version, version.digest, version.model_digest or "", version.compared_with)


def choose_objectives(declared: Declared) -> tuple[Objective, ...]:
    """Give what `sweep.metrics` asks for, by default the pipeline's primary metric; raises `ConfigError` for unknown ones."""
    spec, asked = declared.spec, declared.settings.sweep.metrics
    task = spec.train.task
    names = asked or (choose_metrics(task, spec.evaluate)[1],)
    allowed = (*(name for name, metric in METRIC_NAMES.items() if task in metric.tasks), MODEL_BYTES)
    wrong = [Problem("sweep.metrics", f"not a metric of the task {task}", value=name, allowed=allowed) for name in names
             if name not in allowed]  # fmt: skip
    if wrong:
        raise ConfigError(attach_places(wrong, declared.config))
    return tuple(Objective(name, higher_is_better(name)) for name in names)


def _program_parts(spec: PipelineSpec) -> tuple[Any, ...]:
    return spec.features, spec.spine, spec.label, spec.sources, spec.tests


def _folded(spec: PipelineSpec, compiled: LogicalPlan, config: ComposedConfig) -> LogicalPlan:
    """Fold the passes over a program that has been compiled; raises `ConfigError` with places."""
    try:
        return fold_again(compiled, spec)
    except ConfigError as error:
        raise ConfigError(attach_places(error.problems, config)) from None


__all__ = ["MODEL_BYTES", "Objective", "Trial", "TrialPlanner", "choose_objectives"]
