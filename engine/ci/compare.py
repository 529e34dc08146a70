"""Comparing a small training with a baseline, and adding everything up to a verdict. Pure.

Enters: the evaluation document of the run, a baseline. Leaves: one `Compared` a metric, and the verdict with its reasons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from statistics import NormalDist
from typing import Any

from engine.ci_records import BaselineMetric, CiBaseline, Compared, Standing
from engine.records import FeatureCaseResult, GateResult, Metric, Verdict

_SAME_ROWS_NEEDED = "not measured on the same rows"


def compare_with_champion(evaluation: Mapping[str, Any], margin: float) -> list[Compared]:
    """Compare with the champion as it was scored on the same rows, by the paired intervals."""
    models, primary = evaluation["models"], evaluation.get("primary")
    ours, theirs = models["challenger"]["metrics"], models["champion"]["metrics"]
    found = []
    for name, gap in evaluation.get("differences", {}).get("champion", {}).items():
        better = bool(ours[name]["higher_is_better"])
        found.append(
            Compared(
                metric=name,
                ours=ours[name]["value"],
                theirs=theirs.get(name, {}).get("value"),
                difference=gap.get("value"),
                low=gap.get("low"),
                high=gap.get("high"),
                higher_is_better=better,
                paired=True,
                primary=name == primary,
                standing=standing_of(gap.get("low"), gap.get("high"), better=better, margin=margin),
                note=gap.get("reason", ""),
            )
        )
    return found


def compare_with_baseline(metrics: Sequence[Metric], baseline: CiBaseline, margin: float) -> list[Compared]:
    """Compare with recorded metrics: two independent intervals, whose errors add up."""
    found = []
    for index, metric in enumerate(metrics):
        other = baseline.metrics.get(metric.name)
        if other is None:
            continue
        gap = None if metric.value is None or other.value is None else metric.value - other.value
        error = _error(metric), _error(other)
        low = high = None
        if gap is not None and error[0] is not None and error[1] is not None:
            reach = NormalDist().inv_cdf((1 + (metric.level or 0.95)) / 2) * sqrt(error[0] ** 2 + error[1] ** 2)
            low, high = gap - reach, gap + reach
        found.append(
            Compared(
                metric=metric.name,
                ours=metric.value,
                theirs=other.value,
                difference=gap,
                low=low,
                high=high,
                higher_is_better=metric.higher_is_better,
                primary=index == 0,
                standing=standing_of(low, high, better=metric.higher_is_better, margin=margin),
                note="" if low is not None else _SAME_ROWS_NEEDED,
            )
        )
    return found


def baseline_of(pipeline: str, run_id: str, sample: str | None, metrics: Sequence[Metric]) -> CiBaseline:
    """Make a baseline of a run's metrics."""
    kept = {
        metric.name: BaselineMetric(
            value=metric.value,
            low=metric.low,
            high=metric.high,
            level=metric.level,
            higher_is_better=metric.higher_is_better,
        )
        for metric in metrics
    }
    return CiBaseline(pipeline=pipeline, run_id=run_id, sample=sample, metrics=kept)


def standing_of(low: float | None, high: float | None, *, better: bool, margin: float) -> Standing:
    """Say where an interval of `ours - theirs` lies.

    >>> standing_of(-0.03, -0.01, better=True, margin=0.005), standing_of(-0.03, 0.01, better=True, margin=0.0)
    ('worse', 'same')
    """
    if low is None or high is None:
        return "unknown"
    if not better:
        low, high = -high, -low
    if high < -margin:
        return "worse"
    return "better" if low > margin else "same"


def _error(metric: Metric | BaselineMetric) -> float | None:
    if metric.low is None or metric.high is None:
        return None
    return (metric.high - metric.low) / (2 * NormalDist().inv_cdf((1 + (metric.level or 0.95)) / 2))


def add_up(
    cases: Sequence[FeatureCaseResult], gates: Sequence[GateResult], compared: Sequence[Compared]
) -> tuple[Verdict, tuple[str, ...]]:
    """Give the verdict with its reasons: a failed case, a failed blocking gate or a worse primary metric rejects."""
    blocking = [gate for gate in gates if gate.severity == "block"]
    failed = [f"feature case {case.name} fails" for case in cases if not case.passed]
    failed += [f"gate {gate.name} fails: {gate.reason}" for gate in blocking if gate.status == "fail"]
    failed += [
        f"{item.metric} is worse: {item.ours:.4f} against {item.theirs:.4f}"
        for item in compared
        if item.primary and item.standing == "worse" and item.ours is not None and item.theirs is not None
    ]
    if failed:
        return "reject", tuple(failed)
    unsure = [f"gate {gate.name} cannot tell: {gate.reason}" for gate in blocking if gate.status == "inconclusive"]
    if not blocking:
        unsure.append("no blocking gate is declared, so nothing was shown")
    return ("inconclusive", tuple(unsure)) if unsure else ("promote", ())
