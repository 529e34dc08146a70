"""The whole declaration as one frozen value: what `load_spec` returns and everything after it reads."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from engine.spec.analysis import AnalysisSpec
from engine.spec.base import Duration, Identifier, NonNegativeInt, PositiveInt, Prose, Spec
from engine.spec.cases import FeatureTestSpec
from engine.spec.features import FeatureSpec, LabelSpec, SpineSpec
from engine.spec.monitoring import MonitorSpec, NotifierSpec, WatchSpec
from engine.spec.rollout import RolloutSpec
from engine.spec.sources import SourceSpec
from engine.spec.training import (
    BaselineSpec,
    CardSpec,
    EvaluateSpec,
    GateSpec,
    RegistrySpec,
    ReportSpec,
    SplitSpec,
    TrackerSpec,
    TrainSpec,
)
from engine.spec.triggers import RetrainSpec, TriggerSpec


class PipelineSpec(Spec, frozen=True, kw_only=True):
    """One model's life. `as_of` hides every row that became available after that moment (RFC 3339).

    `tests` are cases for the features, run by `engine features test`; they are part of no key.
    """

    name: Identifier
    sources: dict[Identifier, SourceSpec]
    spine: SpineSpec
    features: dict[str, FeatureSpec]
    label: LabelSpec
    split: SplitSpec
    train: TrainSpec
    baseline: BaselineSpec | None = None
    evaluate: EvaluateSpec = EvaluateSpec()
    gates: dict[Identifier, GateSpec] = {}
    analysis: dict[Identifier, AnalysisSpec] = {}
    trackers: dict[Identifier, TrackerSpec] = {}
    registry: RegistrySpec = RegistrySpec()
    watch: WatchSpec = WatchSpec()
    monitors: dict[Identifier, MonitorSpec] = {}
    notifiers: dict[Identifier, NotifierSpec] = {}
    rollout: RolloutSpec | None = None
    card: CardSpec = CardSpec()
    report: ReportSpec = ReportSpec()
    triggers: dict[Identifier, TriggerSpec] = {}
    retrain: RetrainSpec = RetrainSpec()
    tests: dict[Identifier, FeatureTestSpec] = {}
    as_of: str | None = None
    doc: Prose = ""
    owner: Prose = ""
    runbook: Prose = ""


class StoresSpec(Spec, frozen=True, kw_only=True):
    """Where bytes and state live: URLs, or paths relative to the project. `null` means under `.plumbline/`.

    `online` is where serving finds events: a folder, `redis://host:6379/0` or `rediss://…`.
    """

    snapshots: str | None = None
    artefacts: str | None = None
    state: str | None = None
    online: str | None = None
    runs: str = "runs"


class DaskSpec(Spec, frozen=True, kw_only=True):
    """`address: null` runs embedded; `tcp://host:port` uses an existing scheduler."""

    address: str | None = None


class ExecuteSpec(Spec, frozen=True, kw_only=True):
    """How nodes run. `threads: null` means every core; `timeout` and `retries` hold for each node."""

    workers: PositiveInt = 1
    threads: PositiveInt | None = None
    timeout: Duration = "2h"
    retries: NonNegativeInt = 1
    backoff: Annotated[float, msgspec.Meta(ge=0, le=600)] = 1.0


class OnlineSpec(Spec, frozen=True, kw_only=True):
    """The online state. `retention` is how far back a request may be replayed: what none could reach is forgotten.

    `keep_logs` and `logs_mb` bound what serving writes down, the predictions and the journal of pushed events of the model: whole
    files whose last row is older go, then the oldest until so many megabytes are left. `null` keeps everything.
    """

    retention: Duration | None = None
    keep_logs: Duration | None = None
    logs_mb: PositiveInt | None = None


class SweepSpec(Spec, frozen=True, kw_only=True):
    """How `engine run -m` chooses among trials.

    `metrics` are measured on the validation rows, the first one ranks (default: `evaluate.primary`); `model_bytes` is one
    too. `judge: best` puts only the best trial before the test rows and the gates, `all` evaluates every trial; promoted is
    the best at most. `workers` trials run side by side, each on its share of the cores (default: one a core).
    """

    metrics: tuple[Identifier, ...] = ()
    judge: Literal["best", "all"] = "best"
    workers: PositiveInt | None = None


class SettingsSpec(Spec, frozen=True, kw_only=True):
    """Everything in the root of a composed config that is not the pipeline: how and where, never what.

    `plugins` are the shipped ones; a project adds its own under `extra_plugins`.

    None of it is part of a key, so moving a project or its scheduler recomputes nothing.
    """

    plugins: tuple[str, ...] = ()
    extra_plugins: tuple[str, ...] = ()
    stores: StoresSpec = StoresSpec()
    dask: DaskSpec = DaskSpec()
    execute: ExecuteSpec = ExecuteSpec()
    online: OnlineSpec = OnlineSpec()
    sweep: SweepSpec = SweepSpec()


__all__ = ["DaskSpec", "ExecuteSpec", "OnlineSpec", "PipelineSpec", "SettingsSpec", "StoresSpec", "SweepSpec"]
