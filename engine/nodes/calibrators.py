"""Calibration as a step of the model: a map from its probabilities to calibrated ones, fitted on rows kept for it.

Enters: probabilities and labels of those rows. Leaves: a `Calibrator`, plain JSON inside the model, and a predictor that
applies it. Called by `train`, and by `load_model` for whoever scores.

Every function of a row is its own: arrays are padded to whole vectors of numbers before `exp` and `log`, whose last rows
would else take other instructions, so one row gets the bits of many.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.contracts import Predictor
from engine.errors import DataError
from engine.modelling import ServingPredictor

Floats = NDArray[np.float64]
MIN_ROWS = 20
EDGE = 1e-12  # the log-odds of 0 and 1 are infinite
_LANES = 64


@dataclass(frozen=True, slots=True)
class Curve:
    """One fitted map. `platt` and `beta` hold coefficients on ln p, -ln(1-p) and 1; `isotonic` holds points to interpolate."""

    method: str
    x: tuple[float, ...]
    y: tuple[float, ...] = ()

    def apply(self, p: Floats) -> Floats:
        """Map probabilities, (n,)."""
        if self.method == "isotonic":
            return _interpolate(p, np.array(self.x), np.array(self.y))
        a, b, c = self.x

        def chance(kept: Floats) -> Floats:
            score = a * np.log(kept) - b * np.log1p(-kept) + c
            tail = np.exp(-np.abs(score))
            found: Floats = np.where(score >= 0, 1.0, tail) / (1.0 + tail)
            return found

        return _steady(chance, np.clip(p, EDGE, 1 - EDGE))


@dataclass(frozen=True, slots=True)
class Calibrator:
    """One curve for a binary model; for several classes one each, whose results are brought to add up to one."""

    curves: tuple[Curve, ...]
    rows: int

    def apply(self, prediction: Floats) -> Floats:
        """Map predictions of the model's own shape, (n,) or (n, classes)."""
        if prediction.ndim == 1:
            return self.curves[0].apply(prediction)
        mapped = np.stack([curve.apply(prediction[:, i]) for i, curve in enumerate(self.curves)], axis=1)
        total = mapped[:, 0].copy()
        for column in range(1, mapped.shape[1]):  # in one order, whatever the number of rows
            total += mapped[:, column]
        found: Floats = mapped / total[:, None]
        return found

    def to_json(self) -> dict[str, Any]:
        """Write out what was fitted; floats are exact."""
        curves = [{"method": curve.method, "x": list(curve.x), "y": list(curve.y)} for curve in self.curves]
        return {"rows": self.rows, "curves": curves}


def calibrator_from_json(document: Mapping[str, Any]) -> Calibrator:
    """Read back what `to_json` wrote."""
    curves = [Curve(item["method"], tuple(item["x"]), tuple(item["y"])) for item in document["curves"]]
    return Calibrator(tuple(curves), int(document["rows"]))


class CalibratedPredictor:
    """A predictor with its calibration; `model` is the one inside, whose own scores are raw."""

    def __init__(self, model: Predictor, calibrator: Calibrator) -> None:
        self.model, self._calibrator = model, calibrator

    def prepare(self) -> None:
        """See `ServingPredictor`."""
        if isinstance(self.model, ServingPredictor):
            self.model.prepare()

    def predict(self, x: Floats) -> Floats:
        """Score rows."""
        return self._calibrator.apply(self.model.predict(x))


def fit_calibrator(method: str, prediction: Floats, y: Floats) -> Calibrator:
    """Fit on rows that the model has not seen; raises `DataError` when they are too few or of one class."""
    known = np.isfinite(y)
    prediction, y = prediction[known], y[known]
    hint = "give it more rows: widen the validation part, raise train.calibration.share, or split a `calibration` part"
    if len(y) < MIN_ROWS:
        raise DataError(f"{len(y)} rows are too few to calibrate on: {MIN_ROWS} are needed", hint=hint)
    if y.min() == y.max():
        raise DataError(f"the {len(y)} rows to calibrate on have one class only", hint=hint)
    if prediction.ndim == 1:
        return Calibrator((_fit(method, prediction, y),), len(y))
    curves = [_fit(method, prediction[:, i], (y == i) * 1.0) for i in range(prediction.shape[1])]
    return Calibrator(tuple(curves), len(y))


