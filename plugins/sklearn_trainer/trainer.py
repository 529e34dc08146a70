"""Fitting, storing and loading estimators of scikit-learn.

Fitted and scored by one thread, so that no sum depends on threads. Rows are scored in blocks of one size: BLAS takes other
instructions for one row than for many, and a padded block gives a row the same bits wherever it stands.
"""

from __future__ import annotations

import importlib
import inspect
import io
import json
import re
import warnings
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from engine.contracts import FitRequest, Matrix, Predictor
from engine.errors import ConfigError, DataError, IntegrityError, Problem, UnavailableError
from engine.keys import canonical_json
from engine.training_rows import SINGLE, RowDemands

from . import CLASSIFIERS, REGRESSORS, STEPS, SklearnParams

Floats = NDArray[np.float64]
MODEL, DOCUMENT = "model.skops", "model.json"
_DEMANDS = RowDemands(largest=SINGLE)
_BLOCK = 256
_MOST = 1e30  # trees keep 32 bits, and products of much larger numbers are not finite
_EXPLAINED = 256  # rows on which importance is measured
_STAMP = (1980, 1, 1, 0, 0, 0)
# BSpline and the function that it keeps are what SplineTransformer is made of.
_TRUSTED = re.compile(
    r"(sklearn\.|numpy\.dtype$|numpy\.random\.|scipy\.interpolate\._bsplines\.BSpline$|scipy\._lib\.array_api_compat\.[a-z._]*asarray$)"
)


class SklearnTrainer:
    """Fits, loads and explains an estimator."""

    def __init__(self, params: SklearnParams) -> None:
        self._params = params

    def train(self, train: Matrix, validation: Matrix, fit: FitRequest) -> Mapping[str, bytes]:  # noqa: ARG002
        """Fit; raises `DataError` for rows that nothing can be learnt from, `ConfigError` for another task's estimator."""
        _DEMANDS.check(train, fit.task)
        _import_library()
        if fit.task not in self._tasks():
            raise ConfigError(
                [Problem("train.estimator", f"is not for the task {fit.task}", value=self._params.estimator)]
            )
        model, empty = self._pipeline(fit.seed), np.flatnonzero(np.isnan(train.x).all(axis=0))
        x = train.x.copy()
        x[:, empty] = 0.0  # some estimators cannot bin a column without a value
        fit.progress("fitting", len(train.y), None)
        with threadpool_limits(limits=1), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # convergence, constant columns: told by the metrics
            try:
                model.fit(x, train.y, **_weights(model, train))
            except (ValueError, TypeError) as error:
                raise DataError(f"scikit-learn refused the training: {error}", hint="check train.params") from error
        document: dict[str, Any] = {
            "kind": "sklearn",
            "task": fit.task,
            "columns": list(train.names),
            "classes": len(fit.classes),
            "empty": empty.tolist(),
            "importance": [],
        }
        predictor = SklearnPredictor(model, document)
        document["importance"] = importance_by_shuffling(predictor, train.x[:_EXPLAINED], fit.seed)
        fit.progress("fitted", len(train.y), 1.0)
        return {MODEL: dump_model(model), DOCUMENT: canonical_json(document)}

    def load(self, files: Mapping[str, bytes]) -> Predictor:
        """Load by skops, which builds allow-listed types only; raises `IntegrityError` for any other."""
        return SklearnPredictor(_read_model(files), _read_document(files))

    def to_onnx(self, files: Mapping[str, bytes]) -> bytes:
        """Write the pipeline as ONNX; raises `UsageError` for what has no counterpart there."""
        from .onnx_pipeline import pipeline_to_onnx  # noqa: PLC0415 - when exporting only

        return pipeline_to_onnx(_read_model(files), _read_document(files), _MOST)

    def importance(self, files: Mapping[str, bytes]) -> Mapping[str, float]:
        """Mean change of the prediction when a column is shuffled, on training rows."""
        document = _read_document(files)
        return dict(zip(document["columns"], document["importance"], strict=True))

    def _tasks(self) -> tuple[str, ...]:
        return ("binary", "multiclass") if self._params.estimator in CLASSIFIERS else ("regression",)

    def _pipeline(self, seed: int) -> Any:
        make_pipeline = importlib.import_module("sklearn.pipeline").make_pipeline
        estimator = _make(self._params.estimator, CLASSIFIERS | REGRESSORS, dict(self._params.params), seed)
        if self._params.steps is not None:
            steps = [_make(step.name, STEPS, dict(step.params), seed) for step in self._params.steps]
        elif estimator.__sklearn_tags__().input_tags.allow_nan:
            steps = []
        else:
            median = {"strategy": "median", "keep_empty_features": True}
            steps = [_make("SimpleImputer", STEPS, median, seed), _make("StandardScaler", STEPS, {}, seed)]
        return make_pipeline(*steps, estimator)


