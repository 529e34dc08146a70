"""Gates every model can be put before: data, thresholds, baseline, champion, calibration, behaviour, leaks, fairness.

Enters: the evidence of one evaluation. Leaves: one `GateResult` a gate. Called by the `gate` node. This module holds
the parameters and is all that planning imports.

They judge alike: `pass` when the confidence bound meets the requirement, `fail` when already the measured value misses
it, `inconclusive` when the value meets it and the bound does not (more rows would tell) or when something is missing.
No test rows, or predictions that are not numbers, fail.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec

from engine.components import Component, Params
from engine.contracts import Gate
from engine.evaluation.names import METRIC_NAMES
from engine.spec.base import Identifier

from .probing import (
    DirParams,
    FairnessParams,
    InvParams,
    LatencyParams,
    LeakageParams,
    MftParams,
    ParityParams,
    SizeParams,
    TrainingParams,
)

_NonNegative = Annotated[float, msgspec.Meta(ge=0)]
_Count = Annotated[int, msgspec.Meta(ge=0)]
_Level = Annotated[float, msgspec.Meta(gt=0.5, lt=1)]
_Test = Literal["bootstrap", "delong", "mcnemar"]


class DataValidationParams(Params, frozen=True, kw_only=True):
    """Every source's blocking expectations hold. `sources` names those that must have been checked (none: any)."""

    sources: tuple[Identifier, ...] = ()


class MinRowsParams(Params, frozen=True, kw_only=True):
    """The test is large enough to say something: rows, and of a binary label positives and negatives."""

    rows: Annotated[int, msgspec.Meta(ge=1)] = 1000
    positives: _Count = 0
    negatives: _Count = 0


class ThresholdParams(Params, frozen=True, kw_only=True):
    """A metric's `bound` is at least `minimum`, at most `maximum`. By default the bound that is the harder one to meet.

    With `slices`, also no slice misses it: a slice fails when its shortfall survives Holm's correction over all slices,
    so that many slices do not reject a good model by chance. Slices with too few rows are named, and do not count.
    """

    metric: Identifier
    minimum: float | None = None
    maximum: float | None = None
    bound: Literal["low", "high", "point"] | None = None
    slices: bool = False
    level: _Level | None = None

    def __post_init__(self) -> None:
        """Refuse unknown metrics, and requirements that nothing or everything meets."""
        check_metric(self.metric)
        if self.minimum is None and self.maximum is None:
            raise ValueError("a threshold needs `minimum` or `maximum`")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"`minimum` {self.minimum:g} is above `maximum` {self.maximum:g}")


class BeatsBaselineParams(Params, frozen=True, kw_only=True):
    """The model is better than the baseline by more than `margin`, in the metric's units (default: the primary one)."""

    metric: Identifier | None = None
    margin: _NonNegative = 0.0
    level: _Level | None = None
    test: _Test = "bootstrap"

    def __post_init__(self) -> None:
        """Refuse unknown metrics, and one that the test does not judge."""
        check_metric(self.metric)
        check_test(self.test, self.metric)


class NotWorseParams(Params, frozen=True, kw_only=True):
    """The model is worse than the champion by `margin` at most, in the metric's units. Without a champion it passes.

    With `slices`, nor is any slice by more than `slice_margin` (default: `margin`), corrected by Holm over all slices.
    """

    metric: Identifier | None = None
    margin: _NonNegative
    slices: bool = False
    slice_margin: _NonNegative | None = None
    level: _Level | None = None
    test: _Test = "bootstrap"

    def __post_init__(self) -> None:
        """Refuse unknown metrics, and one that the test does not judge."""
        check_metric(self.metric)
        check_test(self.test, self.metric)
        if self.slice_margin is not None and not self.slices:
            raise ValueError("`slice_margin` needs `slices: true`")


