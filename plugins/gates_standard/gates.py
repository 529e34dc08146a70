"""The gates themselves, by kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from engine.components import Params
from engine.contracts import Evidence, Gate, Scores
from engine.evaluation.calibration import calibration_slope
from engine.evaluation.document import MeasuredMetric, PairedDifference
from engine.evaluation.names import BINARY, METRIC_NAMES
from engine.records import GateResult, GateStatus

from . import (
    BeatsBaselineParams,
    CalibrationParams,
    DataValidationParams,
    MinRowsParams,
    NotWorseParams,
    ThresholdParams,
)
from .judging import (
    Findings,
    Requirement,
    compared,
    decide,
    measured,
    numbers_of,
    primary_of,
    refuse_scores,
    resampling_of,
    words_of,
)
from .slices import judge_slices

P = TypeVar("P", bound=Params)
_WORST: tuple[GateStatus, ...] = ("fail", "inconclusive", "pass")


@dataclass(frozen=True, slots=True)
class StandardGate(Generic[P]):
    """A gate made of a judgement: `judge(params, evidence)`."""

    kind: str
    params: P
    judge: Callable[[P, Evidence], Findings]

    def decide(self, name: str, evidence: Evidence) -> GateResult:
        """Judge; bad numbers are a verdict, never an exception."""
        return self.judge(self.params, evidence).named(name, self.kind)


def validate_data(params: DataValidationParams, evidence: Evidence) -> Findings:
    """Count expectations that failed; inconclusive when a source was not checked, or nothing was expected of any."""
    required = "no blocking expectation fails"
    missing = [name for name in params.sources if name not in evidence.validation]
    if missing or not evidence.validation:
        which = ", ".join(missing) if missing else "any source"
        return Findings("inconclusive", f"no validation of {which}", required, "what was not checked has not passed")
    wanted = params.sources or tuple(evidence.validation)
    found = [(name, item) for name in wanted for item in _findings(evidence.validation[name])]
    blocking = [(name, item) for name, item in found if item.get("severity", "block") == "block"]
    failed = [f"{name}: {item.get('rule')}" for name, item in blocking if item.get("status") == "fail"]
    unknown = [f"{name}: {item.get('rule')}" for name, item in blocking if item.get("status") not in ("pass", "fail")]
    warned = [f"{name}: {item.get('rule')}" for name, item in found if item.get("status") == "fail"]
    warned = [text for text in warned if text not in failed]
    numbers = {"checked": len(found), "failed": failed, "not_checked": unknown, "warnings": warned}
    observed = f"{len(found)} expectations of {len(wanted)} sources, {len(failed)} failed, {len(warned)} warnings"
    if failed:
        return Findings("fail", observed, required, f"failed: {'; '.join(failed)}", numbers)
    if unknown or not found:
        reason = (
            f"not checked: {'; '.join(unknown)}"
            if unknown
            else "nothing is expected of these sources, so nothing was checked"
        )
        return Findings("inconclusive", observed, required, reason, numbers)
    return Findings("pass", observed, required, f"warnings: {'; '.join(warned)}" if warned else "all hold", numbers)


def _findings(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = report.get("findings")
    return [item for item in found if isinstance(item, Mapping)] if isinstance(found, list | tuple) else []


def count_rows(params: MinRowsParams, evidence: Evidence) -> Findings:
    """Compare counts of test rows; of a binary label also those of each class."""
    y = evidence.challenger.y
    counts = {"rows": len(y)}
    wanted = {"rows": params.rows}
    if evidence.task == BINARY:
        counts |= {"positives": int((y == 1).sum()), "negatives": int((y == 0).sum())}
        wanted |= {"positives": params.positives, "negatives": params.negatives}
    short = [name for name, least in wanted.items() if counts[name] < least]
    observed = ", ".join(f"{count} {name}" for name, count in counts.items())
    required = ", ".join(f"{least} {name}" for name, least in wanted.items() if least)
    reason = f"too few {' and '.join(short)}" if short else "enough"
    return Findings(
        "fail" if short else "pass", observed, f"at least {required}", reason, {"counts": counts, "required": wanted}
    )


def hold_threshold(params: ThresholdParams, evidence: Evidence) -> Findings:
    """Hold the metric, and if asked every slice, against the threshold."""
    refused = refuse_scores(evidence, params.metric)
    if refused:
        return refused
    requirement = Requirement(params.minimum, params.maximum, params.bound)
    measure = measured(evidence, params.metric, params.level)
    status, reason = decide(measure, requirement)
    whole = Findings(status, words_of(measure), requirement.words(), reason, numbers_of(measure))
    if not params.slices:
        return whole
    resampling = resampling_of(evidence, params.level)
    return _together({"all rows": whole, "slices": judge_slices(evidence, params.metric, requirement, resampling)})


def beat_baseline(params: BeatsBaselineParams, evidence: Evidence) -> Findings:
    """Ask for an advantage of more than the margin."""
    metric = params.metric or primary_of(evidence)
    refused = refuse_scores(evidence, metric)
    if refused:
        return refused
    if evidence.baseline is None:
        return Findings(
            "inconclusive", "no baseline", "a baseline to beat", "declare one, as in `baseline: {kind: linear}`"
        )
    return _compare(evidence, evidence.baseline, Ask("baseline", metric, params.margin, params.level, strict=True))


def match_champion(params: NotWorseParams, evidence: Evidence) -> Findings:
    """Ask for a disadvantage of no more than the margin; the first model has nobody to be worse than."""
    metric = params.metric or primary_of(evidence)
    refused = refuse_scores(evidence, metric)
    if refused:
        return refused
    required = f"not worse than the champion by more than {params.margin:g}"
    if evidence.refusals or (evidence.champion is None and evidence.champion_name is not None):
        reason = "; ".join(evidence.refusals) or f"{evidence.champion_name} was not scored"
        return Findings(
            "inconclusive",
            "the champion could not be compared",
            required,
            reason,
            {"refusals": list(evidence.refusals)},
        )
    if evidence.champion is None:
        return Findings("pass", "no champion", required, "first model: there is none to be worse than", {"first": True})
    return _compare(evidence, evidence.champion, Ask("champion", metric, -params.margin, params.level, strict=False))


@dataclass(frozen=True, slots=True)
class Ask:
    """How much better than a model the challenger must be: at least `margin`, or more (`strict`).

    A margin below 0 is how much worse it may be.
    """

    model: str
    metric: str
    margin: float
    level: float | None
    strict: bool


def _compare(evidence: Evidence, other: Scores, ask: Ask) -> Findings:
    """Ask for an advantage over a model, on the paired bootstrap's bound."""
    difference = compared(evidence, ask.model, other, ask.metric, ask.level)
    advantage = _advantage(difference, better=METRIC_NAMES[ask.metric].higher_is_better)
    required = f"advantage over the {ask.model}, at its low end, {'>' if ask.strict else '>='} {ask.margin:g}"
    numbers = numbers_of(difference) | {"margin": ask.margin, "against": ask.model}
    status, reason = decide(advantage, Requirement(minimum=ask.margin))
    if ask.strict and status != "fail" and ask.margin in (advantage.value, advantage.low):
        # Equal is not better: a model that predicts what the baseline predicts has beaten nothing.
        status = "fail" if advantage.value == ask.margin else "inconclusive"
        reason = f"not more than {ask.margin:g} better than the {ask.model}"
    return Findings(status, f"advantage {words_of(advantage)}", required, reason, numbers)


