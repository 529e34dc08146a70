"""The trainer `majority`: the same number for every row."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from engine.contracts import FitRequest, Matrix, Predictor
from engine.errors import DataError
from engine.keys import canonical_json
from engine.training_rows import RowDemands

from . import MajorityParams
from .rows import MODEL, check_width, read_model


class MajorityTrainer:
    """Learns one number. A model that does not beat it has learnt nothing."""

    def __init__(self, params: MajorityParams) -> None:
        self._params = params

    def train(self, train: Matrix, validation: Matrix, fit: FitRequest) -> Mapping[str, bytes]:  # noqa: ARG002
        """Take the mean (of a binary label: the base rate) or the median; raises `DataError`."""
        RowDemands(least=2).check(train, fit.task)
        with np.errstate(over="ignore", invalid="ignore"):
            value = _constant(train, fit, self._params.statistic)
        if not np.isfinite(value).all():
            raise DataError(
                "the training labels are too large to add up", hint="rescale the label, as in `expr: label / 1e6`"
            )
        fit.progress("one number", len(train.y), 1.0)
        return {MODEL: canonical_json({"kind": "majority", "value": value.tolist(), "columns": list(train.names)})}

    def load(self, files: Mapping[str, bytes]) -> Predictor:
        """Read the number back."""
        document = read_model(files, "majority")
        return ConstantPredictor(np.array(document["value"], dtype=np.float64), len(document["columns"]))

    def to_onnx(self, files: Mapping[str, bytes]) -> bytes:
        """Write the model as ONNX."""
        from .onnx_baselines import constant_to_onnx  # noqa: PLC0415 - when exporting only

        return constant_to_onnx(read_model(files, "majority"))

    def importance(self, files: Mapping[str, bytes]) -> Mapping[str, float]:
        """Nothing matters to it."""
        return dict.fromkeys(read_model(files, "majority")["columns"], 0.0)


def _constant(train: Matrix, fit: FitRequest, statistic: str) -> NDArray[np.float64]:
    """Give what is predicted for every row: () or (k,). Of classes it is their shares, none quite 0."""
    weight = np.ones(len(train.y)) if train.weight is None else train.weight
    if fit.classes:
        shares = np.bincount(train.y.astype(np.int64), weights=weight, minlength=len(fit.classes)) + 1.0
        return np.asarray(shares / shares.sum())
    if fit.quantiles:
        return np.asarray(np.quantile(train.y, fit.quantiles, method="inverted_cdf"), dtype=np.float64)
    if fit.task == "ranking":
        return np.array(0.0)
    if statistic == "median" and fit.task != "binary":
        return np.array(np.median(train.y))
    return np.array(train.y.mean() if train.weight is None else (train.y * weight).sum() / weight.sum())


class ConstantPredictor:
    """Gives its number, or its numbers, for every row."""

    def __init__(self, value: NDArray[np.float64], width: int) -> None:
        self._value, self._width = value, width

    def predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Score rows; raises `DataError` when `x` has another number of columns than the model."""
        check_width(x.shape, self._width)
        return np.full((len(x), *self._value.shape), self._value)
