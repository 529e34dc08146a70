"""Metrics by slice: where a model does well and where it does not, with an interval for each.

Enters: scores, and for each column the value of every row (text; null is a slice of its own). Leaves: one record a
slice, largest first, those with too few rows marked instead of measured. Called by `evaluate`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.contracts import Scores
from engine.evaluation.bootstrap import Resampling, bootstrap_intervals, point_metric
from engine.evaluation.document import MeasuredMetric, SliceMetric
from engine.evaluation.metrics import METRICS
from engine.evaluation.names import NULL_SLICE

MAX_SLICES = 100
"""Slices listed for one column; the rest, the smallest, are counted."""


@dataclass(frozen=True, slots=True)
class SlicePlan:
    """What to measure in each slice, and how many rows it takes."""

    metric: str
    min_rows: int
    resampling: Resampling


def slice_masks(values: NDArray[Any]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Give each value with a mask of its rows, largest slice first, equal ones by name.

    >>> [(name, int(mask.sum())) for name, mask in slice_masks(np.array(["a", "b", None, "b"], dtype=object))]
    [('b', 2), ('(null)', 1), ('a', 1)]
    """
    named = np.array([NULL_SLICE if value is None else str(value) for value in values.tolist()], dtype=object)
    found, member, count = np.unique(named.astype(str), return_inverse=True, return_counts=True)
    for index in sorted(range(len(found)), key=lambda index: (-int(count[index]), str(found[index]))):
        yield str(found[index]), member == index


def measure_slices(
    models: Mapping[str, Scores], columns: Mapping[str, NDArray[Any]], plan: SlicePlan
) -> tuple[tuple[SliceMetric, ...], dict[str, int]]:
    """Measure the challenger (with interval), baseline and champion in every slice.

    The second value counts, by column, the slices beyond the hundred largest.
    """
    measured: list[SliceMetric] = []
    left_out: dict[str, int] = {}
    for column, values in columns.items():
        for index, (value, mask) in enumerate(slice_masks(values)):
            if index < MAX_SLICES:
                part = {name: take_rows(scores, mask) for name, scores in models.items()}
                measured.append(_measure(column, value, part, plan))
            else:
                left_out[column] = left_out.get(column, 0) + 1
    return tuple(measured), left_out


def take_rows(scores: Scores, mask: NDArray[np.bool_]) -> Scores:
    """Give the scores of the rows where `mask` is true."""
    cluster = None if scores.cluster is None else scores.cluster[mask]
    group = None if scores.group is None else scores.group[mask]
    return replace(scores, y=scores.y[mask], prediction=scores.prediction[mask], cluster=cluster, group=group)


def _measure(column: str, value: str, part: Mapping[str, Scores], plan: SlicePlan) -> SliceMetric:
    challenger = part["challenger"]
    n = len(challenger.y)
    if n < plan.min_rows:
        note = f"{n} rows, {plan.min_rows} needed"
        better = METRICS[plan.metric].higher_is_better
        absent = MeasuredMetric(name=plan.metric, value=None, n=n, higher_is_better=better, reason=note)
        return SliceMetric(column=column, value=value, n=n, status="insufficient", metric=absent, note=note)
    metric = bootstrap_intervals(challenger, [plan.metric], plan.resampling)[plan.metric]
    others = {name: point_metric(plan.metric, part[name]) for name in ("baseline", "champion") if name in part}
    return SliceMetric(
        column=column,
        value=value,
        n=n,
        status="undefined" if metric.value is None else "measured",
        metric=metric,
        baseline=others.get("baseline"),
        champion=others.get("champion"),
        note=metric.reason,
    )
