"""What gates share: reading the evidence, refusing scores that cannot be judged, and the three-way decision.

Enters: evidence. Leaves: measures (from the evaluation document, or measured here when it does not hold them) and gate
results with words for people and numbers for machines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np

from engine.contracts import Evidence, Scores
from engine.evaluation.bootstrap import Resampling, bootstrap_intervals, paired_bootstrap
from engine.evaluation.document import EvaluationDocument, MeasuredMetric, PairedDifference, read_evaluation
from engine.evaluation.names import DEFAULT_METRICS, METRIC_NAMES
from engine.records import GateResult, GateStatus

_POWER = 0.8


@dataclass(frozen=True, slots=True)
class Findings:
    """A status with its words and numbers, before it has a gate's name."""

    status: GateStatus
    observed: str = ""
    required: str = ""
    reason: str = ""
    evidence: dict[str, Any] = field(default_factory=dict)

    def named(self, name: str, kind: str) -> GateResult:
        """Give the record."""
        return GateResult(
            name=name,
            kind=kind,
            status=self.status,
            observed=self.observed,
            required=self.required,
            reason=self.reason,
            evidence=self.evidence,
        )


_WORST: tuple[GateStatus, ...] = ("fail", "inconclusive", "pass")


def together(parts: Mapping[str, Findings]) -> Findings:
    """Join findings: the worst status, and everybody's words."""
    if len(parts) == 1:
        return next(iter(parts.values()))
    status = next(status for status in _WORST if any(part.status == status for part in parts.values()))
    reasons = [f"{name}: {part.reason}" for name, part in parts.items() if part.status == status]
    return Findings(
        status,
        "; ".join(part.observed for part in parts.values()),
        "; ".join(part.required for part in parts.values()),
        "; ".join(reasons),
        {name: {"status": part.status, **part.evidence} for name, part in parts.items()},
    )


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a measure is held against: at least `minimum`, at most `maximum`, at the bound `low`, `high` or `point`."""

    minimum: float | None = None
    maximum: float | None = None
    bound: str | None = None

    def words(self) -> str:
        """Say it.

        >>> Requirement(minimum=0.7).words()
        'low >= 0.7'
        """
        parts = [(">=", self.minimum, self.bound or "low"), ("<=", self.maximum, self.bound or "high")]
        return " and ".join(f"{bound} {sign} {value:g}" for sign, value, bound in parts if value is not None)

    def met_by(self, low: float, high: float) -> bool:
        """Say whether both ends meet it."""
        return (self.minimum is None or low >= self.minimum) and (self.maximum is None or high <= self.maximum)


def document_of(evidence: Evidence) -> EvaluationDocument | None:
    """Give the evaluation, if the evidence holds one of these very rows."""
    document = read_evaluation(evidence.metrics)
    return document if document is not None and document.n == len(evidence.challenger.y) else None


def resampling_of(evidence: Evidence, level: float | None) -> Resampling:
    """Resample as the evaluation did, at the gate's own level if it has one."""
    document = document_of(evidence)
    if document is None:
        return Resampling(level=level or 0.95, seed=evidence.seed)
    return Resampling(document.resamples, level or document.level, document.seed)


def primary_of(evidence: Evidence) -> str:
    """Give the metric that the pipeline judges by."""
    document = document_of(evidence)
    return document.primary if document is not None else DEFAULT_METRICS[evidence.task][0]


def refuse_scores(evidence: Evidence, metric: str | None = None) -> Findings | None:
    """Judge what needs no measuring: no rows, predictions or labels that are no numbers, another task's metric."""
    scores = evidence.challenger
    n = len(scores.y)
    if evidence.refused:
        observed, required = "scores that do not count", "test rows that no model was trained on"
        return Findings("fail", observed, required, evidence.refused, {"n": n, "refused": evidence.refused})
    if n == 0:
        return Findings("fail", "0 test rows", "at least 1", "no test row matches, so nothing is shown", {"n": 0})
    strange = int((~np.isfinite(scores.prediction)).sum())
    if strange:
        observed, numbers = f"{strange} of {n} predictions are not finite", {"n": n, "not_finite": strange}
        return Findings("fail", observed, "finite predictions", "the model gives no number for these rows", numbers)
    missing = int((~np.isfinite(scores.y)).sum())
    if missing:
        observed, numbers = f"{missing} of {n} labels are missing", {"n": n, "unlabelled": missing}
        return Findings("inconclusive", observed, "a label for each row", "rows without it cannot be judged", numbers)
    if metric is not None and evidence.task not in METRIC_NAMES[metric].tasks:
        return Findings(
            "inconclusive", "", "", f"{metric} is not defined for the task {evidence.task}", {"metric": metric}
        )
    return None


