"""Metrics of chunks with their sampling error, estimates of them before labels come, and the tests against the past.

Enters: labels and predictions, (n,) float64. Leaves: values with standard errors. Called by the performance monitors.

Before labels: the confidence-based estimate takes a calibrated probability for the chance that the label is 1, and gives
the expected metric (NannyML's CBPE; Garg et al. 2022 call it average confidence). Its sampling error is that of the labels
still to be drawn. For regression a second model learns the loss (direct loss estimation); here the mean loss of a held-out
row by tenth of the prediction. Both are blind to a changed relation of label and features: a changed base rate, say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from engine.evaluation.metrics import Floats, calibration_bins, measure, why_undefined
from engine.evaluation.names import BINARY, METRIC_NAMES

MIN_LABELS = 30


@dataclass(frozen=True, slots=True)
class Measured:
    """A value with its standard error by sampling; without a value, the reason."""

    value: float | None
    error: float = 0.0
    rows: int = 0
    why: str = ""


def metrics_of(task: str) -> tuple[str, ...]:
    """Give the metrics that are followed."""
    return ("roc_auc", "log_loss", "brier") if task == BINARY else ("rmse", "mae")


def measure_with_error(name: str, y: Floats, prediction: Floats) -> Measured:
    """Measure a metric; its standard error in closed form: of a mean, or Hanley & McNeil's for the area."""
    undefined = why_undefined(name, y, prediction)
    if name == "calibration_error" and not undefined:
        return _excess_error(y, prediction)
    value = None if undefined else measure(name, y, prediction)
    if value is None:
        return Measured(None, 0.0, len(y), undefined or "not a finite number")
    return Measured(value, _error(name, y, prediction, value), len(y))


def _excess_error(y: Floats, prediction: Floats) -> Measured:
    """Give the calibration error less what it is by chance when scores are perfectly calibrated: chunks of any size compare.

    A bin's gap is then half-normal: its mean is sqrt(2 / pi) of its deviation (Bröcker 2012 shows the bias of the plain one).
    """
    bins = calibration_bins(prediction)
    gap = np.abs(np.bincount(bins, weights=y - prediction))
    deviation = np.sqrt(np.bincount(bins, weights=prediction * (1 - prediction)))
    n = len(y)
    value = float((gap - np.sqrt(2 / np.pi) * deviation).sum()) / n
    return Measured(value, float(np.sqrt((1 - 2 / np.pi) * (deviation**2).sum())) / n, n)


def _error(name: str, y: Floats, prediction: Floats, value: float) -> float:
    n = len(y)
    if name == "roc_auc":  # Hanley & McNeil 1982
        positives, q1, q2 = float((y == 1).sum()), value / (2 - value), 2 * value**2 / (1 + value)
        negatives = n - positives
        variance = value * (1 - value) + (positives - 1) * (q1 - value**2) + (negatives - 1) * (q2 - value**2)
        return float(np.sqrt(max(variance, 0.0) / max(positives * negatives, 1.0)))
    losses = losses_of(name, y, prediction)
    error = float(losses.std(ddof=1) / np.sqrt(n)) if n > 1 else 0.0
    return error / (2 * value) if name == "rmse" and value > 0 else error


def losses_of(name: str, y: Floats, prediction: Floats) -> Floats:
    """Give each row's loss, (n,); of the root of a mean, that of the mean."""
    if name == "log_loss":
        kept = np.clip(prediction, 1e-15, 1 - 1e-15)
        return np.asarray(-np.where(y == 1, np.log(kept), np.log1p(-kept)))
    if name == "mae":
        return np.asarray(np.abs(y - prediction))
    return np.asarray((y - prediction) ** 2)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A chunk's value against those of the reference: two-sided tail, expected value, and the deviation that is usual."""

    tail: float
    expected: float
    usual: float


def against(now: Measured, past: Sequence[Measured]) -> Verdict | None:
    """Test a value against the reference's chunks, which differ by more than sampling; `None` with fewer than 5 chunks.

    Between-chunk variance is what theirs exceeds sampling by (DerSimonian & Laird 1986, moments); the t distribution has
    one degree of freedom fewer than there are chunks, since that variance is estimated.
    """
    known = [item for item in past if item.value is not None]
    if now.value is None or len(known) < 5:
        return None
    values = np.array([item.value for item in known], dtype=np.float64)
    errors = np.array([item.error for item in known])
    between = max(0.0, float(values.var(ddof=1) - (errors**2).mean()))
    count = len(values)
    variance = now.error**2 + between + (between + float((errors**2).mean())) / count
    if variance <= 0:
        return Verdict(1.0 if now.value == values.mean() else 0.0, float(values.mean()), 0.0)
    score = (now.value - float(values.mean())) / np.sqrt(variance)
    tail = 2.0 * float(special.stdtr(count - 1, -abs(score)))
    return Verdict(tail, float(values.mean()), float(np.sqrt(variance)))


