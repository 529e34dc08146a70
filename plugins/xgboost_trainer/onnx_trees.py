"""XGBoost's trees as ONNX, from its own JSON.

Enters: the model's JSON. Leaves: the bytes of an ONNX model that maps `x` (n, k) float64 to `prediction`. Columns are rounded
to 32 bits before they meet a threshold, as XGBoost does; leaves are added in 64 bits where XGBoost adds in 32.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from engine.errors import UsageError
from engine.onnx_graph import Graph
from engine.onnx_trees import LESS, Child, Trees

_HINT = "export it with --format mlflow"


def trees_to_onnx(content: bytes, document: Mapping[str, Any]) -> bytes:
    """Write the model; raises `UsageError` for trees that have no counterpart."""
    learner = json.loads(content)["learner"]
    model = learner["gradient_booster"]["model"]
    graph, task, outputs = Graph(), document["task"], max(1, int(document["outputs"]))
    trees = Trees()
    for tree, target in zip(model["trees"], model["tree_info"], strict=True):
        _check(tree)
        trees.root(_grow(trees, tree, 0, int(target)))
    rows = graph.single_precision(graph.bounded("x", float(np.finfo(np.float32).max)))
    sums = trees.write(graph, rows, outputs)
    score = graph.one("Add", [sums, graph.constant([_base(learner, task, outputs)])])
    return graph.model_of_scores(score, task, len(document["columns"]), outputs)


def _check(tree: Mapping[str, Any]) -> None:
    if int(tree["tree_param"]["size_leaf_vector"]) > 1:
        raise UsageError("trees with a vector in each leaf (multi_strategy) cannot be written as ONNX", hint=_HINT)
    if any(tree["split_type"]):
        raise UsageError("trees that split on sets of categories cannot be written as ONNX", hint=_HINT)


def _grow(trees: Trees, tree: Mapping[str, Sequence[Any]], number: int, target: int) -> Child:
    left, right = tree["left_children"][number], tree["right_children"][number]
    value = float(np.float32(tree["split_conditions"][number]))  # the shortest text of a number of 32 bits
    if left < 0:
        return trees.leaf(value, target)
    missing = bool(tree["default_left"][number])
    place = trees.node(int(tree["split_indices"][number]), value, LESS, missing=missing)
    trees.join(place, _grow(trees, tree, left, target), _grow(trees, tree, right, target))
    return place, False


def _base(learner: Mapping[str, Any], task: str, outputs: int) -> list[float]:
    """Give what every raw score starts from, one for each output; of a binary model it is written as a probability."""
    found = json.loads(learner["learner_model_param"]["base_score"])
    values = [float(np.float32(value)) for value in (found if isinstance(found, list) else [found])]
    if task == "binary":
        values = [math.log(value / (1 - value)) for value in values]
    return values * outputs if len(values) == 1 else values