def measured(evidence: Evidence, metric: str, level: float | None) -> MeasuredMetric:
    """Give the challenger's metric with its interval."""
    document = document_of(evidence)
    if document is not None and level in (None, document.level) and "challenger" in document.models:
        found = document.models["challenger"].metrics.get(metric)
        if found is not None:
            return found
    return bootstrap_intervals(evidence.challenger, [metric], resampling_of(evidence, level))[metric]


def compared(evidence: Evidence, model: str, other: Scores, metric: str, level: float | None) -> PairedDifference:
    """Give `challenger - other` with its interval."""
    document = document_of(evidence)
    if document is not None and level in (None, document.level):
        found = document.differences.get(model, {}).get(metric)
        if found is not None:
            return found
    return paired_bootstrap(evidence.challenger, other, metric, resampling_of(evidence, level))


def decide(measure: MeasuredMetric | PairedDifference, requirement: Requirement) -> tuple[GateStatus, str]:
    """Judge a measure three ways; gives the status and the reason."""
    if measure.value is None:
        return "inconclusive", f"{measure.name} has no value: {measure.reason or 'not measured'}"
    if not requirement.met_by(measure.value, measure.value):
        return "fail", f"the measured value itself misses what is required, on {measure.n} rows"
    if requirement.bound == "point":
        return "pass", "the measured value meets what is required"
    if measure.low is None or measure.high is None:
        return "inconclusive", f"the value meets what is required, but there is {measure.reason or 'no interval'}"
    ends = {None: (measure.low, measure.high), "low": (measure.low,) * 2, "high": (measure.high,) * 2}[
        requirement.bound
    ]
    if requirement.met_by(ends[0], ends[1]):
        return "pass", "the confidence bound meets what is required"
    few = f"{measure.n} rows are too few to tell"
    return "inconclusive", f"the value meets what is required and its confidence bound does not: {few}"


def words_of(measure: MeasuredMetric | PairedDifference) -> str:
    """Say a measure as people read it.

    >>> words_of(MeasuredMetric(name="rmse", value=2.5, low=2.25, high=2.75, level=0.95, n=9))
    'rmse 2.5000 (2.2500 to 2.7500), n = 9, detects 0.3573'
    """
    if measure.value is None:
        return f"{measure.name} not defined, n = {measure.n}"
    interval = f" ({measure.low:.4f} to {measure.high:.4f})" if measure.low is not None else ""
    effect = detectable_effect(measure)
    detects = f", detects {effect:.4f}" if effect is not None else ""
    return f"{measure.name} {measure.value:.4f}{interval}, n = {measure.n}{detects}"


def detectable_effect(measure: MeasuredMetric | PairedDifference) -> float | None:
    """Give the smallest effect that as many rows would show four times in five."""
    error = standard_error(measure)
    if error is None or measure.level is None:
        return None
    normal = NormalDist()
    return (normal.inv_cdf((1 + measure.level) / 2) + normal.inv_cdf(_POWER)) * error


def numbers_of(measure: MeasuredMetric | PairedDifference) -> dict[str, Any]:
    """Give a measure to machines, with the smallest effect that as many rows would show four times in five."""
    found = {
        "metric": measure.name,
        "value": measure.value,
        "low": measure.low,
        "high": measure.high,
        "level": measure.level,
        "n": measure.n,
        "minimal_detectable_effect": detectable_effect(measure),
    }
    if isinstance(measure, PairedDifference):
        found["probability_better"] = measure.probability
    return found


def standard_error(measure: MeasuredMetric | PairedDifference) -> float | None:
    """Give the standard error that the width of the interval stands for."""
    if measure.low is None or measure.high is None or measure.level is None:
        return None
    return (measure.high - measure.low) / (2 * NormalDist().inv_cdf((1 + measure.level) / 2))
