"""Training, loading and explaining XGBoost's trees."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.contracts import FitRequest, Matrix, Predictor, is_told
from engine.errors import ConfigError, DataError, IntegrityError, Problem, UnavailableError
from engine.keys import canonical_json
from engine.training_rows import SINGLE, RowDemands

from . import XgboostParams

Floats = NDArray[np.float64]
MODEL, DOCUMENT = "model.json", "columns.json"
_DEMANDS = RowDemands(largest=SINGLE, grades=30)
_OBJECTIVES = {
    "binary": "binary:logistic",
    "multiclass": "multi:softprob",
    "regression": "reg:squarederror",
    "quantile": "reg:quantileerror",
    "ranking": "rank:ndcg",
}
_METRICS = {
    "binary": "logloss", "multiclass": "mlogloss", "regression": "rmse", "quantile": "quantile", "ranking": "ndcg@10",
}  # fmt: skip


class XgboostTrainer:
    """Trains, loads and explains boosted trees."""

    onnx_tolerance = 1e-5  # leaves are added in 32 bits here, and in 64 there

    def __init__(self, params: XgboostParams) -> None:
        self._params = params

    def train(self, train: Matrix, validation: Matrix, fit: FitRequest) -> Mapping[str, bytes]:
        """Fit; raises `DataError` for rows nothing can be learnt from."""
        _DEMANDS.check(train, fit.task)
        if self._params.early_stopping and not len(validation.y):
            hint = "make the split leave validation rows, or set train.early_stopping=0"
            raise DataError("there are no validation rows to stop by", hint=hint)
        library = _import_library()
        try:
            booster = self._boost(library, train, validation, fit)
        except library.core.XGBoostError as error:
            words = str(error).splitlines()[0][:300]
            raise DataError(f"XGBoost refused the training: {words}", hint="check train.params") from error
        document: dict[str, Any] = {
            "kind": "xgboost",
            "task": fit.task,
            "columns": list(train.names),
            "outputs": len(fit.classes) or len(fit.quantiles),
        }
        return {MODEL: bytes(booster.save_raw("json")), DOCUMENT: canonical_json(document)}

    def load(self, files: Mapping[str, bytes]) -> Predictor:
        """Parse the model, whose digest has been verified."""
        booster, document = _read(files)
        return XgboostPredictor(booster, document)

    def importance(self, files: Mapping[str, bytes]) -> Mapping[str, float]:
        """Total gain of the splits on each column."""
        booster, document = _read(files)
        gains = booster.get_score(importance_type="total_gain")
        return {name: float(gains.get(f"f{index}", 0.0)) for index, name in enumerate(document["columns"])}

    def to_onnx(self, files: Mapping[str, bytes]) -> bytes:
        """Write the trees as ONNX; raises `UsageError` for what has no counterpart there."""
        from .onnx_trees import trees_to_onnx  # noqa: PLC0415 - when exporting only

        _, document = _read(files)
        return trees_to_onnx(files[MODEL], document)

    def _settings(self, train: Matrix, fit: FitRequest) -> dict[str, Any]:
        strange = sorted(set(self._params.monotone) - set(train.names))
        if strange:
            raise ConfigError(
                [Problem("train.monotone", "not a column of the model", value=strange[0], allowed=train.names)]
            )
        settings: dict[str, Any] = {
            **self._params.params,
            "objective": _OBJECTIVES[fit.task],
            "eval_metric": _METRICS[fit.task],
            "tree_method": "hist",
            "nthread": 1,
            "seed": fit.seed % 2**31,
            "verbosity": 0,
        }
        if fit.classes:
            settings["num_class"] = len(fit.classes)
        if fit.quantiles:
            settings["quantile_alpha"] = list(fit.quantiles)
        if self._params.monotone:
            signs = ",".join(str(self._params.monotone.get(name, 0)) for name in train.names)
            settings["monotone_constraints"] = f"({signs})"
        return settings

    def _boost(self, library: Any, train: Matrix, validation: Matrix, fit: FitRequest) -> Any:
        rows, settings = _rows(library, train, fit.task), self._settings(train, fit)
        booster = library.Booster(settings, [rows])
        held = _rows(library, validation, fit.task) if len(validation.y) else None
        patience, best, lowest = self._params.early_stopping, 0, float("inf")
        for number in range(1, self._params.rounds + 1):
            booster.update(rows, number - 1)
            words = f"round {number} of {self._params.rounds}"
            if held is not None and (patience or is_told(number)):
                seen = float(booster.eval(held).rsplit(":", 1)[1]) * (-1 if fit.task == "ranking" else 1)
                fit.measured(number, seen)
                words += f", validation loss {seen:.5f}"
                if seen < lowest:
                    best, lowest = number, seen
            fit.progress(words, None, number / self._params.rounds)
            if patience and number - best >= patience:
                break
        return booster[:best] if patience and best else booster


class XgboostPredictor:
    """A loaded model; scores with one thread."""

    def __init__(self, booster: Any, document: Mapping[str, Any]) -> None:
        self._booster, self._task = booster, document["task"]
        self._width = len(document["columns"])
        self._tail = (int(document["outputs"]),) if document["outputs"] else ()
        booster.set_param({"nthread": 1})

    def predict(self, x: Floats) -> Floats:
        """Score rows; raises `DataError` when `x` has another number of columns than the model."""
        self._check(x)
        if not len(x):
            return np.empty((0, *self._tail))
        found = np.asarray(self._booster.inplace_predict(_bounded(x)), dtype=np.float64)
        if self._task == "quantile":
            return np.sort(found.reshape(len(x), -1), axis=1)
        if self._task == "multiclass":  # 32-bit shares add up to one only nearly
            total = found[:, 0].copy()
            for column in range(1, found.shape[1]):
                total += found[:, column]
            return np.asarray(found / total[:, None])
        return found.reshape(len(x))

    def contributions(self, x: Floats) -> Floats:
        """Give SHAP values of the raw score, (n, columns) or (n, columns, classes)."""
        self._check(x)
        library = _import_library()
        found = np.asarray(self._booster.predict(library.DMatrix(_bounded(x), nthread=1), pred_contribs=True))
        parts = found.astype(np.float64)[..., :-1]
        return parts if parts.ndim == 2 else parts.transpose(0, 2, 1)

    def _check(self, x: Floats) -> None:
        if x.ndim != 2 or x.shape[1] != self._width:
            raise DataError(f"the model has {self._width} columns, the rows have shape {x.shape}")


def _bounded(x: Floats) -> Floats:
    """XGBoost keeps features in 32 bits, and an infinite one is an error."""
    most = float(np.finfo(np.float32).max)
    return np.ascontiguousarray(np.clip(x, -most, most), dtype=np.float64)


def _rows(library: Any, matrix: Matrix, task: str) -> Any:
    x, y, weight, group = _bounded(matrix.x), matrix.y, matrix.weight, matrix.group
    if task != "ranking" or group is None:
        return library.DMatrix(x, y, weight=weight, nthread=1)
    order = np.argsort(group, kind="stable")
    # XGBoost weighs queries, not rows: a query weighs what its rows do on average.
    own = None
    if weight is not None:
        _, member, count = np.unique(group, return_inverse=True, return_counts=True)
        own = np.bincount(member, weights=weight) / count
    return library.DMatrix(x[order], y[order], weight=own, qid=group[order], nthread=1)


def _read(files: Mapping[str, bytes]) -> tuple[Any, dict[str, Any]]:
    try:
        document = json.loads(files[DOCUMENT])
        content = files[MODEL]
        json.loads(content)  # XGBoost aborts the process for some texts that are not JSON
    except (KeyError, ValueError) as error:
        raise IntegrityError(f"the model has no readable {MODEL} and {DOCUMENT}: {error!r}") from error
    if not isinstance(document, dict) or document.get("kind") != "xgboost":
        raise IntegrityError(f"{DOCUMENT} does not describe a model of XGBoost")
    library = _import_library()
    try:
        return library.Booster(model_file=bytearray(content)), document
    except library.core.XGBoostError as error:
        raise IntegrityError(f"{MODEL} cannot be parsed: {str(error).splitlines()[0][:200]}") from error


def _import_library() -> Any:
    try:
        return importlib.import_module("xgboost")
    except ImportError as error:
        hint = "pip install 'plumbline[xgboost]'"
        raise UnavailableError(f"the trainer `xgboost` needs XGBoost: {error}", hint=hint) from error
