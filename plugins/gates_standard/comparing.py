"""Comparing the challenger with another model: by paired bootstrap, by DeLong, by McNemar, and slice by slice.

Enters: evidence, the other model's scores, and what is asked. Leaves: findings on the bound of the difference.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from engine.contracts import Evidence, Scores
from engine.evaluation.bootstrap import paired_bootstrap
from engine.evaluation.document import PairedDifference
from engine.evaluation.metrics import why_undefined
from engine.evaluation.names import METRIC_NAMES
from engine.evaluation.significance import delong, mcnemar
from engine.evaluation.slices import take_rows

from .judging import Findings, Requirement, compared, decide, numbers_of, resampling_of, words_of
from .slices import judge_slices

Test = Literal["bootstrap", "delong", "mcnemar"]
_JUDGES = {"delong": "roc_auc", "mcnemar": "accuracy"}


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
    test: Test = "bootstrap"


def metric_of(test: Test, metric: str | None, primary: str) -> str:
    """Give the metric that a test judges: its own, else the one named, else the primary one."""
    return _JUDGES.get(test) or metric or primary


def compare(evidence: Evidence, other: Scores, ask: Ask) -> Findings:
    """Ask for an advantage over a model, on the bound of the paired difference."""
    difference = difference_by(evidence, other, ask)
    advantage = advantage_of(difference, better=METRIC_NAMES[ask.metric].higher_is_better)
    required = f"advantage over the {ask.model}, at its low end, {'>' if ask.strict else '>='} {ask.margin:g}"
    numbers = numbers_of(difference) | {"margin": ask.margin, "against": ask.model, "test": ask.test}
    status, reason = decide(advantage, Requirement(minimum=ask.margin))
    if ask.strict and status != "fail" and ask.margin in (advantage.value, advantage.low):
        # Equal is not better: a model that predicts what the baseline predicts has beaten nothing.
        status = "fail" if advantage.value == ask.margin else "inconclusive"
        reason = f"not more than {ask.margin:g} better than the {ask.model}"
    return Findings(status, f"advantage {words_of(advantage)}", required, reason, numbers)


def compare_slices(evidence: Evidence, other: Scores, ask: Ask) -> Findings:
    """Ask the same of every slice: one fails when it is surely short of the margin, after Holm's correction."""
    resampling = resampling_of(evidence, ask.level)
    better = METRIC_NAMES[ask.metric].higher_is_better

    def measure(mask: np.ndarray) -> PairedDifference:
        ours, theirs = take_rows(evidence.challenger, mask), take_rows(other, mask)
        return advantage_of(paired_bootstrap(ours, theirs, ask.metric, resampling), better=better)

    return judge_slices(evidence, Requirement(minimum=ask.margin), resampling.level, measure)


def difference_by(evidence: Evidence, other: Scores, ask: Ask) -> PairedDifference:
    """Give `challenger - other` with its interval, by the test that is asked for."""
    if ask.test == "bootstrap":
        return compared(evidence, ask.model, other, ask.metric, ask.level)
    ours, level = evidence.challenger, resampling_of(evidence, ask.level).level
    n = len(ours.y)
    why = _why_not(ours, other, ask.test)
    if why:
        return PairedDifference(name=ask.metric, value=None, n=n, reason=why)
    if ask.test == "delong":
        areas = delong(ours.y, ours.prediction, other.prediction, level)
        found, gap = areas.difference, areas.z
        better = 0.5 + 0.5 * float(np.sign(gap)) * (1 - areas.p)
    else:
        right = [(scores.prediction >= 0.5) == (scores.y == 1) for scores in (ours, other)]
        counted = mcnemar(right[0], right[1], level)
        found, gap = counted.gain, counted.ours - counted.other
        better = 0.5 + 0.5 * float(np.sign(gap)) * (1 - counted.p)
    return PairedDifference(
        name=ask.metric, value=found.value, low=found.low, high=found.high, level=level, n=n,
        probability=better, higher_is_better=True,
    )  # fmt: skip


def _why_not(ours: Scores, other: Scores, test: Test) -> str:
    if ours.cluster is not None:
        return f"rows come in clusters, which {test} does not know of: use `test: bootstrap`"
    if ours.prediction.ndim > 1 or not bool(((ours.y == 0) | (ours.y == 1)).all()):
        return f"{test} compares models of a label of 0 and 1"
    if not np.array_equal(ours.y, other.y):
        return "the two were scored on different rows"
    for scores in (ours, other):
        undefined = why_undefined(_JUDGES[test], scores.y, scores.prediction)
        if undefined:
            return undefined
    if test == "delong" and min((ours.y == 1).sum(), (ours.y == 0).sum()) < 5:
        return "fewer than 5 rows of a class"
    return ""


def advantage_of(difference: PairedDifference, *, better: bool) -> PairedDifference:
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


def without_champion(evidence: Evidence, required: str) -> Findings | None:
    """Judge what needs no comparison: a champion that could not be scored, or none at all."""
    if evidence.refusals or (evidence.champion is None and evidence.champion_name is not None):
        reason = "; ".join(evidence.refusals) or f"{evidence.champion_name} was not scored"
        numbers = {"refusals": list(evidence.refusals)}
        return Findings("inconclusive", "the champion could not be compared", required, reason, numbers)
    if evidence.champion is None:
        return Findings("pass", "no champion", required, "first model: there is none to be worse than", {"first": True})
    return None


def guardrail(evidence: Evidence, champion: Scores, metric: str, margin: float, level: float | None) -> Findings:
    """Judge one guardrail: not worse than the champion by more than its margin."""
    ask = Ask("champion", metric, -margin, level, strict=False)
    found = compare(evidence, champion, ask)
    return replace(found, observed=f"{metric}: {found.observed}")
