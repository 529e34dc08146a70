"""What can be measured, by name: no numpy here, so that a plan can be checked without importing it.

Enters: the metrics that a pipeline asks for. Leaves: the ones that its task has. Called when a spec is checked, and by
`evaluate`. `metrics.METRICS` implements each name; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from engine.errors import Problem
from engine.spec import EvaluateSpec

BINARY, REGRESSION = "binary", "regression"
MULTICLASS, QUANTILE, RANKING = "multiclass", "quantile", "ranking"
NULL_SLICE = "(null)"
"""How a slice is called whose column has no value."""

CUTS = (1, 3, 5, 10, 20, 50, 100)
"""How many of the first places a ranking metric may be asked to look at, as in `ndcg_at_10`."""


@dataclass(frozen=True, slots=True)
class MetricName:
    """A metric: the tasks that it is defined for, and which way is better."""

    tasks: tuple[str, ...]
    doc: str
    higher_is_better: bool


_TWO, _MANY, _BOTH = (BINARY,), (MULTICLASS,), (BINARY, MULTICLASS)
_NUMBER, _LEVELS, _QUERIES = (REGRESSION,), (QUANTILE,), (RANKING,)


def _up(tasks: tuple[str, ...], doc: str) -> MetricName:
    return MetricName(tasks, doc, higher_is_better=True)


def _down(tasks: tuple[str, ...], doc: str) -> MetricName:
    return MetricName(tasks, doc, higher_is_better=False)


METRIC_NAMES: Mapping[str, MetricName] = {
    "roc_auc": _up(_TWO, "probability that a positive is scored above a negative; ties count half"),
    "average_precision": _up(_TWO, "area under the precision-recall steps"),
    "log_loss": _down(_BOTH, "mean negative log-likelihood, in nats"),
    "brier": _down(_BOTH, "mean squared error of the probability; of several classes, summed over them"),
    "calibration_error": _down(
        _BOTH,
        "mean gap between predicted and observed rate in 10 bins of equal mass; of several classes, of the likeliest",
    ),
    "accuracy": _up(_BOTH, "share of rows whose likeliest class is the label"),
    "precision": _up(_TWO, "share of positives among rows of probability one half or more"),
    "recall": _up(_TWO, "share of positives that get one half or more"),
    "f1": _up(_TWO, "harmonic mean of precision and recall, at one half"),
    "mcc": _up(_BOTH, "correlation of label and likeliest class (Matthews; Gorodkin for several)"),
    "balanced_accuracy": _up(_BOTH, "mean of the classes' recalls"),
    "macro_f1": _up(_MANY, "mean of the classes' F1; a class that is neither there nor predicted is left out"),
    "weighted_f1": _up(_MANY, "mean of the classes' F1, by rows"),
    "roc_auc_ovr": _up(_MANY, "mean of the classes' areas under the ROC curve, each against the rest"),
    "rmse": _down(_NUMBER, "root of the mean squared error"),
    "mae": _down(_NUMBER, "mean absolute error"),
    "r2": _up(_NUMBER, "share of the label's variance that is explained"),
    "median_absolute_error": _down(_NUMBER, "median absolute error"),
    "mape": _down(_NUMBER, "mean absolute error as a share of the label; not defined where a label is 0"),
    "smape": _down(_NUMBER, "mean of 2 |error| / (|label| + |prediction|); 0 where both are 0"),
    "wape": _down(_NUMBER, "sum of absolute errors as a share of the sum of absolute labels"),
    "pinball": _down(_LEVELS, "mean pinball loss over rows and levels"),
    "coverage": _up(
        _LEVELS, "share of labels between the lowest and the highest quantile; of one level, at or below it"
    ),
    "coverage_error": _down(_LEVELS, "mean gap over levels between the share of labels at or below and the level"),
    "interval_width": _down(_LEVELS, "mean distance between the lowest and the highest quantile"),
    "mrr": _up(_QUERIES, "mean over queries of 1 / place of the first relevant row"),
    "ndcg": _up(_QUERIES, "mean over queries of the discounted gain, as a share of the best order's"),
    "map": _up(_QUERIES, "mean over queries of the average precision; relevant is above 0"),
    **{f"ndcg_at_{k}": _up(_QUERIES, f"as ndcg, of the first {k} places") for k in CUTS},
    **{f"map_at_{k}": _up(_QUERIES, f"as map, of the first {k} places") for k in CUTS},
}
DEFAULT_METRICS: Mapping[str, tuple[str, ...]] = {
    BINARY: ("roc_auc", "average_precision", "log_loss", "brier", "calibration_error"),
    MULTICLASS: ("log_loss", "accuracy", "macro_f1", "weighted_f1", "roc_auc_ovr", "calibration_error"),
    REGRESSION: ("rmse", "mae", "r2"),
    QUANTILE: ("pinball", "coverage", "coverage_error", "interval_width"),
    RANKING: ("ndcg_at_10", "map_at_10", "mrr", "ndcg"),
}


def choose_metrics(task: str, spec: EvaluateSpec) -> tuple[tuple[str, ...], str]:
    """Give the metrics to measure and the primary one; the task's own where the spec names none of them.

    >>> choose_metrics("regression", EvaluateSpec())
    (('rmse', 'mae', 'r2'), 'rmse')
    """
    known = {name for name, metric in METRIC_NAMES.items() if task in metric.tasks}
    asked = spec.metrics if spec.metrics != EvaluateSpec().metrics else ()
    named = tuple(dict.fromkeys(name for name in asked if name in known)) or DEFAULT_METRICS[task]
    primary = spec.primary if spec.primary in known else named[0]
    return (named if primary in named else (primary, *named)), primary


def higher_is_better(metric: str) -> bool:
    """Say which way a metric is better, as in `roc_auc` or `tuned.log_loss`; unknown ones count as scores, sizes do not.

    >>> higher_is_better("tuned.log_loss"), higher_is_better("roc_auc"), higher_is_better("model_bytes")
    (False, True, False)
    """
    name = metric.rsplit(".", maxsplit=1)[-1]
    return METRIC_NAMES[name].higher_is_better if name in METRIC_NAMES else name != "model_bytes"


def check_metrics(task: str, spec: EvaluateSpec) -> tuple[Problem, ...]:
    """Give a problem for each metric that nobody knows, or that the task does not have (the defaults are fine)."""
    default = EvaluateSpec()
    asked = [
        (f"evaluate.metrics.{index}", name)
        for index, name in enumerate(spec.metrics)
        if spec.metrics != default.metrics
    ]
    asked += [("evaluate.primary", spec.primary)] if spec.primary != default.primary else []
    allowed = tuple(name for name, metric in METRIC_NAMES.items() if task in metric.tasks)
    return tuple(_problem(path, name, task, allowed) for path, name in asked if name not in allowed)


def _problem(path: str, name: str, task: str, allowed: tuple[str, ...]) -> Problem:
    if name in METRIC_NAMES:
        return Problem(path, f"not a metric of the task {task}", value=name, allowed=allowed)
    close = get_close_matches(name, allowed, 1)
    return Problem(path, "unknown metric", value=name, allowed=allowed, suggestion=close[0] if close else None)
