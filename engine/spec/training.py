"""Split, training, evaluation and gates as declared."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from engine.spec.base import Identifier, NonNegativeInt, PositiveInt, Prose, Spec


class SplitSpec(Spec, frozen=True, kw_only=True):
    """Training, validation and test rows by a named splitter; `params` are the component's own keys in YAML."""

    kind: Identifier
    params: msgspec.Struct


class TrainSpec(Spec, frozen=True, kw_only=True):
    """How to train. `features` lists names or globs; empty means every numeric or boolean feature."""

    kind: Identifier
    params: msgspec.Struct
    task: Literal["binary", "regression"] = "binary"
    features: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    seed: NonNegativeInt = 0
    doc: Prose = ""


class BaselineSpec(Spec, frozen=True, kw_only=True):
    """The simple model that the real one must beat; trained on the same rows."""

    kind: Identifier
    params: msgspec.Struct
    seed: NonNegativeInt = 0


class EvaluateSpec(Spec, frozen=True, kw_only=True):
    """What to measure on the test rows. `slices` are request fields or features; `resamples` and `level` are the bootstrap's."""

    metrics: tuple[Identifier, ...] = (
        "roc_auc",
        "average_precision",
        "log_loss",
        "brier",
        "calibration_error",
    )
    primary: Identifier = "roc_auc"
    slices: tuple[Identifier, ...] = ()
    min_slice_rows: PositiveInt = 200
    resamples: Annotated[int, msgspec.Meta(ge=50, le=20_000)] = 500
    level: Annotated[float, msgspec.Meta(gt=0.5, lt=1)] = 0.95
    cluster: Identifier | None = None
    seed: NonNegativeInt = 0


class GateSpec(Spec, frozen=True, kw_only=True):
    """One blocking check; `params` are the component's own keys in YAML. A `warn` gate is reported and does not block."""

    kind: Identifier
    params: msgspec.Struct
    severity: Literal["block", "warn"] = "block"
    doc: Prose = ""


class RegistrySpec(Spec, frozen=True, kw_only=True):
    """Where the model goes: its name in the registry (the pipeline's when absent) and the alias that a promotion moves."""

    model: Identifier | None = None
    alias: Identifier = "champion"
    promote: Literal["on_pass", "manual"] = "on_pass"


class CardSpec(Spec, frozen=True, kw_only=True):
    """What the model card says beyond what is measured."""

    intended_use: Prose = ""
    limitations: Prose = ""
    review_by: Annotated[str, msgspec.Meta(pattern=r"^\d{4}-\d{2}-\d{2}$")] | None = None


class ReportSpec(Spec, frozen=True, kw_only=True):
    """The run's report: how many importance bars and slice rows it shows."""

    top_features: PositiveInt = 20
    max_slices: PositiveInt = 40


# Kept here so that a trigger's shape is checked from the first day; the tick (design, section 9) interprets it.
class TriggerSpec(Spec, frozen=True, kw_only=True):
    """When to run again: a cron expression in a time zone."""

    kind: Literal["cron"]
    schedule: str
    timezone: str = "UTC"
    misfire: Literal["coalesce", "all", "skip"] = "coalesce"
