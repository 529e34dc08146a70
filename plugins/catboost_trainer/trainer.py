"""Training, loading and explaining CatBoost's trees."""

from __future__ import annotations

import importlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.contracts import FitRequest, Matrix, Predictor
from engine.errors import DataError, IntegrityError, UnavailableError
from engine.keys import canonical_json
from engine.training_rows import SINGLE, RowDemands

from . import CatboostParams

Floats = NDArray[np.float64]
MODEL, DOCUMENT = "model.cbm", "model.json"
_DEMANDS = RowDemands(largest=SINGLE, features=True)
_LOSSES = {"binary": "Logloss", "multiclass": "MultiClass", "regression": "RMSE", "ranking": "YetiRank"}


class CatboostTrainer:
    """Trains, loads and explains boosted trees."""

    def __init__(self, params: CatboostParams) -> None:
        self._params = params

    def train(self, train: Matrix, validation: Matrix, fit: FitRequest) -> Mapping[str, bytes]:
        """Fit; raises `DataError` for rows nothing can be learnt from."""
        _DEMANDS.check(train, fit.task)
        if self._params.early_stopping and not len(validation.y):
            hint = "make the split leave validation rows, or set train.early_stopping=0"
            raise DataError("there are no validation rows to stop by", hint=hint)
        library = _import_library()
        fit.progress("fitting", len(train.y), None)
        try:
            model = self._fit(library, train, validation, fit)
        except library.CatBoostError as error:
            words = str(error).splitlines()[0][:300]
            raise DataError(f"CatBoost refused the training: {words}", hint="check train.params") from error
        fit.progress("fitted", len(train.y), 1.0)
        document: dict[str, Any] = {
            "kind": "catboost",
            "task": fit.task,
            "columns": list(train.names),
            "outputs": len(fit.classes) or len(fit.quantiles),
            "importance": np.abs(model.get_feature_importance(type="PredictionValuesChange")).tolist()
            if fit.task != "ranking"
            else _use(model, len(train.names)),
        }
        return {MODEL: _dump(model), DOCUMENT: canonical_json(document)}

    def load(self, files: Mapping[str, bytes]) -> Predictor:
        """Parse the model, whose digest has been verified."""
        document = _read_document(files)
        return CatboostPredictor(_read_model(files), document)

    def to_onnx(self, files: Mapping[str, bytes]) -> bytes:
        """Write the trees as ONNX."""
        from .onnx_trees import trees_to_onnx  # noqa: PLC0415 - when exporting only

        document = _read_document(files)
        return trees_to_onnx(_as_json(_read_model(files)), document)

    def importance(self, files: Mapping[str, bytes]) -> Mapping[str, float]:
        """Mean change of the prediction when a column's value moves to another leaf."""
        document = _read_document(files)
        return dict(zip(document["columns"], document["importance"], strict=True))

    def _fit(self, library: Any, train: Matrix, validation: Matrix, fit: FitRequest) -> Any:
        loss = _LOSSES.get(fit.task) or _quantile_loss(fit.quantiles)
        model = library.CatBoost(
            {
                **self._params.params,
                "loss_function": loss,
                "iterations": self._params.rounds,
                "random_seed": fit.seed % 2**31,
                "thread_count": 1,
                "allow_writing_files": False,
                "logging_level": "Silent",
                **({"classes_count": len(fit.classes)} if fit.classes else {}),
            }
        )
        held = _pool(library, validation) if self._params.early_stopping else None
        stop = self._params.early_stopping or None
        model.fit(_pool(library, train), eval_set=held, early_stopping_rounds=stop, use_best_model=held is not None)
        return model