def _advantage(difference: PairedDifference, *, better: bool) -> PairedDifference:
    """Turn a difference so that more is better for the challenger."""
    if better or difference.value is None:
        return difference
    low, high = difference.low, difference.high
    return PairedDifference(
        name=difference.name,
        value=-difference.value,
        low=None if high is None else -high,
        high=None if low is None else -low,
        level=difference.level,
        probability=difference.probability,
        n=difference.n,
        reason=difference.reason,
    )


def judge_calibration(params: CalibrationParams, evidence: Evidence) -> Findings:
    """Hold calibration error and slope against their bounds; the worse of the two verdicts counts."""
    refused = refuse_scores(evidence, "calibration_error")
    if refused:
        return refused
    parts: dict[str, Findings] = {}
    if params.max_error is not None:
        error = measured(evidence, "calibration_error", params.level)
        requirement = Requirement(maximum=params.max_error)
        status, reason = decide(error, requirement)
        parts["error"] = Findings(status, words_of(error), requirement.words(), reason, numbers_of(error))
    if params.slope_low is not None or params.slope_high is not None:
        parts["slope"] = _judge_slope(params, evidence)
    return _together(parts)


def _judge_slope(params: CalibrationParams, evidence: Evidence) -> Findings:
    level = params.level or resampling_of(evidence, None).level
    scores = evidence.challenger
    slope = calibration_slope(scores.y, scores.prediction, level)
    measure = MeasuredMetric(
        name="slope",
        value=slope.value,
        low=slope.low,
        high=slope.high,
        level=level,
        n=len(scores.y),
        reason=slope.reason,
    )
    requirement = Requirement(params.slope_low, params.slope_high)
    status, reason = decide(measure, requirement)
    return Findings(status, words_of(measure), requirement.words(), reason, numbers_of(measure))


def _together(parts: Mapping[str, Findings]) -> Findings:
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


_JUDGEMENTS: Mapping[str, Callable[[Any, Evidence], Findings]] = {
    "data_validation": validate_data,
    "min_rows": count_rows,
    "threshold": hold_threshold,
    "beats_baseline": beat_baseline,
    "not_worse_than_champion": match_champion,
    "calibration": judge_calibration,
}


def make_gate(kind: str, params: Params) -> Gate:
    """Make the gate of a kind."""
    return StandardGate(kind, params, _JUDGEMENTS[kind])
