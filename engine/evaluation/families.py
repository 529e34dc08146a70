"""Metrics of several classes, of quantiles and of rankings, each as a function of row weights.

Enters: labels (n,), predictions (n,) or (n, k), and what else a family needs. Leaves: statistics for the bootstrap. Sums are
made in one fixed order, as in `metrics`, which puts all families together.

Rankings: NDCG with gains of 2^relevance - 1 and discounts of log2(place + 1) (Burges et al. 2005); ties in the score go to
the row that came first. A query without a relevant row has no best order and is left out, as in trec_eval. A query weighs
what its rows weigh on average, so resample whole queries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from engine.evaluation.areas import rank_areas
from engine.evaluation.statistic import NOTHING, Aside, Floats, Statistic, likeliest

_CUT = "_at_"


def confuse(y: Floats, prediction: Floats, names: Sequence[str], _: Aside) -> Statistic:
    """Metrics of the table of labels against likeliest classes."""
    k = 2 if prediction.ndim == 1 else prediction.shape[1]
    place = y.astype(np.int64) * k + likeliest(prediction)

    def statistic(weight: Floats) -> dict[str, float]:
        table: Floats = np.bincount(place, weights=weight, minlength=k * k).reshape(k, k).astype(np.float64)
        if int((table.sum(axis=1) > 0).sum()) < 2:  # one class only, as a resample may have
            return dict.fromkeys(names, float("nan"))
        with np.errstate(divide="ignore", invalid="ignore"):
            return {name: float(_TABLE_METRICS[name](table)) for name in names}

    return statistic


def _f1(table: Floats) -> Floats:
    """F1 of each class; NaN for one that is neither there nor predicted."""
    found: Floats = 2 * np.diag(table) / (table.sum(axis=1) + table.sum(axis=0))
    return found


def _macro_f1(table: Floats) -> float:
    found = _f1(table)
    present = np.isfinite(found)
    return float(found[present].mean()) if present.any() else float("nan")


def _weighted_f1(table: Floats) -> float:
    rows = table.sum(axis=1)
    return float(np.nansum(_f1(table) * rows) / rows.sum())


def _balanced_accuracy(table: Floats) -> float:
    recall = np.diag(table) / table.sum(axis=1)
    present = np.isfinite(recall)
    return float(recall[present].mean()) if present.any() else float("nan")


def _mcc(table: Floats) -> float:
    """Matthews' correlation for any number of classes (Gorodkin 2004)."""
    total, right = float(table.sum()), float(np.trace(table))
    true, said = table.sum(axis=1), table.sum(axis=0)
    above = right * total - float((true * said).sum())
    below = (total**2 - float((said**2).sum())) * (total**2 - float((true**2).sum()))
    return above / float(np.sqrt(below)) if below > 0 else 0.0


_TABLE_METRICS: dict[str, Callable[[Floats], float]] = {
    "precision": lambda table: float(table[1, 1] / table[:, 1].sum()),
    "recall": lambda table: float(table[1, 1] / table[1].sum()),
    "f1": lambda table: float(_f1(table)[1]),
    "mcc": _mcc,
    "balanced_accuracy": _balanced_accuracy,
    "macro_f1": _macro_f1,
    "weighted_f1": _weighted_f1,
}


def rank_classes(y: Floats, prediction: Floats, names: Sequence[str], _: Aside) -> Statistic:
    """The mean area over the classes that some rows have and some have not."""
    parts = [
        rank_areas((y == place) * 1.0, prediction[:, place], ["roc_auc"])
        for place in range(prediction.shape[1])
        if bool((y == place).any()) and not bool((y == place).all())
    ]

    def statistic(weight: Floats) -> dict[str, float]:
        found = np.array([part(weight)["roc_auc"] for part in parts])
        known = np.isfinite(found)
        return dict.fromkeys(names, float(found[known].mean()) if known.any() else float("nan"))

    return statistic


