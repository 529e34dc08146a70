"""The gates themselves, by kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from engine.components import Params
from engine.contracts import Evidence, Gate
from engine.evaluation.calibration import calibration_slope
from engine.evaluation.document import MeasuredMetric
from engine.evaluation.names import BINARY
from engine.records import GateResult

from . import (
    BeatsBaselineParams,
    BetterThanChampionParams,
    CalibrationParams,
    DataValidationParams,
    GuardrailsParams,
    MinRowsParams,
    NotWorseParams,
    ThresholdParams,
)
from .behaviour import judge_behaviour, judge_latency, judge_size, judge_training
from .comparing import Ask, compare, compare_slices, guardrail, metric_of, without_champion
from .fairness import judge_fairness
from .judging import (
    Findings,
    Requirement,
    decide,
    measured,
    numbers_of,
    primary_of,
    refuse_scores,
    resampling_of,
    together,
    words_of,
)
from .leakage import judge_leakage
from .parity import judge_parity
from .slices import judge_slices, threshold_measure

P = TypeVar("P", bound=Params)


@dataclass(frozen=True, slots=True)
class StandardGate(Generic[P]):
    """A gate made of a judgement: `judge(params, evidence)`."""

    kind: str
    params: P
    judge: Callable[[P, Evidence, str], Findings]

    def decide(self, name: str, evidence: Evidence) -> GateResult:
        """Judge; bad numbers are a verdict, never an exception."""
        return self.judge(self.params, evidence, name).named(name, self.kind)


def _nameless(judge: Callable[[Any, Evidence], Findings]) -> Callable[[Any, Evidence, str], Findings]:
    """Judge by a rule that does not depend on what the gate is called."""
    return lambda params, evidence, _: judge(params, evidence)


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
    measure_rows = threshold_measure(evidence, params.metric, resampling)
    slices = judge_slices(evidence, requirement, resampling.level, measure_rows)
    return together({"all rows": whole, "slices": slices})


def beat_baseline(params: BeatsBaselineParams, evidence: Evidence) -> Findings:
    """Ask for an advantage of more than the margin."""
    metric = metric_of(params.test, params.metric, primary_of(evidence))
    refused = refuse_scores(evidence, metric)
    if refused:
        return refused
    if evidence.baseline is None:
        return Findings(
            "inconclusive", "no baseline", "a baseline to beat", "declare one, as in `baseline: {kind: linear}`"
        )
    ask = Ask("baseline", metric, params.margin, params.level, strict=True, test=params.test)
    return compare(evidence, evidence.baseline, ask)


def match_champion(params: NotWorseParams, evidence: Evidence) -> Findings:
    """Ask for a disadvantage of no more than the margin; the first model has nobody to be worse than."""
    metric = metric_of(params.test, params.metric, primary_of(evidence))
    required = f"not worse than the champion by more than {params.margin:g}"
    early = refuse_scores(evidence, metric) or without_champion(evidence, required)
    if early or evidence.champion is None:
        return early or Findings("inconclusive", "no champion", required, "it was not scored")
    ask = Ask("champion", metric, -params.margin, params.level, strict=False, test=params.test)
    whole = compare(evidence, evidence.champion, ask)
    if not params.slices:
        return whole
    slices = compare_slices(evidence, evidence.champion, replace(ask, margin=-(params.slice_margin or params.margin)))
    return together({"all rows": whole, "slices": slices})


def beat_champion(params: BetterThanChampionParams, evidence: Evidence) -> Findings:
    """Ask for an advantage in the one primary metric; a second question would need a correction."""
    primary = primary_of(evidence)
    metric = metric_of(params.test, None, primary)
    required = f"better than the champion by more than {params.margin:g}, in {primary}"
    early = refuse_scores(evidence, metric) or without_champion(evidence, required)
    if early or evidence.champion is None:
        return early or Findings("inconclusive", "no champion", required, "it was not scored")
    if metric != primary:
        reason = f"the test {params.test} judges {metric}, and the primary metric is {primary}"
        return Findings("inconclusive", "", required, reason, {"metric": metric, "primary": primary})
    ask = Ask("champion", metric, params.margin, params.level, strict=True, test=params.test)
    return compare(evidence, evidence.champion, ask)


def keep_guardrails(params: GuardrailsParams, evidence: Evidence) -> Findings:
    """Ask that no guardrail is worse than the champion's by more than its margin: all have to be, so none is corrected."""
    required = ", ".join(f"{metric} not worse by more than {margin:g}" for metric, margin in params.metrics.items())
    early = refuse_scores(evidence) or without_champion(evidence, required)
    if early or evidence.champion is None:
        return early or Findings("inconclusive", "no champion", required, "it was not scored")
    parts = {}
    for metric, margin in params.metrics.items():
        undefined = refuse_scores(evidence, metric)
        parts[metric] = undefined or guardrail(evidence, evidence.champion, metric, margin, params.level)
    return together(parts)


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
    return together(parts)


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


_JUDGEMENTS: Mapping[str, Callable[[Any, Evidence, str], Findings]] = {
    "data_validation": _nameless(validate_data),
    "min_rows": _nameless(count_rows),
    "threshold": _nameless(hold_threshold),
    "beats_baseline": _nameless(beat_baseline),
    "not_worse_than_champion": _nameless(match_champion),
    "better_than_champion": _nameless(beat_champion),
    "guardrails": _nameless(keep_guardrails),
    "calibration": _nameless(judge_calibration),
    "fairness": _nameless(judge_fairness),
    "mft": judge_behaviour,
    "inv": judge_behaviour,
    "dir": judge_behaviour,
    "leakage": judge_leakage,
    "training": judge_training,
    "latency": judge_latency,
    "size": judge_size,
    "parity": judge_parity,
}


def make_gate(kind: str, params: Params) -> Gate:
    """Make the gate of a kind."""
    return StandardGate(kind, params, _JUDGEMENTS[kind])