def _fit(method: str, p: Floats, y: Floats) -> Curve:
    if method == "isotonic":
        return _fit_isotonic(p, y)
    kept = np.clip(p, EDGE, 1 - EDGE)
    below, above = np.log(kept), -np.log1p(-kept)
    positives = float(y.sum())
    # Platt's targets: never quite 0 or 1, so that separable rows have a finite fit.
    target = np.where(y == 1, (positives + 1) / (positives + 2), 1 / (len(y) - positives + 2))
    if method == "platt":
        slope, offset = _logistic(np.stack([below + above]), target)
        return Curve(method, (slope, slope, offset))
    a, b, c = _logistic(np.stack([below, above]), target)
    return Curve(method, (a, b, c))


def _logistic(columns: Floats, target: Floats) -> tuple[float, ...]:
    """Fit a logistic regression with slopes of 0 or more, so that the map never falls; (k, n) columns."""
    from scipy.optimize import minimize  # noqa: PLC0415 - only a fit needs it, not a server
    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    count, n = columns.shape

    def loss(weights: Floats) -> tuple[float, Floats]:
        score = np.einsum("kn,k->n", columns, weights[:-1]) + weights[-1]
        tail = np.exp(-np.abs(score))
        chance = np.where(score >= 0, 1.0, tail) / (1.0 + tail)
        gap = chance - target
        value = float((np.maximum(score, 0.0) - target * score + np.log1p(tail)).sum()) / n
        return value, np.append(np.einsum("kn,n->k", columns, gap), gap.sum()) / n

    start = np.append(np.ones(count), 0.0)
    bounds = [(0.0, None)] * count + [(None, None)]
    with threadpool_limits(limits=1, user_api="blas"):
        found = minimize(
            loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"gtol": 1e-8, "maxiter": 500}
        )
    return tuple(float(value) for value in found.x)


def _fit_isotonic(p: Floats, y: Floats) -> Curve:
    """Pool adjacent violators over distinct predictions; the ends stay away from 0 and 1, which n rows cannot show."""
    from scipy.optimize import isotonic_regression  # noqa: PLC0415 - only a fit needs it

    values, member, count = np.unique(p, return_inverse=True, return_counts=True)
    mean = np.bincount(member, weights=y) / count
    fitted = np.asarray(isotonic_regression(mean, weights=count.astype(np.float64)).x)
    edge = 1.0 / (len(y) + 2)
    fitted = np.clip(fitted, edge, 1 - edge)
    # Of points on one level only the ends matter.
    level = np.append(True, fitted[1:] != fitted[:-1])
    kept = level | np.append(level[1:], True)
    return Curve("isotonic", tuple(values[kept].tolist()), tuple(fitted[kept].tolist()))


def _interpolate(p: Floats, x: Floats, y: Floats) -> Floats:
    """Interpolate linearly between points, and hold the ends."""
    if len(x) == 1:
        return np.full(len(p), y[0])
    left = np.searchsorted(x, p, side="right").clip(1, len(x) - 1) - 1
    share = ((p - x[left]) / (x[left + 1] - x[left])).clip(0.0, 1.0)
    found: Floats = y[left] + share * (y[left + 1] - y[left])
    return found


def _steady(function: Callable[[Floats], Floats], values: Floats) -> Floats:
    padded = np.full(-(-len(values) // _LANES) * _LANES, 0.5)
    padded[: len(values)] = values
    return function(padded)[: len(values)].copy()