def median_error(y: Floats, prediction: Floats, names: Sequence[str], _: Aside) -> Statistic:
    """The median absolute error: the middle of two values when the weights fall evenly."""
    error = np.abs(y - prediction)
    order = np.argsort(error, kind="stable")
    ranked = error[order]

    def statistic(weight: Floats) -> dict[str, float]:
        running = np.cumsum(weight[order])
        half = running[-1] / 2
        low = int(np.searchsorted(running, half, side="left"))
        high = min(int(np.searchsorted(running, half, side="right")), len(ranked) - 1)
        return dict.fromkeys(names, float((ranked[low] + ranked[high]) / 2))

    return statistic


def spread_quantiles(y: Floats, prediction: Floats, names: Sequence[str], aside: Aside) -> Statistic:
    """Pinball loss, coverage and width of predicted quantiles."""
    levels = np.array(aside.quantiles)
    gap = y[:, None] - prediction
    below = (gap <= 0) * 1.0  # at or below each quantile
    one = len(levels) == 1
    inside = below[:, 0] if one else (y >= prediction[:, 0]) * below[:, -1]
    columns = np.stack(
        [np.maximum(levels * gap, (levels - 1) * gap).mean(axis=1), inside, prediction[:, -1] - prediction[:, 0]]
    )

    def statistic(weight: Floats) -> dict[str, float]:
        total = float(weight.sum())
        if total == 0:
            return dict.fromkeys(names, float("nan"))
        pinball, coverage, width = (np.einsum("ij,j->i", columns, weight) / total).tolist()
        shares = np.einsum("ij,i->j", below, weight) / total
        found = {
            "pinball": pinball,
            "coverage": coverage,
            "coverage_error": float(np.abs(shares - levels).mean()),
            "interval_width": width,
        }
        return {name: found[name] for name in names}

    return statistic


def rank_queries(y: Floats, prediction: Floats, names: Sequence[str], aside: Aside = NOTHING) -> Statistic:
    """Means over queries, each measured once: weights only change how much a query counts."""
    group = aside.group if aside.group is not None else np.zeros(len(y), dtype=np.int64)
    _, member = np.unique(group, return_inverse=True)
    order = np.lexsort((np.arange(len(y)), -prediction, member))
    ends = np.cumsum(np.bincount(member))
    values = np.array([_query(y[rows], names) for rows in np.split(order, ends[:-1])]).reshape(len(ends), len(names))
    size = np.bincount(member).astype(np.float64)
    relevant = np.isfinite(values).all(axis=1)
    kept = np.where(relevant[:, None], values, 0.0)

    def statistic(weight: Floats) -> dict[str, float]:
        own = np.bincount(member, weights=weight) / size * relevant
        total = float(own.sum())
        if total == 0:
            return dict.fromkeys(names, float("nan"))
        return dict(zip(names, (np.einsum("ij,i->j", kept, own) / total).tolist(), strict=True))

    return statistic


def _query(relevance: Floats, names: Sequence[str]) -> list[float]:
    """Measure one query, whose rows are in the model's order."""
    if not bool((relevance > 0).any()):
        return [float("nan")] * len(names)
    return [_QUERY_METRICS[name.partition(_CUT)[0]](relevance, _cut(name, len(relevance))) for name in names]


def _cut(name: str, rows: int) -> int:
    k = name.partition(_CUT)[2]
    return min(int(k), rows) if k else rows


def _ndcg(relevance: Floats, k: int) -> float:
    discount = 1 / np.log2(np.arange(2, k + 2))
    gain = np.exp2(relevance) - 1
    best = float((np.sort(gain)[::-1][:k] * discount).sum())
    return float((gain[:k] * discount).sum()) / best


def _average_precision(relevance: Floats, k: int) -> float:
    """Mean precision at the relevant places among the first k; of all relevant rows that could be there."""
    hit = relevance > 0
    precision = np.cumsum(hit[:k]) / np.arange(1, k + 1)
    return float((precision * hit[:k]).sum() / min(int(hit.sum()), k))


def _first_place(relevance: Floats, _: int) -> float:
    return 1.0 / (int(np.argmax(relevance > 0)) + 1)


_QUERY_METRICS: dict[str, Callable[[Floats, int], float]] = {
    "ndcg": _ndcg,
    "map": _average_precision,
    "mrr": _first_place,
}
