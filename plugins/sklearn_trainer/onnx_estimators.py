"""Estimators of scikit-learn that are written as ONNX here, in doubles: trees, forests, boosted ones, and the discriminant.

Enters: a fitted estimator and the rows that reach it. Leaves: nodes of a `Graph`. Of trees in doubles, skl2onnx 1.20 rounds
thresholds (and does not end for some), while scikit-learn compares columns of 32 bits with thresholds of 64; of a
discriminant of two classes it gives other probabilities.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.errors import UsageError
from engine.onnx_graph import Graph
from engine.onnx_trees import LEQ, Child, Trees

_HINT = "export it with --format mlflow"
_LINKS = {"squared_error": "", "absolute_error": "", "quantile": "", "poisson": "Exp", "gamma": "Exp"}


def is_own(estimator: Any) -> bool:
    """Say whether the estimator is written here."""
    return type(estimator).__name__ in _WRITERS


def write_own(graph: Graph, estimator: Any, rows: str) -> str:
    """Add an estimator: rows (n, k) to probabilities (n, classes), the later one's (n, 1), or values (n, 1)."""
    return _WRITERS[type(estimator).__name__](graph, estimator, rows)


def _single(graph: Graph, estimator: Any, rows: str) -> str:
    return _mean(graph, [estimator], rows)


def _forest(graph: Graph, estimator: Any, rows: str) -> str:
    return _mean(graph, list(estimator.estimators_), rows)


def _mean(graph: Graph, members: list[Any], rows: str) -> str:
    trees, outputs = Trees(), members[0].tree_.value.shape[2]
    for member in members:
        for target in range(outputs):
            _add_tree(trees, member.tree_, member.tree_.value[:, 0, target] / len(members), target)
    return trees.write(graph, graph.single_precision(rows), outputs)


def _voted(graph: Graph, estimator: Any, rows: str) -> str:
    """Write AdaBoost (SAMME): each tree votes for its likeliest class with its weight; a softmax of the votes."""
    trees, classes = Trees(), len(estimator.classes_)
    weights = estimator.estimator_weights_[: len(estimator.estimators_)]
    for member, weight in zip(estimator.estimators_, weights / weights.sum(), strict=True):
        own = np.searchsorted(estimator.classes_, member.classes_)
        vote = own[member.tree_.value[:, 0, :].argmax(axis=1)]
        for target in range(classes):
            values = np.where(vote == target, 1.0, -1.0 / (classes - 1)) * weight / (classes - 1)
            _add_tree(trees, member.tree_, values, target)
    return graph.one("Softmax", [trees.write(graph, graph.single_precision(rows), classes)], axis=1)


def _boosted(graph: Graph, estimator: Any, rows: str) -> str:
    trees, outputs = Trees(), estimator.estimators_.shape[1]
    zero = np.zeros((1, estimator.n_features_in_))
    start = np.ravel(estimator.decision_function(zero) if _classifies(estimator) else estimator.predict(zero))
    for stage in estimator.estimators_:
        for target, member in enumerate(stage):
            values = member.tree_.value[:, 0, 0] * estimator.learning_rate
            start = start - np.where(np.arange(outputs) == target, values[member.apply(zero)[0]], 0.0)
            _add_tree(trees, member.tree_, values, target)
    raw = trees.write(graph, graph.single_precision(rows), outputs)
    raw = graph.one("Add", [raw, graph.constant([start.tolist()])])
    if not _classifies(estimator):
        return raw
    if estimator.loss == "exponential":
        raw = graph.one("Mul", [raw, graph.constant(2.0)])
    return graph.one("Sigmoid", [raw]) if outputs == 1 else graph.one("Softmax", [raw], axis=1)


def _histogram(graph: Graph, estimator: Any, rows: str) -> str:
    stages = estimator._predictors  # noqa: SLF001 - the library has no public way to its trees
    base = np.ravel(estimator._baseline_prediction)  # noqa: SLF001
    trees, outputs = Trees(), len(stages[0]) if stages else len(base)
    for stage in stages:
        for target, member in enumerate(stage):
            if member.nodes["is_categorical"].any():
                raise UsageError("trees that split on sets of categories cannot be written as ONNX", hint=_HINT)
            trees.root(_grow_histogram(trees, member.nodes, 0, target))
    raw = graph.one("Add", [trees.write(graph, rows, outputs), graph.constant([base.tolist()])])
    if _classifies(estimator):
        return graph.one("Sigmoid", [raw]) if outputs == 1 else graph.one("Softmax", [raw], axis=1)
    link = _LINKS[estimator.loss]
    return graph.one(link, [raw]) if link else raw


def _discriminant(graph: Graph, estimator: Any, rows: str) -> str:
    scores = graph.one("MatMul", [rows, graph.constant(estimator.coef_.T)])
    scores = graph.one("Add", [scores, graph.constant([estimator.intercept_.tolist()])])
    return graph.one("Sigmoid", [scores]) if len(estimator.coef_) == 1 else graph.one("Softmax", [scores], axis=1)


def _add_tree(trees: Trees, tree: Any, values: Any, target: int) -> None:
    trees.root(_grow(trees, tree, values, 0, target))


def _grow(trees: Trees, tree: Any, values: Any, number: int, target: int) -> Child:
    left, right = int(tree.children_left[number]), int(tree.children_right[number])
    if left < 0:
        return trees.leaf(float(values[number]), target)
    missing = bool(tree.missing_go_to_left[number])
    place = trees.node(int(tree.feature[number]), float(tree.threshold[number]), LEQ, missing=missing)
    trees.join(place, _grow(trees, tree, values, left, target), _grow(trees, tree, values, right, target))
    return place, False


def _grow_histogram(trees: Trees, nodes: Any, number: int, target: int) -> Child:
    node = nodes[number]
    if node["is_leaf"]:
        return trees.leaf(float(node["value"]), target)
    missing = bool(node["missing_go_to_left"])
    place = trees.node(int(node["feature_idx"]), float(node["num_threshold"]), LEQ, missing=missing)
    left, right = (_grow_histogram(trees, nodes, int(node[side]), target) for side in ("left", "right"))
    trees.join(place, left, right)
    return place, False


def _classifies(estimator: Any) -> bool:
    return hasattr(estimator, "classes_")


_WRITERS = {
    "DecisionTreeClassifier": _single, "DecisionTreeRegressor": _single,
    "RandomForestClassifier": _forest, "RandomForestRegressor": _forest,
    "ExtraTreesClassifier": _forest, "ExtraTreesRegressor": _forest,
    "GradientBoostingClassifier": _boosted, "GradientBoostingRegressor": _boosted,
    "HistGradientBoostingClassifier": _histogram, "HistGradientBoostingRegressor": _histogram,
    "AdaBoostClassifier": _voted, "LinearDiscriminantAnalysis": _discriminant,
}  # fmt: skip
