"""What early stopping watches: each objective's own loss, a mean over rows that does not depend on threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from engine.contracts import Matrix
from engine.evaluation.families import rank_queries
from engine.evaluation.statistic import Aside

Floats: TypeAlias = "NDArray[np.float64]"
Loss: TypeAlias = Callable[[Floats], float]
"""`loss(prediction)` of the validation rows; lower is better."""

RANKED = "ndcg_at_10"


def loss_of(settings: Mapping[str, Any], train: Matrix, validation: Matrix) -> Loss:
    """Give the loss of the objective in LightGBM's settings on the validation rows, weighted as these are.

    The training labels give the weights of classes that LightGBM itself finds.
    """
    if settings["objective"] == "lambdarank":
        return _ranked(validation)
    by_row, y = _by_row(settings, train.y), validation.y
    if validation.weight is None:
        return lambda p: float(by_row(y, p).mean())
    share = validation.weight / validation.weight.sum()
    return lambda p: float((by_row(y, p) * share).sum())


def _by_row(settings: Mapping[str, Any], labels: Floats) -> Callable[[Floats, Floats], Floats]:
    alpha = float(settings.get("alpha", 0.9))
    tiny = float(np.finfo(np.float64).tiny)
    match settings["objective"]:
        case "binary":
            return _log_loss(*_class_weights(settings, labels))
        case "multiclass":
            return lambda y, p: -np.log(np.maximum(p[np.arange(len(y)), y.astype(np.int64)], tiny))
        case "quantile":
            return lambda y, p: np.maximum(alpha * (y - p), (alpha - 1) * (y - p))
        case "regression_l1" | "huber":
            return lambda y, p: np.abs(y - p)
        case "poisson":
            return lambda y, p: p - y * np.log(np.maximum(p, tiny))
        case _:
            return lambda y, p: np.square(y - p)


def _ranked(validation: Matrix) -> Loss:
    """One less NDCG of the first ten places: what a ranking is asked for, since its gradients have no loss of their own."""

    def loss(p: Floats) -> float:
        found = rank_queries(validation.y, p, [RANKED], Aside(validation.group))(np.ones(len(p)))[RANKED]
        return 1.0 - found if np.isfinite(found) else 1.0

    return loss


def _log_loss(negative: float, positive: float) -> Callable[[Floats, Floats], Floats]:
    def loss(y: Floats, p: Floats) -> Floats:
        kept = np.maximum(np.where(y > 0, p, 1 - p), float(np.finfo(np.float64).tiny))
        return np.asarray(-np.log(kept) * np.where(y > 0, positive, negative))

    return loss


def _class_weights(settings: Mapping[str, Any], labels: Floats) -> tuple[float, float]:
    """Give the weights that LightGBM trains with: of negatives, and of positives."""
    if not settings.get("is_unbalance"):
        return 1.0, float(settings.get("scale_pos_weight", 1.0))
    positives = int((labels > 0).sum())
    ratio = (len(labels) - positives) / positives
    return (1.0, ratio) if ratio > 1 else (1 / ratio, 1.0)
