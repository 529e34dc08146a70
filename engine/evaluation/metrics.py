"""Metrics as functions of integer row weights: sort once, then each bootstrap resample costs O(n) and no sorting.

Enters: labels and predictions, (n,) float64. Leaves: values, or the reason why there is none. Called by `bootstrap`,
`slices` and the gates. Every sum is made by one thread in one fixed order (`einsum`, `bincount`, `cumsum`, never BLAS,
whose bits depend on the number of threads).

Ranking metrics (Fawcett 2006; ties as one step, as in Davis & Goadrich 2006) need, for each positive, the weight of
negatives below and at its score: two cumulative sums. Calibration error is the expected one of Naeini et al. 2015 with
bins of equal mass instead of equal width; rows with equal predictions share a bin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.evaluation.areas import rank_areas
from engine.evaluation.families import confuse, median_error, rank_classes, rank_queries, spread_quantiles
from engine.evaluation.names import BINARY, METRIC_NAMES, MULTICLASS, QUANTILE, RANKING
from engine.evaluation.statistic import NOTHING, Aside, Blocked, Floats, Prepare, Statistic, aside_of, likeliest, over

CALIBRATION_BINS = 10
_EPSILON = float(np.finfo(np.float64).eps)  # probabilities are kept this far from 0 and 1 in the log loss


@dataclass(frozen=True, slots=True)
class MetricDefinition:
    """How a metric is computed. `resampling_bias`: resampling itself moves it, so its interval is shifted back."""

    prepare: Prepare
    higher_is_better: bool
    tasks: tuple[str, ...]
    probability: bool = False
    both_classes: bool = False
    resampling_bias: bool = False


def prepare(y: Floats, prediction: Floats, names: Sequence[str], aside: Aside = NOTHING) -> Statistic:
    """Give one function that computes all the named metrics for any weights; metrics of one family share their sums.

    `prediction` is (n,) or (n, k), as a `Predictor` gives it.
    """
    families: dict[Prepare, list[str]] = {}
    for name in names:
        families.setdefault(METRICS[name].prepare, []).append(name)
    parts = [make(y, prediction, members, aside) for make, members in families.items()]
    if len(parts) == 1:
        return parts[0]
    return Blocked(
        lambda weight: {name: value for part in parts for name, value in part(weight).items()},
        lambda weights: {name: values for part in parts for name, values in over(part, weights).items()},
    )


def measure(name: str, y: Floats, prediction: Floats, aside: Aside = NOTHING) -> float | None:
    """Measure on all rows, each once; `None` when the metric is not defined there (`why_undefined` says why).

    >>> measure("roc_auc", np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.1, 0.4, 0.35, 0.8]))
    0.75
    """
    if why_undefined(name, y, prediction, aside):
        return None
    with np.errstate(over="ignore", invalid="ignore"):  # an overflow is not a value, and is told as such
        value = prepare(y, prediction, [name], aside)(np.ones(len(y)))[name]
    return float(value) if np.isfinite(value) else None


def why_undefined(name: str, y: Floats, prediction: Floats, aside: Aside = NOTHING) -> str:
    """Say why a metric has no value on these rows; empty when it has one."""
    definition = METRICS[name]
    if len(y) == 0:
        return "no rows"
    for what, values in (("label", y), ("prediction", prediction)):
        finite = np.isfinite(values) if values.ndim == 1 else np.isfinite(values).all(axis=1)
        strange = int((~finite).sum())
        if strange:
            return f"{strange} of {len(y)} rows have no finite {what}"
    wanted = _why_not_of_its_task(definition, y, prediction, aside)
    if wanted:
        return wanted
    if definition.both_classes and y.min() == y.max():
        return f"one class only: every label is {y[0]:g}"
    if definition.probability and (prediction.min() < 0 or prediction.max() > 1):
        return "predictions outside 0 to 1 are not probabilities"
    if name == "r2" and y.min() == y.max():
        return "the label is constant"
    if name == "mape" and bool((y == 0).any()):
        return f"{int((y == 0).sum())} labels are 0, and a share of them is not defined"
    return ""


def _why_not_of_its_task(definition: MetricDefinition, y: Floats, prediction: Floats, aside: Aside) -> str:
    """Say what the rows lack that the metric's task has: its labels, its columns, its queries."""
    tasks = definition.tasks
    if prediction.ndim == 1 and BINARY in tasks and not bool(((y == 0) | (y == 1)).all()):
        return "labels other than 0 and 1"
    if MULTICLASS in tasks and BINARY not in tasks and prediction.ndim == 1:
        return "one prediction a row, and several classes need one each"
    if MULTICLASS in tasks and prediction.ndim == 2:
        known = (y >= 0) & (y < prediction.shape[1]) & (y == np.floor(y))
        return "" if bool(known.all()) else f"{int((~known).sum())} labels are none of the model's classes"
    if QUANTILE in tasks and (prediction.ndim != 2 or prediction.shape[1] != len(aside.quantiles)):
        return "the predictions are not one a quantile level"
    if RANKING in tasks:
        if aside.group is None:
            return "a ranking metric needs the query of each row (train.group)"
        if y.min() < 0:
            return "a relevance below 0"
        return "" if bool((y > 0).any()) else "no row of any query is relevant"
    return ""