def is_worse(name: str, value: float, expected: float) -> bool:
    """Say whether a metric moved the wrong way."""
    return value < expected if METRIC_NAMES[name].higher_is_better else value > expected


def calibrate(prediction: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Fit isotonic calibration on held-out rows (Zadrozny & Elkan 2002); gives its points, for `np.interp`.

    Rows with one score are one point of their mean label: without that, what the score is calibrated to would hang on the
    order of rows. Flat stretches keep their two ends.
    """
    from scipy import optimize  # noqa: PLC0415 - start-up time

    x, place = np.unique(prediction, return_inverse=True)
    count = np.bincount(place).astype(np.float64)
    fitted = optimize.isotonic_regression(np.bincount(place, weights=y) / count, weights=count).x
    inner = np.concatenate([[True], (fitted[1:-1] != fitted[:-2]) | (fitted[1:-1] != fitted[2:]), [True]])
    kept = inner[: len(x)] if len(x) > 1 else np.ones(len(x), dtype=bool)
    return np.asarray(x[kept]), np.asarray(fitted[kept])


def apply_calibration(points: tuple[Floats, Floats], prediction: Floats) -> Floats:
    """Map predictions to calibrated probabilities."""
    return np.asarray(np.interp(prediction, points[0], points[1]))


def estimate_binary(name: str, probability: Floats, prediction: Floats) -> Measured:
    """Give the expected metric if each label is 1 with its calibrated probability, and its sampling error."""
    n = len(prediction)
    if n == 0:
        return Measured(None, why="no rows")
    p = np.clip(probability, 0.0, 1.0)
    if name == "roc_auc":
        return _expected_auc(p, prediction)
    kept = np.clip(prediction, 1e-15, 1 - 1e-15)
    one, zero = (-np.log(kept), -np.log1p(-kept)) if name == "log_loss" else ((1 - prediction) ** 2, prediction**2)
    expected = p * one + (1 - p) * zero
    return Measured(float(expected.mean()), float(np.sqrt((p * (1 - p) * (one - zero) ** 2).sum()) / n), n)


def _expected_auc(p: Floats, prediction: Floats) -> Measured:
    """Give the area under the curve with each row a positive by `p` and a negative by the rest: ties count half."""
    order = np.argsort(prediction, kind="stable")
    ranked, weight = prediction[order], p[order]
    low = np.searchsorted(ranked, ranked, side="left")
    high = np.searchsorted(ranked, ranked, side="right")
    below = np.concatenate([[0.0], np.cumsum(1 - weight)])
    wins = float((weight * (below[low] + below[high]) / 2).sum())
    positives, negatives = float(weight.sum()), float((1 - weight).sum())
    if positives <= 0 or negatives <= 0:
        return Measured(None, rows=len(p), why="one class only is expected")
    value = min(1.0, wins / (positives * negatives))
    q1, q2 = value / (2 - value), 2 * value**2 / (1 + value)
    variance = value * (1 - value) + (positives - 1) * (q1 - value**2) + (negatives - 1) * (q2 - value**2)
    return Measured(value, float(np.sqrt(max(variance, 0.0) / (positives * negatives))), len(p))


def estimate_regression(name: str, held: tuple[Floats, Floats], prediction: Floats) -> Measured:
    """Give the expected loss from the held-out mean loss in the tenth that a prediction falls in; `held` is (y, prediction)."""
    y, before = held
    if len(y) < MIN_LABELS or not len(prediction):
        return Measured(None, why=f"{len(y)} held-out rows, {MIN_LABELS} needed")
    edges = np.unique(np.quantile(before, np.linspace(0, 1, 11)[1:-1]))
    losses = losses_of(name, y, before)
    places = np.searchsorted(edges, before)
    count = np.maximum(np.bincount(places, minlength=len(edges) + 1), 1)
    mean = np.bincount(places, weights=losses, minlength=len(edges) + 1) / count
    spread = np.bincount(places, weights=losses**2, minlength=len(edges) + 1) / count - mean**2
    now = np.searchsorted(edges, prediction)
    value, error = float(mean[now].mean()), float(np.sqrt(np.maximum(spread[now], 0.0).sum()) / len(prediction))
    if name == "rmse":
        return Measured(float(np.sqrt(value)), error / (2 * np.sqrt(value)) if value > 0 else 0.0, len(prediction))
    return Measured(value, error, len(prediction))
