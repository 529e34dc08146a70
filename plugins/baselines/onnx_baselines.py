"""The baselines as ONNX: the same columns, weights and links, in doubles.

Enters: a model's document. Leaves: the bytes of an ONNX model that maps `x` (n, k) float64 to `prediction`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from engine.onnx_graph import Graph

from .encoding import Encoding, Floats, encoding_from_json

_DOUBLE = 11  # onnx.TensorProto.DOUBLE


def linear_to_onnx(document: Mapping[str, Any]) -> bytes:
    """Write a linear model."""
    graph, encoding = Graph(), encoding_from_json(document["encoding"])
    weights: Floats = np.array(document["weights"], dtype=np.float64)
    matrix = graph.constant(weights[:, 1:].T if encoding.weights else np.zeros((1, len(weights))))
    scores = graph.one("MatMul", [_columns(graph, encoding), matrix])
    scores = graph.one("Add", [scores, graph.constant([weights[:, 0].tolist()])])
    match document["task"]:
        case "binary":
            graph.reshape(graph.one("Sigmoid", [scores]), [-1], "prediction")
        case "multiclass":
            chances = graph.one("Sigmoid", [scores])
            total = graph.one("ReduceSum", [chances, graph.constant([1], np.int64)], keepdims=1)
            least = graph.constant([[np.finfo(np.float64).tiny]])
            graph.add("Div", [chances, graph.one("Max", [total, least])], names=["prediction"])
            return graph.model(encoding.width, len(weights))
        case _ if document["offsets"]:
            graph.add("Add", [scores, graph.constant([document["offsets"]])], names=["prediction"])
            return graph.model(encoding.width, len(document["offsets"]))
        case _:
            graph.reshape(scores, [-1], "prediction")
    return graph.model(encoding.width, None)


def constant_to_onnx(document: Mapping[str, Any]) -> bytes:
    """Write a model that gives the same for every row."""
    graph, value = Graph(), np.array(document["value"], dtype=np.float64)
    repeated = graph.one("Add", [_nothing(graph), graph.constant(value.reshape(1, -1))])
    width = len(document["columns"])
    if value.ndim:
        graph.add("Identity", [repeated], names=["prediction"])
        return graph.model(width, len(value))
    graph.reshape(repeated, [-1], "prediction")
    return graph.model(width, None)


def _columns(graph: Graph, encoding: Encoding) -> str:
    """Encode rows: numbers around 0, then what is missing, then each level of each category; (n, weights)."""
    missing = graph.one("Or", [graph.one("IsNaN", ["x"]), graph.one("IsInf", ["x"])])
    parts = []
    if encoding.numbers:
        places, zero = list(encoding.numbers), graph.constant(0.0)
        moved = graph.one("Sub", [graph.columns("x", places), graph.constant([encoding.means.tolist()])])
        scaled = graph.one("Div", [moved, graph.constant([encoding.scales.tolist()])])
        parts.append(graph.one("Where", [graph.columns(missing, places), zero, scaled]))
    if encoding.indicators:
        parts.append(graph.one("Cast", [graph.columns(missing, list(encoding.indicators))], to=_DOUBLE))
    for index, levels in zip(encoding.categories, encoding.levels, strict=True):
        if len(levels):
            same = graph.one("Equal", [graph.columns("x", [index]), graph.constant([levels.tolist()])])
            parts.append(graph.one("Cast", [same], to=_DOUBLE))
    return graph.one("Concat", parts, axis=1) if parts else _nothing(graph)


def _nothing(graph: Graph) -> str:
    """Give a column of zeros, (n, 1), whatever the rows hold."""
    known = graph.one("Cast", [graph.one("IsNaN", [graph.columns("x", [0])])], to=_DOUBLE)
    return graph.one("Mul", [known, graph.constant(0.0)])
