"""A threshold in every slice, without rejecting a good model because it has many slices.

Enters: evidence, a metric and a requirement. Leaves: findings. A slice is tested for a shortfall (one-sided, normal,
with the standard error of its bootstrap interval), and the tests are corrected by Holm's method (1979).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from engine.contracts import Evidence
from engine.evaluation.bootstrap import Resampling, bootstrap_intervals
from engine.evaluation.document import MeasuredMetric, PairedDifference
from engine.evaluation.slices import take_rows

from .judging import Findings, Requirement, document_of, standard_error

Measure: TypeAlias = MeasuredMetric | PairedDifference
MeasureRows: TypeAlias = Callable[[NDArray[np.bool_]], Measure]
"""Measures on the rows where a mask is true."""

_NAMED = 5  # slices that a reason lists by name


@dataclass(slots=True)
class _Tested:
    """Slices by what became of them; `values` and `p` are by the name of the slice."""

    empty: list[str] = field(default_factory=list)
    unmeasured: list[str] = field(default_factory=list)
    values: dict[str, float] = field(default_factory=dict)
    p: dict[str, float] = field(default_factory=dict)


def judge_slices(evidence: Evidence, requirement: Requirement, level: float, measure: MeasureRows) -> Findings:
    """Fail when a slice is empty or surely misses the requirement; inconclusive when none could be tested."""
    required = f"every slice: {requirement.words()}"
    if not any(evidence.slices.values()):
        return Findings("inconclusive", "no slices", required, "`evaluate.slices` names none, so none was measured")
    tested = _test(evidence, requirement, measure)
    worse = holm(tested.p, 1 - level)
    numbers: dict[str, Any] = {
        "tested": len(tested.p), "failed": worse, "empty": tested.empty, "not_measured": tested.unmeasured,
        "values": tested.values, "p": tested.p,
    }  # fmt: skip
    observed = f"{len(tested.p)} slices tested, {len(worse)} short, {len(tested.unmeasured)} too small to tell"
    if worse or tested.empty:
        reasons = [f"{_names(worse)} fall short (Holm, {1 - level:.3g})"] if worse else []
        reasons += [f"{_names(tested.empty)} have no rows"] if tested.empty else []
        return Findings("fail", observed, required, "; ".join(reasons), numbers)
    if not tested.p:
        return Findings(
            "inconclusive", observed, required, f"no slice has enough rows: {_names(tested.unmeasured)}", numbers
        )
    left = f"; too small to tell: {_names(tested.unmeasured)}" if tested.unmeasured else ""
    return Findings("pass", observed, required, f"no slice surely falls short{left}", numbers)


def holm(p: Mapping[str, float], alpha: float) -> list[str]:
    """Give the names whose p-values are rejected at the family-wise level `alpha`, smallest first.

    >>> holm({"a": 0.001, "b": 0.03, "c": 0.04}, 0.05)
    ['a']
    """
    ordered = sorted(p, key=lambda name: (p[name], name))
    for index, name in enumerate(ordered):
        if p[name] > alpha / (len(ordered) - index):
            return ordered[:index]
    return ordered


def shortfall_p(measure: Measure, requirement: Requirement) -> float | None:
    """Give the probability of a value as bad where the requirement is just met; `None` without an interval."""
    error = standard_error(measure)
    if measure.value is None or error is None:
        return None
    short = max(
        requirement.minimum - measure.value if requirement.minimum is not None else -float("inf"),
        measure.value - requirement.maximum if requirement.maximum is not None else -float("inf"),
    )
    if error == 0:
        return 0.0 if short > 0 else 1.0
    return 1 - NormalDist().cdf(short / error)


def threshold_measure(evidence: Evidence, metric: str, resampling: Resampling) -> MeasureRows:
    """Measure the challenger's metric on rows; what the evaluation document holds is not measured again."""
    known = _document_slices(evidence, metric, resampling.level)
    by_rows = {mask.tobytes(): known.get((column, value))
               for column, masks in evidence.slices.items() for value, mask in masks.items()}  # fmt: skip

    def measure(mask: NDArray[np.bool_]) -> MeasuredMetric:
        found = by_rows.get(mask.tobytes())
        if found is not None and found.n == int(mask.sum()):
            return found
        return bootstrap_intervals(take_rows(evidence.challenger, mask), [metric], resampling)[metric]

    return measure


def _test(evidence: Evidence, requirement: Requirement, measure: MeasureRows) -> _Tested:
    document = document_of(evidence)
    least = document.min_slice_rows if document is not None else 1
    tested = _Tested()
    for column, masks in evidence.slices.items():
        for value, mask in masks.items():
            name, rows = f"{column} = {value}", int(mask.sum())
            if rows == 0:
                tested.empty.append(name)
                continue
            found = measure(mask) if rows >= least else None
            p = shortfall_p(found, requirement) if found is not None else None
            if p is None or found is None or found.value is None:
                tested.unmeasured.append(name)
                continue
            tested.p[name], tested.values[name] = p, found.value
    return tested


def _document_slices(evidence: Evidence, metric: str, level: float) -> dict[tuple[str, str], MeasuredMetric]:
    document = document_of(evidence)
    if document is None or document.primary != metric or document.level != level:
        return {}
    return {(item.column, item.value): item.metric for item in document.slices if item.status == "measured"}


def _names(names: Sequence[str]) -> str:
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
