"""What early stopping watches: each objective's own loss, a mean over rows that does not depend on threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = "NDArray[np.float64]"
Loss: TypeAlias = Callable[[Floats, Floats], float]
"""`loss(y, prediction)`; lower is better."""


def loss_of(settings: Mapping[str, Any], labels: Floats) -> Loss:
    """Give the loss of the objective in LightGBM's settings; the training `labels` give the classes' weights."""
    alpha = float(settings.get("alpha", 0.9))
    tiny = float(np.finfo(np.float64).tiny)
    match settings["objective"]:
        case "binary":
            return _log_loss(*_class_weights(settings, labels))
        case "quantile":
            return lambda y, p: float(np.maximum(alpha * (y - p), (alpha - 1) * (y - p)).mean())
        case "regression_l1" | "huber":
            return lambda y, p: float(np.abs(y - p).mean())
        case "poisson":
            return lambda y, p: float((p - y * np.log(np.maximum(p, tiny))).mean())
        case _:
            return lambda y, p: float(np.square(y - p).mean())


def _log_loss(negative: float, positive: float) -> Loss:
    def loss(y: Floats, p: Floats) -> float:
        kept = np.maximum(np.where(y > 0, p, 1 - p), float(np.finfo(np.float64).tiny))
        return float((-np.log(kept) * np.where(y > 0, positive, negative)).mean())

    return loss


def _class_weights(settings: Mapping[str, Any], labels: Floats) -> tuple[float, float]:
    """Give the weights that LightGBM trains with: of negatives, and of positives."""
    if not settings.get("is_unbalance"):
        return 1.0, float(settings.get("scale_pos_weight", 1.0))
    positives = int((labels > 0).sum())
    ratio = (len(labels) - positives) / positives
    return (1.0, ratio) if ratio > 1 else (1 / ratio, 1.0)