def calibration_bins(prediction: Floats, bins: int = CALIBRATION_BINS) -> NDArray[np.int64]:
    """Give each row's bin: about equal mass, in rising order of prediction; equal predictions share a bin.

    >>> calibration_bins(np.array([0.1, 0.9, 0.2, 0.2]), bins=2).tolist()
    [0, 1, 0, 0]
    """
    order = np.argsort(prediction, kind="stable")
    ranked = prediction[order]
    first = np.searchsorted(ranked, ranked, side="left")
    found = np.empty(len(prediction), dtype=np.int64)
    found[order] = first * bins // max(1, len(prediction))
    return found


def _log_loss(y: Floats, prediction: Floats) -> Floats:
    if prediction.ndim == 2:
        given = prediction[np.arange(len(y)), y.astype(np.int64)]
        return -np.log(np.clip(given, _EPSILON, 1.0))
    kept = np.clip(prediction, _EPSILON, 1 - _EPSILON)
    return -np.where(y == 1, np.log(kept), np.log1p(-kept))


def _brier(y: Floats, prediction: Floats) -> Floats:
    if prediction.ndim == 1:
        return np.asarray(np.square(y - prediction))
    gap = prediction.copy()
    gap[np.arange(len(y)), y.astype(np.int64)] -= 1.0
    return np.asarray(np.einsum("ij,ij->i", gap, gap))


def _mape(y: Floats, p: Floats) -> Floats:
    size = np.abs(y)
    return np.asarray(np.divide(np.abs(y - p), size, out=np.full(len(y), np.nan), where=size > 0))


def _smape(y: Floats, p: Floats) -> Floats:
    size = np.abs(y) + np.abs(p)
    return np.asarray(np.divide(2 * np.abs(y - p), size, out=np.zeros(len(y)), where=size > 0))


# Metrics that are means over rows of one column, which this table makes.
_COLUMNS: Mapping[str, Callable[[Floats, Floats], Floats]] = {
    "log_loss": _log_loss,
    "brier": _brier,
    "accuracy": lambda y, p: (likeliest(p) == y).astype(np.float64),
    "rmse": lambda y, p: np.square(y - p),
    "mae": lambda y, p: np.abs(y - p),
    "r2": lambda y, p: np.square(y - p),
    "mape": _mape,
    "smape": _smape,
    "wape": lambda y, p: np.abs(y - p),
}


def _means(y: Floats, prediction: Floats, names: Sequence[str], _: Aside) -> Statistic:
    centred = y - y.mean() if len(y) else y  # far from zero, the variance would be a difference of huge numbers
    columns = np.array([*(_COLUMNS[name](y, prediction) for name in names), centred])
    sizes = np.abs(y) if "wape" in names else centred

    def statistic(weight: Floats) -> dict[str, float]:
        total = float(weight.sum())
        if total == 0:
            return dict.fromkeys(names, float("nan"))
        *means, mean = (np.einsum("ij,j->i", columns, weight) / total).tolist()
        # A second pass, since a resample may leave out the very rows that the first was centred by.
        variance = float(np.einsum("j,j->", np.square(centred - mean), weight)) / total if "r2" in names else 0.0
        size = float(np.einsum("j,j->", sizes, weight)) / total if "wape" in names else 0.0
        return {
            name: _finish(name, value, size if name == "wape" else variance)
            for name, value in zip(names, means, strict=True)
        }

    return statistic


def _finish(name: str, mean: float, scale: float) -> float:
    if name == "rmse":
        return float(np.sqrt(mean))
    if name == "r2":
        return 1.0 - mean / scale if scale > 0 else float("nan")
    if name == "wape":
        return mean / scale if scale > 0 else float("nan")
    return mean


def _calibration(y: Floats, prediction: Floats, names: Sequence[str], _: Aside) -> Statistic:
    hit, sure = (y, prediction) if prediction.ndim == 1 else (likeliest(prediction) == y, prediction.max(axis=1))
    bins, gap = calibration_bins(sure), hit - sure

    def statistic(weight: Floats) -> dict[str, float]:
        total = float(weight.sum())
        gaps = np.bincount(bins, weights=weight * gap, minlength=CALIBRATION_BINS)
        return dict.fromkeys(names, float(np.abs(gaps).sum()) / total if total else float("nan"))

    return statistic


def _define(name: str, make: Prepare) -> MetricDefinition:
    known = METRIC_NAMES[name]
    classes = make in {rank_areas, confuse, rank_classes}
    probability = name in {"log_loss", "brier", "calibration_error"}
    return MetricDefinition(make, known.higher_is_better, known.tasks, probability, classes, make is _calibration)


_FAMILIES: Mapping[Prepare, tuple[str, ...]] = {
    rank_areas: ("roc_auc", "average_precision"),
    _means: tuple(_COLUMNS),
    _calibration: ("calibration_error",),
    confuse: ("precision", "recall", "f1", "mcc", "balanced_accuracy", "macro_f1", "weighted_f1"),
    rank_classes: ("roc_auc_ovr",),
    median_error: ("median_absolute_error",),
    spread_quantiles: ("pinball", "coverage", "coverage_error", "interval_width"),
    rank_queries: tuple(name for name, metric in METRIC_NAMES.items() if RANKING in metric.tasks),
}
METRICS: Mapping[str, MetricDefinition] = {
    name: _define(name, make) for make, names in _FAMILIES.items() for name in names
}

__all__ = [
    "METRICS",
    "Aside",
    "Floats",
    "Statistic",
    "aside_of",
    "calibration_bins",
    "measure",
    "prepare",
    "why_undefined",
]