class CatboostPredictor:
    """A loaded model; scores with one thread."""

    def __init__(self, model: Any, document: Mapping[str, Any]) -> None:
        self._model, self._task = model, document["task"]
        self._width = len(document["columns"])
        self._tail = (int(document["outputs"]),) if document["outputs"] else ()

    def predict(self, x: Floats) -> Floats:
        """Score rows; raises `DataError` when `x` has another number of columns than the model."""
        if x.ndim != 2 or x.shape[1] != self._width:
            raise DataError(f"the model has {self._width} columns, the rows have shape {x.shape}")
        if not len(x):
            return np.empty((0, *self._tail))
        kind = "Probability" if self._task in {"binary", "multiclass"} else "RawFormulaVal"
        rows = np.ascontiguousarray(np.clip(x, -1e38, 1e38), dtype=np.float64)  # it keeps 32 bits
        found = np.asarray(self._model.predict(rows, prediction_type=kind, thread_count=1), dtype=np.float64)
        if self._task == "binary":
            return np.ascontiguousarray(found.reshape(len(x), 2)[:, 1])
        if self._task == "quantile":
            return np.sort(found.reshape(len(x), -1), axis=1)
        return found

    def contributions(self, x: Floats) -> Floats:
        """Give SHAP values of the raw score, (n, columns) or (n, columns, classes)."""
        library = _import_library()
        found = self._model.get_feature_importance(library.Pool(x), type="ShapValues", thread_count=1)
        parts = np.asarray(found, dtype=np.float64)[..., :-1]
        return parts if parts.ndim == 2 else parts.transpose(0, 2, 1)


def _quantile_loss(levels: tuple[float, ...]) -> str:
    if len(levels) == 1:
        return f"Quantile:alpha={levels[0]!r}"
    return "MultiQuantile:alpha=" + ",".join(repr(level) for level in levels)


def _use(model: Any, width: int) -> list[float]:
    """Give how often each column is split on: CatBoost has no importance of a ranking without its rows."""
    found = [0.0] * width
    for tree in _as_json(model).get("oblivious_trees", []):
        for split in tree.get("splits") or []:
            found[int(split["float_feature_index"])] += 1.0
    return found


def _as_json(model: Any) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        model.save_model(str(path), format="json")
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def _pool(library: Any, matrix: Matrix) -> Any:
    x = np.clip(matrix.x, -1e38, 1e38)
    if matrix.group is None:
        return library.Pool(x, matrix.y, weight=matrix.weight)
    order = np.argsort(matrix.group, kind="stable")
    own = None
    if matrix.weight is not None:
        _, member, count = np.unique(matrix.group, return_inverse=True, return_counts=True)
        own = (np.bincount(member, weights=matrix.weight) / count)[member][order]
    return library.Pool(x[order], matrix.y[order], group_id=matrix.group[order], group_weight=own)


def _dump(model: Any) -> bytes:
    """Write the model without its random identifier and date: the same trees, the same bytes."""
    metadata = model.get_metadata()
    for name in ("model_guid", "train_finish_time", "output_options"):
        metadata[name] = ""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / MODEL
        model.save_model(str(path), format="cbm")
        return path.read_bytes()


def _read_document(files: Mapping[str, bytes]) -> dict[str, Any]:
    try:
        document = json.loads(files[DOCUMENT])
    except (KeyError, ValueError) as error:
        raise IntegrityError(f"the model has no readable {DOCUMENT}: {error!r}") from error
    if not isinstance(document, dict) or document.get("kind") != "catboost" or MODEL not in files:
        raise IntegrityError(f"{DOCUMENT} and {MODEL} do not hold a model of CatBoost")
    return document


def _read_model(files: Mapping[str, bytes]) -> Any:
    library = _import_library()
    model = library.CatBoost()
    try:
        model.load_model(blob=files[MODEL])
    except library.CatBoostError as error:
        raise IntegrityError(f"{MODEL} cannot be parsed: {str(error).splitlines()[0][:200]}") from error
    return model


def _import_library() -> Any:
    try:
        return importlib.import_module("catboost")
    except ImportError as error:
        hint = "pip install 'plumbline[catboost]'"
        raise UnavailableError(f"the trainer `catboost` needs CatBoost: {error}", hint=hint) from error