class SklearnPredictor:
    """A fitted pipeline; scores blocks of one size by one thread."""

    def __init__(self, model: Any, document: Mapping[str, Any]) -> None:
        self._model, self._task = model, document["task"]
        self._empty = list(document["empty"])
        self._width, self._classes = len(document["columns"]), int(document["classes"])

    def predict(self, x: Floats) -> Floats:
        """Score rows; raises `DataError` when `x` has another number of columns than the model."""
        if x.ndim != 2 or x.shape[1] != self._width:
            raise DataError(f"the model has {self._width} columns, the rows have shape {x.shape}")
        shape = (0, self._classes) if self._task == "multiclass" else (0,)
        with threadpool_limits(limits=1), np.errstate(all="ignore"):
            parts = [self._block(x[start : start + _BLOCK]) for start in range(0, len(x), _BLOCK)]
        return np.concatenate(parts) if parts else np.empty(shape)

    def _block(self, x: Floats) -> Floats:
        block = np.zeros((_BLOCK, self._width))
        block[: len(x)] = np.clip(x, -_MOST, _MOST)
        block[:, self._empty] = 0.0
        if self._task == "regression":
            return np.asarray(self._model.predict(block), dtype=np.float64).reshape(_BLOCK)[: len(x)]
        found = np.asarray(self._model.predict_proba(block), dtype=np.float64)[: len(x)]
        if self._task == "binary":
            return np.ascontiguousarray(found[:, -1])
        whole = np.zeros((len(x), self._classes))  # classes without training rows stay at 0
        whole[:, self._model.classes_.astype(np.int64)] = found
        return whole


def importance_by_shuffling(predictor: Predictor, x: Floats, seed: int) -> list[float]:
    """Give each column's importance to a model that has none of its own, (k,): mean absolute change of the prediction."""
    plain = predictor.predict(x)
    order = np.random.default_rng(seed).permutation(len(x))
    found = []
    for column in range(x.shape[1]):
        changed = x.copy()
        changed[:, column] = x[order, column]
        found.append(float(np.abs(predictor.predict(changed) - plain).mean()))
    return found


def dump_model(model: Any) -> bytes:
    """Write a model by skops with object ids numbered in order of appearance and no dates: the same model, the same bytes."""
    written = zipfile.ZipFile(io.BytesIO(_import_library().dumps(model)))
    schema = written.read("schema.json").decode()
    names = {item: written.read(item) for item in written.namelist() if item != "schema.json"}
    found = [*re.findall(r'"__id__": (\d+)', schema), *re.findall(r'"(\d+)\.[a-z]+"', schema)]
    places = [(schema.index(text), text) for text in dict.fromkeys(found)]
    numbers = {text: str(number) for number, (_, text) in enumerate(sorted(places), start=1)}
    schema = re.sub(r'("__id__": )(\d+)', lambda m: m[1] + numbers[m[2]], schema)
    schema = re.sub(r'"(\d+)(\.[a-z]+")', lambda m: f'"{numbers.get(m[1], m[1])}{m[2]}', schema)
    renamed = {re.sub(r"^\d+", lambda m: numbers.get(m[0], m[0]), name): content for name, content in names.items()}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in sorted({"schema.json": schema.encode(), **renamed}.items()):
            packed.writestr(zipfile.ZipInfo(name, _STAMP), content)
    return out.getvalue()


def _weights(model: Any, train: Matrix) -> dict[str, Any]:
    """Give the rows' weights to the estimator; raises `ConfigError` when it takes none."""
    if train.weight is None:
        return {}
    name, last = model.steps[-1]
    if "sample_weight" not in inspect.signature(last.fit).parameters:
        raise ConfigError([Problem("train.estimator", f"{type(last).__name__} takes no weights of rows or classes")])
    return {f"{name}__sample_weight": train.weight}


def _make(name: str, known: Mapping[str, str], params: dict[str, Any], seed: int) -> Any:
    kind = getattr(importlib.import_module(known[name]), name)
    accepted = inspect.signature(kind).parameters
    if "random_state" in accepted:
        params["random_state"] = seed % 2**31
    strange = sorted(set(params) - set(accepted))
    if strange:
        raise ConfigError(
            [
                Problem(
                    "train.params", f"{name} has no such parameter", value=strange[0], allowed=tuple(sorted(accepted))
                )
            ]
        )
    return kind(**params)


def _read_document(files: Mapping[str, bytes]) -> dict[str, Any]:
    try:
        document = json.loads(files[DOCUMENT])
    except (KeyError, ValueError) as error:
        raise IntegrityError(f"the model has no readable {DOCUMENT}: {error!r}") from error
    if not isinstance(document, dict) or document.get("kind") != "sklearn" or MODEL not in files:
        raise IntegrityError(f"{DOCUMENT} and {MODEL} do not hold a model of scikit-learn")
    return document


def _read_model(files: Mapping[str, bytes]) -> Any:
    _read_document(files)
    library = _import_library()
    try:
        strange = [name for name in library.get_untrusted_types(data=files[MODEL]) if not _TRUSTED.match(name)]
        if strange:
            raise IntegrityError(f"{MODEL} holds types that are not scikit-learn's: {', '.join(strange)}")
        trusted = library.get_untrusted_types(data=files[MODEL])
        return library.loads(files[MODEL], trusted=trusted)
    except (ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise IntegrityError(f"{MODEL} cannot be read: {error}") from error


def _import_library() -> Any:
    try:
        importlib.import_module("sklearn")
        return importlib.import_module("skops.io")
    except ImportError as error:
        hint = "pip install 'plumbline[sklearn]'"
        raise UnavailableError(f"the trainer `sklearn` needs scikit-learn and skops: {error}", hint=hint) from error
