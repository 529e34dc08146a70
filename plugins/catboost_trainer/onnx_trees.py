"""CatBoost's trees as ONNX, from its own JSON: all tasks and shapes of trees, with the leaves' bits.

Enters: the model as CatBoost writes it in JSON. Leaves: the bytes of an ONNX model that maps `x` (n, k) float64 to
`prediction`. CatBoost's own ONNX keeps 32 bits, and knows neither several quantiles nor trees that are not symmetric.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.onnx_graph import Graph
from engine.onnx_trees import LEQ, Child, Trees

_MOST = 1e38  # as scoring: features are kept in 32 bits


def trees_to_onnx(model: Mapping[str, Any], document: Mapping[str, Any]) -> bytes:
    """Write the model."""
    task, outputs = document["task"], max(1, int(document["outputs"]))
    trees, above = Trees(), _missing_above(model)
    for tree in model.get("oblivious_trees", ()):
        for target in range(outputs):
            splits, leaves = tree.get("splits") or (), tree["leaf_values"]
            trees.root(_grow_level(trees, splits, leaves[target::outputs], above, target))
    for tree in model.get("trees", ()):
        for target in range(outputs):
            trees.root(_grow(trees, tree, above, target))
    graph = Graph()
    sums = trees.write(graph, graph.single_precision(graph.bounded("x", _MOST)), outputs)
    scale, bias = model["scale_and_bias"]
    scaled = graph.one("Mul", [sums, graph.constant(float(scale))])
    score = graph.one("Add", [scaled, graph.constant([[float(value) for value in bias]])])
    return graph.model_of_scores(score, task, len(document["columns"]), outputs)


def _missing_above(model: Mapping[str, Any]) -> frozenset[int]:
    """Name the columns whose missing values count as larger than every border; those of others count as smaller."""
    features = model["features_info"]["float_features"]
    return frozenset(int(item["feature_index"]) for item in features if item["nan_value_treatment"] == "AsTrue")


def _split(trees: Trees, split: Mapping[str, Any], above: frozenset[int]) -> int:
    feature = int(split["float_feature_index"])
    return trees.node(feature, float(split["border"]), LEQ, missing=feature not in above)


def _grow_level(trees: Trees, splits: Any, leaves: list[float], above: frozenset[int], target: int) -> Child:
    """Add a symmetric tree: the last split is the highest bit of a leaf's place."""
    if not splits:
        return trees.leaf(float(leaves[0]), target)
    place, half = _split(trees, splits[-1], above), len(leaves) // 2
    below, beyond = leaves[:half], leaves[half:]
    trees.join(place, *(_grow_level(trees, splits[:-1], part, above, target) for part in (below, beyond)))
    return place, False


def _grow(trees: Trees, node: Mapping[str, Any], above: frozenset[int], target: int) -> Child:
    if "split" not in node:
        value = node["value"]
        return trees.leaf(float(value[target] if isinstance(value, list) else value), target)
    place = _split(trees, node["split"], above)
    trees.join(place, _grow(trees, node["left"], above, target), _grow(trees, node["right"], above, target))
    return place, False