class BetterThanChampionParams(Params, frozen=True, kw_only=True):
    """The model is better than the champion by more than `margin`, in the primary metric and no other.

    Without a champion it passes. A bound at `level` 0.9 is a one-sided test at 5 %.
    """

    margin: _NonNegative = 0.0
    level: _Level | None = None
    test: _Test = "bootstrap"


class GuardrailsParams(Params, frozen=True, kw_only=True):
    """No guardrail metric is worse than the champion's by more than its margin: `metrics` maps names to margins."""

    metrics: Annotated[dict[Identifier, _NonNegative], msgspec.Meta(min_length=1)]
    level: _Level | None = None

    def __post_init__(self) -> None:
        """Refuse unknown metrics."""
        for name in self.metrics:
            check_metric(name)


class CalibrationParams(Params, frozen=True, kw_only=True):
    """Probabilities mean what they say: calibration error at most `max_error`, slope of the log-odds within bounds."""

    max_error: _NonNegative | None = 0.05
    slope_low: _NonNegative | None = None
    slope_high: _NonNegative | None = None
    level: _Level | None = None

    def __post_init__(self) -> None:
        """Refuse a gate that asks for nothing, and bounds that no slope is between."""
        if self.max_error is None and self.slope_low is None and self.slope_high is None:
            raise ValueError("a calibration gate needs `max_error`, `slope_low` or `slope_high`")
        if self.slope_low is not None and self.slope_high is not None and self.slope_low >= self.slope_high:
            raise ValueError("`slope_low` must be below `slope_high`")


def check_metric(name: str | None) -> None:
    """Raise `ValueError` for a metric that nobody knows."""
    if name is not None and name not in METRIC_NAMES:
        raise ValueError(f"no metric is called {name!r}; known: {', '.join(METRIC_NAMES)}")


def check_test(test: str, metric: str | None) -> None:
    """Raise `ValueError` when a test in closed form is asked about another metric than its own."""
    own = {"delong": "roc_auc", "mcnemar": "accuracy"}.get(test)
    if own is not None and metric not in (None, own):
        raise ValueError(f"the test {test} judges {own}, not {metric}: leave `metric` out, or use `test: bootstrap`")


def _build(kind: str) -> Callable[[Any], Gate]:
    def build(params: Any) -> Gate:
        from .gates import make_gate  # noqa: PLC0415 - start-up: planning does not need numpy

        return make_gate(kind, params)

    return build


def components() -> tuple[Component, ...]:
    """Contribute the gates."""
    kinds: dict[str, tuple[type[Params], str]] = {
        "data_validation": (DataValidationParams, "the sources meet what is expected of them"),
        "min_rows": (MinRowsParams, "the test has enough rows"),
        "threshold": (ThresholdParams, "a metric's confidence bound meets a value"),
        "beats_baseline": (BeatsBaselineParams, "better than the simple model, by paired bootstrap"),
        "not_worse_than_champion": (NotWorseParams, "not worse than the champion by more than a margin"),
        "better_than_champion": (BetterThanChampionParams, "better than the champion in the primary metric"),
        "guardrails": (GuardrailsParams, "no guardrail metric is worse than the champion's by more than its margin"),
        "calibration": (CalibrationParams, "probabilities mean what they say"),
        "mft": (MftParams, "minimum functionality: predictions where everybody knows what they should be"),
        "inv": (InvParams, "invariance: what should not matter does not"),
        "dir": (DirParams, "direction: predictions move the way they should"),
        "leakage": (LeakageParams, "training did not know the answers"),
        "fairness": (FairnessParams, "groups are treated alike"),
        "training": (TrainingParams, "a step helps, a tiny batch is learnt by heart, files keep every bit"),
        "latency": (LatencyParams, "scoring is fast enough"),
        "size": (SizeParams, "the model is small enough"),
        "parity": (ParityParams, "serving computes what training used, to the last bit"),
    }
    return tuple(
        Component("gate", kind, params, _build(kind), ("numpy", "scipy"), doc) for kind, (params, doc) in kinds.items()
    )
