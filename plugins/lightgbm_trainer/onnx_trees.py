"""LightGBM's trees as ONNX: one ensemble a booster, and the objective's link.

Enters: LightGBM's dumps, one a quantile. Leaves: the bytes of an ONNX model that maps `x` (n, k) float64 to `prediction`
(n,) float64, or (n, classes), (n, quantiles).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from engine.errors import UsageError
from engine.onnx_graph import Graph
from engine.onnx_trees import LEQ, MEMBER, Child, Trees

_LINKS = {"binary": "Sigmoid", "poisson": "Exp", "multiclass": "Softmax"}
_PLAIN = frozenset({"regression", "regression_l1", "huber", "quantile", "lambdarank"})


def trees_to_onnx(dumps: Sequence[Mapping[str, Any]], *, levels: bool) -> bytes:
    """Write the model; with `levels` the dumps are those of the quantiles, which are put in order row by row.

    Raises `UsageError` for objectives and trees that have no counterpart.
    """
    graph, width = Graph(), len(dumps[0]["feature_names"])
    raw = [_ensemble(graph, dump) for dump in dumps]
    if levels:
        together = graph.one("Concat", raw, axis=1)
        graph.sorted_rows(together, len(raw), "prediction")
        return graph.model(width, len(raw))
    classes, link = int(dumps[0].get("num_class", 1)), _LINKS.get(_objective(dumps[0]))
    if classes > 1:
        graph.add(link or "Identity", raw, names=["prediction"], **({"axis": 1} if link == "Softmax" else {}))
        return graph.model(width, classes)
    graph.reshape(graph.one(link, raw) if link else raw[0], [-1], "prediction")
    return graph.model(width, None)


def _objective(dump: Mapping[str, Any]) -> str:
    return str(dump.get("objective", "regression")).split(" ")[0]


def _ensemble(graph: Graph, dump: Mapping[str, Any]) -> str:
    """Add one booster: a sum of trees for each class."""
    objective = _objective(dump)
    if objective not in _LINKS and objective not in _PLAIN:
        raise UsageError(f"the objective {objective} cannot be written as ONNX", hint="export it with --format mlflow")
    trees, classes = Trees(), int(dump.get("num_class", 1))
    for place, tree in enumerate(dump["tree_info"]):
        trees.root(_grow(trees, tree["tree_structure"], place % classes))
    return trees.write(graph, "x", classes)


def _grow(trees: Trees, node: Mapping[str, Any], target: int) -> Child:
    if "split_feature" not in node:
        return trees.leaf(float(node["leaf_value"]), target)
    if node["missing_type"] == "Zero":
        hint = "train without zero_as_missing"
        raise UsageError("trees that take zero as missing cannot be written as ONNX", hint=hint)
    categorical = node["decision_type"] == "=="
    value, mode = (0.0, MEMBER) if categorical else (float(node["threshold"]), LEQ)
    place = trees.node(int(node["split_feature"]), value, mode, missing=_goes_left(node))
    if categorical:
        trees.members += [*map(float, str(node["threshold"]).split("||")), math.nan]
    trees.join(place, _grow(trees, node["left_child"], target), _grow(trees, node["right_child"], target))
    return place, False


def _goes_left(node: Mapping[str, Any]) -> bool:
    """Say where a missing value goes: by the default, or as zero does where the training had none missing."""
    if node["decision_type"] == "==":
        return False
    if node["missing_type"] == "None":
        return bool(float(node["threshold"]) >= 0)
    return bool(node["default_left"])
