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
NULL_SLICE = "(null)"
"""How a slice is called whose column has no value."""


@dataclass(frozen=True, slots=True)
class MetricName:
    """A metric: the tasks that it is defined for, and which way is better."""

    tasks: tuple[str, ...]
    doc: str
    higher_is_better: bool


METRIC_NAMES: Mapping[str, MetricName] = {
    "roc_auc": MetricName(
        (BINARY,), "probability that a positive is scored above a negative; ties count half", higher_is_better=True
    ),
    "average_precision": MetricName((BINARY,), "area under the precision-recall steps", higher_is_better=True),
    "log_loss": MetricName((BINARY,), "mean negative log-likelihood, in nats", higher_is_better=False),
    "brier": MetricName((BINARY,), "mean squared error of the probability", higher_is_better=False),
    "calibration_error": MetricName(
        (BINARY,), "mean gap between predicted and observed rate in 10 bins of equal mass", higher_is_better=False
    ),
    "accuracy": MetricName((BINARY,), "share of rows on the right side of one half", higher_is_better=True),
    "rmse": MetricName((REGRESSION,), "root of the mean squared error", higher_is_better=False),
    "mae": MetricName((REGRESSION,), "mean absolute error", higher_is_better=False),
    "r2": MetricName((REGRESSION,), "share of the label's variance that is explained", higher_is_better=True),
}
DEFAULT_METRICS: Mapping[str, tuple[str, ...]] = {
    BINARY: ("roc_auc", "average_precision", "log_loss", "brier", "calibration_error"),
    REGRESSION: ("rmse", "mae", "r2"),
}


def choose_metrics(task: str, spec: EvaluateSpec) -> tuple[tuple[str, ...], str]:
    """Give the metrics to measure and the primary one; the task's own where the spec names none of them.

    >>> choose_metrics("regression", EvaluateSpec())
    (('rmse', 'mae', 'r2'), 'rmse')
    """
    known = {name for name, metric in METRIC_NAMES.items() if task in metric.tasks}
    named = tuple(dict.fromkeys(name for name in spec.metrics if name in known)) or DEFAULT_METRICS[task]
    primary = spec.primary if spec.primary in known else named[0]
    return (named if primary in named else (primary, *named)), primary


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
