"""The slope of calibration: whether a model's log-odds are too bold (below 1) or too timid (above 1).

Enters: binary labels and probabilities. Leaves: the slope of a logistic regression of the label on the log-odds (Cox
1958), with its Wald interval from the Fisher information. Called by the `calibration` gate.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from engine.evaluation.metrics import Floats, why_undefined

_ROUNDS = 50
_KEPT_FROM_EDGES = 1e-12  # log-odds of exactly 0 and 1 are infinite


@dataclass(frozen=True, slots=True)
class Slope:
    """`value` with its interval at a level; without a value, the reason."""

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""


def calibration_slope(y: Floats, prediction: Floats, level: float = 0.95) -> Slope:
    """Fit by Newton's method; no value where the labels are separated, of one class, or the predictions constant."""
    undefined = why_undefined("roc_auc", y, prediction) or why_undefined("log_loss", y, prediction)
    if undefined:
        return Slope(None, reason=undefined)
    kept = np.clip(prediction, _KEPT_FROM_EDGES, 1 - _KEPT_FROM_EDGES)
    odds = np.log(kept) - np.log1p(-kept)
    spread = float(odds.std())
    if not spread > 1e-9:
        return Slope(None, reason="the predictions are constant")
    found = _newton(y, (odds - odds.mean()) / spread)
    if found is None:
        return Slope(None, reason="the fit does not converge: the predictions separate the labels")
    slope, error = found
    reach = NormalDist().inv_cdf((1 + level) / 2) * error
    return Slope(slope / spread, (slope - reach) / spread, (slope + reach) / spread)


def _newton(y: Floats, x: Floats) -> tuple[float, float] | None:
    """Give the slope on standardised `x` and its standard error; `None` when the likelihood has no maximum."""
    rate = float(y.mean())
    offset, slope = float(np.log(rate / (1 - rate))), 0.0
    for _ in range(_ROUNDS):
        chance = 1 / (1 + np.exp(-np.clip(offset + slope * x, -500, 500)))
        weight = chance * (1 - chance)
        gap = y - chance
        a, b, c = float(weight.sum()), float((weight * x).sum()), float((weight * x * x).sum())
        determinant = a * c - b * b
        if not determinant > 1e-12 * max(1.0, a * c):
            return None
        first, second = float(gap.sum()), float((gap * x).sum())
        # Newton may overshoot far from the maximum; a bounded step still gets there.
        step = float(np.clip((a * second - b * first) / determinant, -5, 5))
        offset += float(np.clip((c * first - b * second) / determinant, -5, 5))
        slope += step
        if abs(step) < 1e-10:
            return slope, float(np.sqrt(a / determinant))
    return None
