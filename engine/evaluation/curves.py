"""Curves and histograms of one model's scores, small enough to draw: at most 200 points each.

Enters: labels and predictions, (n,) float64. Leaves: records of the evaluation document. Called by `evaluate`. Rows
that cannot be drawn (NaN, one class only) give empty curves; the metrics beside them say why.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.evaluation.document import CalibrationCurve, Curves, Histogram, PrecisionRecallCurve, RocCurve
from engine.evaluation.metrics import Floats, calibration_bins, why_undefined
from engine.evaluation.names import BINARY, MULTICLASS
from engine.evaluation.statistic import likeliest

MAX_POINTS = 200
HISTOGRAM_BINS = 25


def curves_of(task: str, y: Floats, prediction: Floats) -> Curves:
    """Give the curves that the task has; of several classes, the calibration of the likeliest."""
    if not _finite(y, prediction):
        return Curves()
    if prediction.ndim == 2:
        if task != MULTICLASS:
            return Curves()
        y, prediction = (likeliest(prediction) == y) * 1.0, prediction.max(axis=1)
    calibration = _calibration(y, prediction)
    if task != BINARY or why_undefined("roc_auc", y, prediction):
        return Curves(calibration=calibration)
    true, false = _steps(y, prediction)
    return Curves(roc=_roc(true, false), precision_recall=_precision_recall(true, false), calibration=calibration)


def histogram_of(task: str, y: Floats, prediction: Floats) -> Histogram:
    """Count predictions in bins of equal width; by label when the task is binary.

    Of several classes it is the likeliest one's probability, of quantiles the middle one.
    """
    if not _finite(y, prediction):
        return Histogram()
    if prediction.ndim == 2:
        prediction = prediction.max(axis=1) if task == MULTICLASS else prediction[:, prediction.shape[1] // 2]
    low, high = (0.0, 1.0) if task == BINARY else (float(prediction.min()), float(prediction.max()))
    low, high = min(low, float(prediction.min())), max(high, float(prediction.max()))
    # A range too narrow for that many distinct edges (a constant model) is widened around its value.
    if not high - low > 1e-9 * max(abs(low), abs(high)):
        low, high = low - max(1.0, abs(low)) * 0.5, high + max(1.0, abs(high)) * 0.5
    with np.errstate(over="ignore", invalid="ignore"):
        edges = np.linspace(low, high, HISTOGRAM_BINS + 1)
    if not bool(np.isfinite(edges).all()):
        return Histogram()
    if task != BINARY:
        return Histogram(edges=_plain(edges), counts=_counts(prediction, edges))
    return Histogram(
        edges=_plain(edges), positive=_counts(prediction[y == 1], edges), negative=_counts(prediction[y != 1], edges)
    )


def _finite(y: Floats, prediction: Floats) -> bool:
    return len(y) > 0 and bool(np.isfinite(y).all() and np.isfinite(prediction).all())


def _counts(values: Floats, edges: Floats) -> tuple[int, ...]:
    places = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    return tuple(np.bincount(places, minlength=len(edges) - 1).tolist())


def _steps(y: Floats, prediction: Floats) -> tuple[Floats, Floats]:
    """Give true and false positives at each distinct threshold, from the highest score down."""
    order = np.argsort(-prediction, kind="stable")
    ranked = prediction[order]
    ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    hits = np.cumsum(y[order] == 1)[ends].astype(np.float64)
    return hits, (ends + 1) - hits


def _roc(true: Floats, false: Floats) -> RocCurve:
    tpr, fpr = np.append(0.0, true / true[-1]), np.append(0.0, false / false[-1])
    kept = _spread(tpr + fpr)
    return RocCurve(fpr=_plain(fpr[kept]), tpr=_plain(tpr[kept]))


def _precision_recall(true: Floats, false: Floats) -> PrecisionRecallCurve:
    recall, precision = true / true[-1], true / (true + false)
    kept = _spread(recall)
    return PrecisionRecallCurve(recall=_plain(recall[kept]), precision=_plain(precision[kept]))


def _calibration(y: Floats, prediction: Floats) -> CalibrationCurve:
    bins = calibration_bins(prediction)
    present, bins = np.unique(bins, return_inverse=True)
    count = np.bincount(bins, minlength=len(present))
    with np.errstate(over="ignore", invalid="ignore"):
        predicted = np.bincount(bins, weights=prediction) / count
        observed = np.bincount(bins, weights=y) / count
    if not bool(np.isfinite(predicted).all() and np.isfinite(observed).all()):
        return CalibrationCurve()
    return CalibrationCurve(predicted=_plain(predicted), observed=_plain(observed), n=tuple(count.tolist()))


def _spread(along: Floats) -> NDArray[np.int64]:
    """Choose at most 200 indices, evenly along a rising coordinate, with both ends."""
    if len(along) <= MAX_POINTS:
        return np.arange(len(along))
    wanted = np.linspace(along[0], along[-1], MAX_POINTS)
    chosen = np.searchsorted(along, wanted).clip(0, len(along) - 1)
    chosen[0], chosen[-1] = 0, len(along) - 1
    return np.unique(chosen)


def _plain(values: Floats) -> tuple[float, ...]:
    return tuple(values.tolist())
