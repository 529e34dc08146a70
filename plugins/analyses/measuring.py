"""What analyses share: metrics of scored rows, differences of two models on the same rows, losses row by row, Holm's words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from engine.analysis_contracts import Exhibit, HeldOut, Scored
from engine.contracts import Scores
from engine.errors import DataError
from engine.evaluation.bootstrap import Resampling, bootstrap_intervals, paired_bootstrap
from engine.evaluation.document import MeasuredMetric
from engine.evaluation.families import rank_queries
from engine.evaluation.metrics import METRICS, Floats
from engine.evaluation.significance import holm_adjusted
from engine.evaluation.statistic import Aside

_EPSILON = 1e-15


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its standard error; `error` NaN when it cannot be told."""

    value: float
    error: float

    def interval(self, level: float) -> tuple[float | None, float | None]:
        """Give the normal interval at a level."""
        if not np.isfinite(self.error):
            return None, None
        reach = NormalDist().inv_cdf((1 + level) / 2) * self.error
        return self.value - reach, self.value + reach

    def p_above(self, bound: float = 0.0) -> float:
        """Give the one-sided p-value of the claim that it is above a bound."""
        if not np.isfinite(self.error):
            return 1.0
        if self.error <= 0:
            return 0.0 if self.value > bound else 1.0
        return 1.0 - NormalDist().cdf((self.value - bound) / self.error)


def scores_of(exhibit: Exhibit, scored: Scored, chosen: NDArray[np.bool_] | None = None) -> Scores:
    """Give scores as the metrics take them, of some rows."""
    keep = slice(None) if chosen is None else chosen
    cluster = scored.cluster if scored.cluster is not None else scored.group
    return Scores(
        scored.y[keep], scored.prediction[keep],
        None if cluster is None else cluster[keep], None if scored.group is None else scored.group[keep],
        exhibit.target.quantiles,
    )  # fmt: skip


def measured(exhibit: Exhibit, scores: Scores) -> MeasuredMetric:
    """Measure the primary metric, with its interval."""
    return bootstrap_intervals(scores, [exhibit.judgement.metric], resampling(exhibit))[exhibit.judgement.metric]


def resampling(exhibit: Exhibit) -> Resampling:
    """Give the evaluation's bootstrap."""
    judged = exhibit.judgement
    return Resampling(judged.resamples, judged.level, judged.seed)


def harm(exhibit: Exhibit, changed: Scores, whole: Scores) -> Estimate:
    """Say how much worse the primary metric is under a change, on the same rows; above 0 is worse."""
    metric, judged = exhibit.judgement.metric, exhibit.judgement
    found = paired_bootstrap(changed, whole, metric, resampling(exhibit))
    if found.value is None:
        raise DataError(f"{metric} cannot be compared: {found.reason}", hint="choose another evaluate.primary")
    sign = -1.0 if found.higher_is_better else 1.0
    if found.low is None or found.high is None:
        return Estimate(sign * found.value, float("nan"))
    width = 2 * NormalDist().inv_cdf((1 + judged.level) / 2)
    return Estimate(sign * found.value, (found.high - found.low) / width)


def pool(parts: list[Estimate], *, same_rows: bool) -> Estimate:
    """Average estimates, with what varies between them (DerSimonian & Laird's moment) beside their own errors.

    Of the `same_rows` (other seeds, other draws) the rows' error does not shrink with their number; of other rows it does.
    """
    values = np.array([part.value for part in parts])
    inside = float(np.mean([part.error**2 for part in parts]))
    count = len(parts)
    between = float(values.var(ddof=1)) if count > 1 else 0.0
    if same_rows:
        return Estimate(float(values.mean()), float(np.sqrt(inside + between / count)))
    spread = max(0.0, between - inside)
    return Estimate(float(values.mean()), float(np.sqrt((inside + spread) / count)))


def refuse_unequal(ours: Scored, other: Scored) -> None:
    """Refuse to compare fits that scored other rows; raises `DataError`."""
    if not np.array_equal(ours.ids, other.ids):
        raise DataError("two fits scored different rows, so they cannot be compared")


def losses(exhibit: Exhibit, scored: Scored) -> Floats:
    """Give each row's loss: log loss, squared error, mean pinball loss, or 1 - NDCG@10 of the row's query."""
    y, p = scored.y, scored.prediction
    match exhibit.target.task:
        case "binary":
            kept = np.clip(p, _EPSILON, 1 - _EPSILON)
            return np.asarray(-np.where(y == 1, np.log(kept), np.log1p(-kept)))
        case "multiclass":
            known = np.nan_to_num(y).astype(np.int64)
            return np.where(np.isfinite(y), -np.log(np.clip(p[np.arange(len(y)), known], _EPSILON, 1.0)), np.nan)
        case "quantile":
            gap = y[:, None] - p
            levels = np.array(exhibit.target.quantiles)
            return np.asarray(np.maximum(levels * gap, (levels - 1) * gap).mean(axis=1))
        case "ranking":
            return _query_losses(scored)
        case _:
            return np.asarray(np.square(y - p))


def excess(exhibit: Exhibit, held: HeldOut) -> Floats:
    """Give each row's loss beyond the usual share of what the reference loses on it.

    The reference is the pipeline's baseline, else one constant for all rows; the usual share is that over all rows, so values
    add up to 0. A ranking without a baseline has no constant: its loss is given as it is.
    """
    own, other = losses(exhibit, held.scored), _constant(exhibit, held.scored.y)
    reference = other if held.baseline is None else held.baseline
    if reference is None:
        return own
    theirs = losses(exhibit, replace(held.scored, prediction=reference))
    total = float(np.nansum(theirs))
    return own - theirs * (float(np.nansum(own)) / total) if total > 0 else own


def _constant(exhibit: Exhibit, y: Floats) -> Floats | None:
    """Give the best prediction that is the same for every row, once for each row."""
    known, n = y[np.isfinite(y)], len(y)
    match exhibit.target.task:
        case "ranking":
            return None
        case "multiclass":
            shares = np.bincount(known.astype(np.int64), minlength=len(exhibit.target.classes)) / len(known)
            return np.tile(shares, (n, 1))
        case "quantile":
            return np.tile(np.quantile(known, exhibit.target.quantiles), (n, 1))
        case _:
            return np.full(n, known.mean())


def residuals(exhibit: Exhibit, scored: Scored) -> Floats:
    """Give each row's label less its prediction; raises `DataError` for tasks without one number a row."""
    if exhibit.target.task not in {"binary", "regression"}:
        raise DataError(f"a {exhibit.target.task} model has no bias", hint="search with measure: loss")
    return np.asarray(scored.y - scored.prediction)


def metric_better(metric: str) -> bool:
    """Say whether more is better."""
    return METRICS[metric].higher_is_better


def adjusted(p: Mapping[str, float]) -> dict[str, float]:
    """Holm's adjusted p-values."""
    return holm_adjusted(p)


def _query_losses(scored: Scored) -> Floats:
    found = np.full(len(scored.y), np.nan)
    if scored.group is None:
        return found
    for query in np.unique(scored.group):
        rows = scored.group == query
        group = np.zeros(int(rows.sum()), dtype=np.int64)
        value = rank_queries(scored.y[rows], scored.prediction[rows], ["ndcg_at_10"], Aside(group))(np.ones(len(group)))
        found[rows] = 1.0 - value["ndcg_at_10"]
    return found
