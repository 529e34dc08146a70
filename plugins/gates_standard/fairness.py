"""Fairness gaps: groups compared in pairs, with intervals.

Every measure is a mean over some of the rows. Shares of independent rows are compared by Newcombe's interval (1998),
other means by the normal one; rows in clusters by the variance of cluster totals. The gate passes when every pair's
interval is within the requirement (each at the level: an intersection-union test needs no correction), fails when some
pair is surely beyond it (Holm over the pairs), and cannot tell otherwise. Definitions as in Hardt et al. 2016 and
Chouldechova 2017; the ratio's interval is Katz's (1978).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist
from typing import Any

import numpy as np

from engine.contracts import Evidence, Scores
from engine.evaluation.significance import Interval, difference_p, holm_adjusted, newcombe
from engine.evaluation.slices import slice_masks

from .judging import Findings, refuse_scores
from .probing import FairnessParams

_SHARES = frozenset({"demographic_parity", "equal_opportunity", "false_positive_rate", "predictive_parity", "accuracy"})
_NUMBERS = frozenset({"calibration", "mean_prediction"})
_MEASURES_OF = {"binary": _SHARES | _NUMBERS | {"equalized_odds"}, "regression": _NUMBERS}
_MOST_GROUPS = 50


@dataclass(frozen=True, slots=True)
class Group:
    """One group under one measure: `n` rows that count, their mean, the variance of that mean, and how many ones.

    `counted` marks independent zeros and ones, whose interval is Newcombe's.
    """

    name: str
    n: int
    mean: float
    variance: float
    ones: int
    counted: bool = False


def judge_fairness(params: FairnessParams, evidence: Evidence) -> Findings:
    """Compare all pairs of groups that are large enough."""
    required = _required(params)
    refused = refuse_scores(evidence)
    if refused:
        return refused
    groups = evidence.columns.get(params.group)
    if groups is None or len(groups) != len(evidence.challenger.y):
        reason = f"the column `{params.group}` of the test rows was not brought"
        return Findings("inconclusive", "not measured", required, reason)
    if params.measure not in _MEASURES_OF.get(evidence.task, ()):
        reason = f"{params.measure} is not defined for the task {evidence.task}"
        return Findings("inconclusive", "", required, reason)
    measures = ("equal_opportunity", "false_positive_rate") if params.measure == "equalized_odds" else (params.measure,)
    kept: dict[str, list[Group]] = {}
    small: list[str] = []
    for measure in measures:
        found = list(_groups(measure, evidence.challenger, groups, params.threshold))
        kept[measure] = [group for group in found if group.n >= params.min_rows][:_MOST_GROUPS]
        small += [f"{group.name} ({group.n} rows)" for group in found if group.n < params.min_rows]
    return _judge(params, kept, sorted(set(small)), required)


def _required(params: FairnessParams) -> str:
    parts = [f"gap <= {params.max_gap:g}"] if params.max_gap is not None else []
    parts += [f"ratio >= {params.min_ratio:g}"] if params.min_ratio is not None else []
    return f"{params.measure} by {params.group}: {' and '.join(parts)}, for every pair at its bound"


def _judge(params: FairnessParams, kept: Mapping[str, list[Group]], small: list[str], required: str) -> Findings:
    pairs = {
        f"{measure}: {one.name} / {two.name}": (one, two)
        for measure, groups in kept.items()
        for one, two in combinations(sorted(groups, key=lambda item: -item.mean), 2)
    }
    numbers: dict[str, Any] = {
        "groups": {m: {g.name: {"n": g.n, "value": g.mean} for g in groups} for m, groups in kept.items()},
        "too_small": small,
        "level": params.level,
    }
    left = f"; too few rows: {', '.join(small[:5])}" if small else ""
    if not pairs:
        total = sum(group.n for groups in kept.values() for group in groups)
        reason = f"fewer than two groups have {params.min_rows} rows that count{left}"
        return Findings("inconclusive", f"{total} rows in groups that are large enough", required, reason, numbers)
    over: dict[str, float] = {}
    unsure: list[str] = []
    worst = ("", Interval(0.0, 0.0, 0.0, params.level))
    shares = params.measure not in _NUMBERS
    for name, (one, two) in pairs.items():
        gap = _gap(one, two, params.level, shares=shares)
        worst = (name, gap) if not worst[0] or gap.value > worst[1].value else worst
        p, sure = _hold(params, (one, two), gap)
        over[name] = p
        if not sure:
            unsure.append(name)
    numbers |= {"worst": worst[0], "gap": worst[1].value, "low": worst[1].low, "high": worst[1].high}
    adjusted = holm_adjusted(over)
    beyond = sorted(name for name, p in adjusted.items() if p <= 1 - params.level)
    numbers |= {"pairs": len(pairs), "beyond": beyond, "not_shown": unsure[:20]}
    n = sum(group.n for groups in kept.values() for group in groups)
    observed = f"widest gap {worst[1].value:.4f} ({worst[1].low:.4f} to {worst[1].high:.4f}), {worst[0]}, n = {n}"
    if beyond:
        return Findings("fail", observed, required, f"surely apart (Holm): {'; '.join(beyond[:3])}{left}", numbers)
    if unsure:
        reason = f"{len(unsure)} of {len(pairs)} pairs cannot be told, as {unsure[0]}: more rows would{left}"
        return Findings("inconclusive", observed, required, reason, numbers)
    return Findings("pass", observed, required, f"every pair is within the requirement{left}", numbers)


def _hold(params: FairnessParams, pair: tuple[Group, Group], gap: Interval) -> tuple[float, bool]:
    """Give the p-value of being beyond the requirement, and whether being within it is shown."""
    p, sure = 1.0, True
    if params.max_gap is not None:
        shifted = Interval(gap.value - params.max_gap, gap.low - params.max_gap, gap.high, gap.level)
        p, sure = min(p, difference_p(shifted)), sure and gap.high <= params.max_gap
    if params.min_ratio is not None:
        high, low = pair
        if high.ones and low.ones:
            log = float(np.log(low.mean / high.mean))
            error = float(np.sqrt(max(0.0, 1 / low.ones - 1 / low.n + 1 / high.ones - 1 / high.n)))
            reach = NormalDist().inv_cdf((1 + params.level) / 2) * error
            sure = sure and float(np.exp(log - reach)) >= params.min_ratio
            short = float(np.log(params.min_ratio)) - log if params.min_ratio > 0 else -np.inf
            p = min(p, 1 - NormalDist().cdf(short / error)) if error > 0 else min(p, 0.0 if short > 0 else 1.0)
        else:
            sure = sure and high.ones == 0
    return p, sure


def _gap(one: Group, two: Group, level: float, *, shares: bool) -> Interval:
    """Give the interval of the gap, the larger less the smaller."""
    if shares and one.counted:
        return newcombe((one.ones, two.ones), (one.n, two.n), level)
    variance = one.variance + two.variance
    reach = NormalDist().inv_cdf((1 + level) / 2) * float(np.sqrt(variance))
    gap = one.mean - two.mean
    return Interval(gap, gap - reach, gap + reach, level)


def _groups(measure: str, scores: Scores, groups: np.ndarray, threshold: float) -> Iterator[Group]:
    """Give each group's mean of what the measure is about, the largest group first."""
    value, counts = _values(measure, scores, threshold)
    for name, mask in slice_masks(groups):
        rows = mask & counts
        cluster = None if scores.cluster is None else scores.cluster[rows]
        yield _group(name, value[rows], cluster, binary=measure in _SHARES)


