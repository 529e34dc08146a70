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
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from engine.evaluation.names import BINARY, METRIC_NAMES

Floats: TypeAlias = "NDArray[np.float64]"
Statistic: TypeAlias = Callable[[Floats], "dict[str, float]"]
"""Maps row weights (n,) to values by metric; NaN where a resample leaves a metric undefined."""

CALIBRATION_BINS = 10
_EPSILON = float(np.finfo(np.float64).eps)  # probabilities are kept this far from 0 and 1 in the log loss


@dataclass(frozen=True, slots=True)
class MetricDefinition:
    """How a metric is computed. `resampling_bias`: resampling itself moves it, so its interval is shifted back."""

    prepare: Callable[[Floats, Floats, Sequence[str]], Statistic]
    higher_is_better: bool
    tasks: tuple[str, ...]
    probability: bool = False
    both_classes: bool = False
    resampling_bias: bool = False


def prepare(y: Floats, prediction: Floats, names: Sequence[str]) -> Statistic:
    """Give one function that computes all the named metrics for any weights; metrics of one family share their sums."""
    families: dict[Callable[[Floats, Floats, Sequence[str]], Statistic], list[str]] = {}
    for name in names:
        families.setdefault(METRICS[name].prepare, []).append(name)
    parts = [make(y, prediction, members) for make, members in families.items()]
    return lambda weight: {name: value for part in parts for name, value in part(weight).items()}


def measure(name: str, y: Floats, prediction: Floats) -> float | None:
    """Measure on all rows, each once; `None` when the metric is not defined there (`why_undefined` says why).

    >>> measure("roc_auc", np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.1, 0.4, 0.35, 0.8]))
    0.75
    """
    if why_undefined(name, y, prediction):
        return None
    with np.errstate(over="ignore", invalid="ignore"):  # an overflow is not a value, and is told as such
        value = prepare(y, prediction, [name])(np.ones(len(y)))[name]
    return float(value) if np.isfinite(value) else None


def why_undefined(name: str, y: Floats, prediction: Floats) -> str:
    """Say why a metric has no value on these rows; empty when it has one."""
    definition = METRICS[name]
    if len(y) == 0:
        return "no rows"
    for what, values in (("label", y), ("prediction", prediction)):
        strange = int((~np.isfinite(values)).sum())
        if strange:
            return f"{strange} of {len(y)} rows have no finite {what}"
    if BINARY in definition.tasks and not bool(((y == 0) | (y == 1)).all()):
        return "labels other than 0 and 1"
    if definition.both_classes and y.min() == y.max():
        return f"one class only: every label is {y[0]:g}"
    if definition.probability and (prediction.min() < 0 or prediction.max() > 1):
        return "predictions outside 0 to 1 are not probabilities"
    if name == "r2" and y.min() == y.max():
        return "the label is constant"
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


def _ranking(y: Floats, prediction: Floats, names: Sequence[str]) -> Statistic:
    """Area under the ROC curve and average precision, from the same two cumulative sums."""
    positive, negative = np.flatnonzero(y == 1), np.flatnonzero(y != 1)
    positive = positive[np.argsort(prediction[positive], kind="stable")]
    negative = negative[np.argsort(prediction[negative], kind="stable")]
    score, below = prediction[positive], prediction[negative]
    lower, upper = np.searchsorted(below, score, side="left"), np.searchsorted(below, score, side="right")
    same = np.searchsorted(score, score, side="left")
    tied, tied_positives = bool((lower != upper).any()), bool((same != np.arange(len(same))).any())
    wants_area, wants_precision = "roc_auc" in names, "average_precision" in names

    def statistic(weight: Floats) -> dict[str, float]:
        hits = weight[positive]
        misses_below = _running(weight[negative])
        total, misses = float(hits.sum()), float(misses_below[-1])
        found = dict.fromkeys(names, float("nan"))
        if total == 0 or misses == 0:
            return found
        strictly = misses_below[lower]
        if wants_area:
            # Whole and half numbers, exact below 2**52, so no order of summation matters.
            beaten = (strictly + misses_below[upper]) * 0.5 if tied else strictly
            found["roc_auc"] = float(np.einsum("i,i->", hits, beaten)) / (total * misses)
        if wants_precision:
            hits_below = _running(hits)
            true = total - (hits_below[same] if tied_positives else hits_below[:-1])
            precision = true / np.maximum(true + (misses - strictly), 1.0)
            found["average_precision"] = float(np.einsum("i,i->", hits, precision)) / total
        return found

    return statistic


def _running(values: Floats) -> Floats:
    """Give sums of the first 0, 1, … values."""
    sums = np.empty(len(values) + 1)
    sums[0] = 0.0
    np.cumsum(values, out=sums[1:])
    return sums


def _log_loss(y: Floats, prediction: Floats) -> Floats:
    kept = np.clip(prediction, _EPSILON, 1 - _EPSILON)
    return -np.where(y == 1, np.log(kept), np.log1p(-kept))


# Metrics that are means over rows of one column, which this table makes.
_COLUMNS: Mapping[str, Callable[[Floats, Floats], Floats]] = {
    "log_loss": _log_loss,
    "brier": lambda y, p: np.square(y - p),
    "accuracy": lambda y, p: ((p >= 0.5) == (y == 1)).astype(np.float64),
    "rmse": lambda y, p: np.square(y - p),
    "mae": lambda y, p: np.abs(y - p),
    "r2": lambda y, p: np.square(y - p),
}


def _means(y: Floats, prediction: Floats, names: Sequence[str]) -> Statistic:
    centred = y - y.mean() if len(y) else y  # far from zero, the variance would be a difference of huge numbers
    columns = np.array([*(_COLUMNS[name](y, prediction) for name in names), centred])

    def statistic(weight: Floats) -> dict[str, float]:
        total = float(weight.sum())
        if total == 0:
            return dict.fromkeys(names, float("nan"))
        *means, mean = (np.einsum("ij,j->i", columns, weight) / total).tolist()
        # A second pass, since a resample may leave out the very rows that the first was centred by.
        variance = float(np.einsum("j,j->", np.square(centred - mean), weight)) / total if "r2" in names else 0.0
        return {name: _finish(name, value, variance) for name, value in zip(names, means, strict=True)}

    return statistic


def _finish(name: str, mean: float, variance: float) -> float:
    if name == "rmse":
        return float(np.sqrt(mean))
    if name == "r2":
        return 1.0 - mean / variance if variance > 0 else float("nan")
    return mean


def _calibration(y: Floats, prediction: Floats, names: Sequence[str]) -> Statistic:
    bins, gap = calibration_bins(prediction), y - prediction

    def statistic(weight: Floats) -> dict[str, float]:
        total = float(weight.sum())
        gaps = np.bincount(bins, weights=weight * gap, minlength=CALIBRATION_BINS)
        return dict.fromkeys(names, float(np.abs(gaps).sum()) / total if total else float("nan"))

    return statistic


def _define(name: str, make: Callable[[Floats, Floats, Sequence[str]], Statistic]) -> MetricDefinition:
    known = METRIC_NAMES[name]
    ranks = make is _ranking
    probability = BINARY in known.tasks and not ranks and name != "accuracy"
    return MetricDefinition(make, known.higher_is_better, known.tasks, probability, ranks, make is _calibration)


METRICS: Mapping[str, MetricDefinition] = {
    **{name: _define(name, _ranking) for name in ("roc_auc", "average_precision")},
    **{name: _define(name, _means) for name in _COLUMNS},
    "calibration_error": _define("calibration_error", _calibration),
}
