"""Split, training, evaluation and gates as declared."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

from engine.spec.base import Identifier, NonNegativeInt, PositiveInt, Prose, Spec

PositiveFloat: TypeAlias = Annotated[float, msgspec.Meta(gt=0)]


class SplitSpec(Spec, frozen=True, kw_only=True):
    """Training, validation and test rows by a named splitter; `params` are the component's own keys in YAML."""

    kind: Identifier
    params: msgspec.Struct


Task: TypeAlias = Literal["binary", "multiclass", "regression", "quantile", "ranking"]
DEFAULT_QUANTILES = (0.1, 0.5, 0.9)
_Level = Annotated[float, msgspec.Meta(gt=0, lt=1)]


class CalibrationSpec(Spec, frozen=True, kw_only=True):
    """A map from the model's probabilities to calibrated ones, fitted on rows that neither trained nor stopped it.

    These are the rows that the split calls `calibration`, or else `share` of the validation rows, chosen by a hash of their
    ids and kept from the early stopping. `isotonic` (Zadrozny & Elkan 2002) is free and needs a thousand rows or more, `platt`
    (1999) has two parameters, `beta` (Kull et al. 2017) three. A `multiclass` is calibrated class by class.
    """

    method: Literal["isotonic", "platt", "beta"]
    share: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.5


class TrainSpec(Spec, frozen=True, kw_only=True):
    """How to train. `features` lists names or globs; empty means every numeric or boolean feature.

    `classes` are a multiclass label's values, in the order of the model's outputs; when it is empty, those of the training
    and validation rows, sorted. `group` is the request field or feature that names the query of a ranking's row.
    `quantiles` are 0.1, 0.5 and 0.9 by default. `weight` is a column of row weights; `class_weight` weighs rows by label,
    `balanced` so that every class has the same total.
    """

    kind: Identifier
    params: msgspec.Struct
    task: Task = "binary"
    features: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    classes: tuple[str | int, ...] = ()
    quantiles: tuple[_Level, ...] = ()
    group: Identifier | None = None
    weight: Identifier | None = None
    class_weight: Literal["balanced"] | dict[str, PositiveFloat] | None = None
    calibration: CalibrationSpec | None = None
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


class TrackerSpec(Spec, frozen=True, kw_only=True):
    """A mirror of every run, told of it afterwards; `params` are the component's own keys in YAML. Part of no key."""

    kind: Identifier
    params: msgspec.Struct
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