def _values(measure: str, scores: Scores, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Give the value of each row, and which rows count."""
    y, prediction = scores.y, scores.prediction
    everyone = np.ones(len(y), dtype=bool)
    decided = (prediction >= threshold).astype(np.float64)
    match measure:
        case "equal_opportunity":
            return decided, y == 1
        case "false_positive_rate":
            return decided, y == 0
        case "predictive_parity":
            return y, decided == 1
        case "accuracy":
            return (decided == y).astype(np.float64), everyone
        case "calibration":
            return prediction - y, everyone
        case "mean_prediction":
            return prediction, everyone
        case _:
            return decided, everyone


def _group(name: str, values: np.ndarray, cluster: np.ndarray | None, *, binary: bool) -> Group:
    """Summarise the rows of a group."""
    n = len(values)
    if n == 0:
        return Group(name, 0, 0.0, 0.0, 0)
    mean = float(values.mean())
    if cluster is not None:
        _, member = np.unique(cluster, return_inverse=True)
        totals = np.bincount(member, weights=values - mean)
        units = len(totals)
        variance = float(np.square(totals).sum()) / n**2 * (units / max(1, units - 1))
    else:
        variance = float(values.var(ddof=1)) / n if n > 1 else 0.0
    return Group(name, n, mean, variance, int(values.sum()) if binary else 0, binary and cluster is None)
