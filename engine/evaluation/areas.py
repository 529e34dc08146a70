"""Areas under the ROC and the precision-recall curve, for any row weights, from two cumulative sums."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.evaluation.statistic import NOTHING, Aside, Blocked, Floats, Statistic


def rank_areas(y: Floats, prediction: Floats, names: Sequence[str], _: Aside = NOTHING) -> Statistic:
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

    def areas(weights: Floats) -> dict[str, Floats]:
        hits, misses_below = np.take(weights, positive, axis=1), _running(np.take(weights, negative, axis=1))
        total, misses = hits.sum(axis=1), misses_below[:, -1]
        strictly = np.take(misses_below, lower, axis=1)
        beaten = (strictly + np.take(misses_below, upper, axis=1)) * 0.5 if tied else strictly
        pairs = total * misses
        with np.errstate(invalid="ignore", divide="ignore"):
            return {"roc_auc": np.where(pairs == 0, np.nan, np.einsum("bi,bi->b", hits, beaten) / pairs)}

    return statistic if wants_precision or not wants_area else Blocked(statistic, areas)


def _running(values: Floats) -> Floats:
    """Give sums of the first 0, 1, … values, along the last axis."""
    sums = np.empty((*values.shape[:-1], values.shape[-1] + 1))
    sums[..., 0] = 0.0
    np.cumsum(values, axis=-1, out=sums[..., 1:])
    return sums
