"""Which trial is best: by the first objective, or, of several, who is beaten by nobody. Pure.

Ties go to the earlier trial, so that a sweep that was killed and resumed ends with the same table.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import structs

from engine.records import TunedMetric
from engine.sweep_records import TrialRecord


def rank_trials(trials: Sequence[TrialRecord]) -> tuple[TrialRecord, ...]:
    """Order trials best first and number them; what has no value comes last, by number."""

    def key(trial: TrialRecord) -> tuple[bool, float, int]:
        loss = loss_of(trial)
        return (loss is None, loss or 0.0, trial.number)

    ordered = sorted(trials, key=key)
    return tuple(
        structs.replace(trial, rank=place if loss_of(trial) is not None else None)
        for place, trial in enumerate(ordered, 1)
    )


def loss_of(trial: TrialRecord) -> float | None:
    """Give a finished trial's first objective, turned so that lower is better."""
    if trial.state != "succeeded" or not trial.tuned:
        return None
    return turned(trial.tuned[0])


def turned(metric: TunedMetric) -> float | None:
    """Give a metric so that lower is better; `None` for one that has no finite value."""
    if metric.value is None or not math.isfinite(metric.value):
        return None
    return -metric.value if metric.higher_is_better else metric.value


def pareto_front(trials: Sequence[TrialRecord]) -> tuple[int, ...]:
    """Give the numbers of the trials that no other beats in one objective without losing in another."""
    values = {}
    for trial in trials:
        losses = [turned(metric) for metric in trial.tuned] if trial.state == "succeeded" else []
        if losses and None not in losses:
            values[trial.number] = [loss for loss in losses if loss is not None]
    return tuple(
        sorted(
            number
            for number, own in values.items()
            if not any(_beats(other, own) for known, other in values.items() if known != number)
        )
    )


def _beats(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True)) and any(a < b for a, b in zip(one, other, strict=True))
