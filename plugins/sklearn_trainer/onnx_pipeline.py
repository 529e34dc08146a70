"""A pipeline of scikit-learn as ONNX: what scoring does to rows, its steps by skl2onnx in doubles, some estimators by `onnx_estimators`.

Enters: a fitted pipeline and its document. Leaves: the bytes of an ONNX model that maps `x` (n, k) float64 to `prediction`.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from engine.errors import UsageError
from engine.onnx_graph import OPSETS, Graph

from .onnx_estimators import is_own, write_own

_DOUBLE = 11  # onnx.TensorProto.DOUBLE
_ALONE = {"GradientBoostingClassifier", "HistGradientBoostingClassifier", "LinearDiscriminantAnalysis"}
_ENDLESS = {"QuantileTransformer"}  # with its usual thousand quantiles, in skl2onnx 1.20
_HINT = "export it with --format mlflow"


def pipeline_to_onnx(model: Any, document: Mapping[str, Any], most: float) -> bytes:
    """Write the model; raises `UsageError` for steps and estimators that have no counterpart."""
    graph, width = Graph(), len(document["columns"])
    rows = graph.bounded("x", most)
    empty = np.isin(np.arange(width), document["empty"])
    rows = graph.one("Where", [graph.constant([empty.tolist()], np.bool_), graph.constant(0.0), rows])
    last = model.steps[-1][1]
    if is_own(last):
        made = rows if len(model.steps) == 1 else _convert(graph, model[:-1], rows, width)
        made = write_own(graph, last, made)
    else:
        made = _convert(graph, model, rows, width)
    task, classes = document["task"], int(document["classes"])
    if task == "regression":
        graph.reshape(made, [-1], "prediction")
        return graph.model(width, None)
    if task == "binary":
        graph.reshape(_last_column(graph, made, last), [-1], "prediction")
        return graph.model(width, None)
    places = np.zeros((len(last.classes_), classes))  # classes without training rows stay at 0
    places[np.arange(len(last.classes_)), last.classes_.astype(np.int64)] = 1.0
    graph.add("MatMul", [made, graph.constant(places)], names=["prediction"])
    return graph.model(width, classes)


def _last_column(graph: Graph, made: str, last: Any) -> str:
    """Take the chance of the later class; some give that alone."""
    return made if type(last).__name__ in _ALONE else graph.columns(made, [len(last.classes_) - 1])


def _convert(graph: Graph, steps: Any, rows: str, width: int) -> str:
    """Add steps as skl2onnx writes them; gives the name of their last output, as doubles."""
    library, types = importlib.import_module("skl2onnx"), importlib.import_module("skl2onnx.common.data_types")
    imputer = importlib.import_module("sklearn.impute").SimpleImputer
    endless = next((name for _, step in steps.steps if (name := type(step).__name__) in _ENDLESS), None)
    if endless:
        raise UsageError(f"skl2onnx does not come to an end with {endless}", hint=_HINT)
    classifies = hasattr(steps.steps[-1][1], "predict_proba")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = library.convert_sklearn(
                steps,
                initial_types=[(rows, types.DoubleTensorType([None, width]))],
                options={id(steps): {"zipmap": False}} if classifies else None,
                target_opset={**OPSETS, "ai.onnx.ml": 3},
                custom_conversion_functions={imputer: _write_imputer},
                custom_shape_calculators={imputer: _shape_imputer},
            )
    except Exception as error:
        words = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        names = ", ".join(type(step).__name__ for _, step in steps.steps)
        raise UsageError(f"skl2onnx cannot write {names} as ONNX: {words}", hint=_HINT) from error
    graph.nodes.extend(made.graph.node)
    graph.constants.extend(made.graph.initializer)
    return graph.one("Cast", [made.graph.output[-1].name], to=_DOUBLE)


def _write_imputer(scope: Any, operator: Any, container: Any) -> None:
    """Write an imputer in doubles, which ONNX Runtime's own has not."""
    if operator.raw_operator.add_indicator:
        raise UsageError("an imputer with add_indicator cannot be written as ONNX", hint=_HINT)
    api = importlib.import_module("skl2onnx.algebra.onnx_ops")
    rows, opset = operator.inputs[0], container.target_opset
    known = np.asarray(operator.raw_operator.statistics_, dtype=np.float64).reshape(1, -1)
    missing = api.OnnxIsNaN(rows, op_version=opset)
    filled = api.OnnxWhere(missing, known, rows, op_version=opset, output_names=operator.outputs[:1])
    filled.add_to(scope, container)


def _shape_imputer(operator: Any) -> None:
    kind = type(operator.inputs[0].type)
    operator.outputs[0].type = kind([None, len(operator.raw_operator.statistics_)])
