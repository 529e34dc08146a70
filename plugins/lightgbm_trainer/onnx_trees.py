"""Boosted trees as ONNX, in doubles: one `TreeEnsemble` (ai.onnx.ml 5) a booster, and the objective's link.

Enters: LightGBM's dumps, one a quantile. Leaves: the bytes of an ONNX model that maps `x` (n, k) float64 to `prediction`
(n,) float64, or (n, classes), (n, quantiles). Thresholds and leaves keep every bit, where the usual converters round them to
single precision.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from engine.errors import UsageError

_LEQ, _MEMBER, _SUM = 0, 6, 1
_LINKS = {"binary": "Sigmoid", "poisson": "Exp", "multiclass": "Softmax"}
_PLAIN = frozenset({"regression", "regression_l1", "huber", "quantile", "lambdarank"})


@dataclass(slots=True)
class Nodes:
    """The ensemble's columns as they grow."""

    feature: list[int] = field(default_factory=list)
    split: list[float] = field(default_factory=list)
    mode: list[int] = field(default_factory=list)
    true: list[int] = field(default_factory=list)
    false: list[int] = field(default_factory=list)
    true_leaf: list[int] = field(default_factory=list)
    false_leaf: list[int] = field(default_factory=list)
    missing_true: list[int] = field(default_factory=list)
    members: list[float] = field(default_factory=list)
    leaves: list[float] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    roots: list[int] = field(default_factory=list)
    target: int = 0

    def add_tree(self, root: Mapping[str, Any], target: int) -> None:
        """Append a tree that adds to one output; one that is a single leaf becomes a split with that leaf on both sides."""
        self.target = target
        if "split_feature" not in root:
            leaf = self._leaf(root)
            self.roots.append(self._node(0, 0.0, _LEQ, missing=True))
            self._join(self.roots[-1], (leaf, 1), (leaf, 1))
            return
        self.roots.append(self._split(root))

    def _split(self, node: Mapping[str, Any]) -> int:
        categorical = node["decision_type"] == "=="
        if node["missing_type"] == "Zero":
            raise UsageError(
                "trees that take zero as missing cannot be written as ONNX", hint="train without zero_as_missing"
            )
        value = 0.0 if categorical else float(node["threshold"])
        place = self._node(
            int(node["split_feature"]), value, _MEMBER if categorical else _LEQ, missing=_goes_left(node)
        )
        if categorical:
            self.members += [*map(float, str(node["threshold"]).split("||")), math.nan]
        self._join(place, self._child(node["left_child"]), self._child(node["right_child"]))
        return place

    def _child(self, node: Mapping[str, Any]) -> tuple[int, int]:
        return (self._split(node), 0) if "split_feature" in node else (self._leaf(node), 1)

    def _leaf(self, node: Mapping[str, Any]) -> int:
        self.leaves.append(float(node["leaf_value"]))
        self.targets.append(self.target)
        return len(self.leaves) - 1

    def _node(self, feature: int, split: float, mode: int, *, missing: bool) -> int:
        self.feature.append(feature)
        self.split.append(split)
        self.mode.append(mode)
        self.missing_true.append(int(missing))
        for column in (self.true, self.false, self.true_leaf, self.false_leaf):
            column.append(0)
        return len(self.feature) - 1

    def _join(self, place: int, true: tuple[int, int], false: tuple[int, int]) -> None:
        self.true[place], self.true_leaf[place] = true
        self.false[place], self.false_leaf[place] = false


def _goes_left(node: Mapping[str, Any]) -> bool:
    """Say where a missing value goes: by the default, or as zero does where the training had none missing."""
    if node["decision_type"] == "==":
        return False
    if node["missing_type"] == "None":
        return bool(float(node["threshold"]) >= 0)
    return bool(node["default_left"])


def trees_to_onnx(dumps: Sequence[Mapping[str, Any]]) -> bytes:
    """Write the model; of several dumps, the quantiles, which are put in order row by row.

    Raises `UsageError` for objectives and trees that have no counterpart.
    """
    import onnx  # noqa: PLC0415 - an extra, needed here only
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415

    steps = [step for place, dump in enumerate(dumps) for step in _ensemble(dump, f"raw_{place}")]
    constants = []
    raw, outputs, last = "raw_0", int(dumps[0].get("num_class", 1)), ""
    objective = str(dumps[0].get("objective", "regression")).split(" ")[0]
    if len(dumps) > 1:
        names = [f"raw_{place}" for place in range(len(dumps))]
        constants.append(numpy_helper.from_array(np.array([len(dumps)], dtype=np.int64), "levels"))
        steps.append(helper.make_node("Concat", names, ["together"], axis=1))
        steps.append(
            helper.make_node("TopK", ["together", "levels"], ["prediction", "order"], axis=1, largest=0, sorted=1)
        )
        outputs = len(dumps)
    else:
        last = raw
        if objective in _LINKS:
            link: dict[str, Any] = {"axis": 1} if objective == "multiclass" else {}
            last = "prediction" if outputs > 1 else "linked"
            steps.append(helper.make_node(_LINKS[objective], [raw], [last], **link))
        if outputs == 1:
            constants.append(numpy_helper.from_array(np.array([-1], dtype=np.int64), "shape"))
            steps.append(helper.make_node("Reshape", [last, "shape"], ["prediction"]))
    width = len(dumps[0]["feature_names"])
    shape = [None] if outputs == 1 else [None, outputs]
    graph = helper.make_graph(
        steps, "model",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, [None, width])],
        [helper.make_tensor_value_info("prediction", TensorProto.DOUBLE, shape)],
        constants,
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 5)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="plumbline")
    onnx.checker.check_model(made)
    content: bytes = made.SerializeToString()
    return content


def _ensemble(dump: Mapping[str, Any], output: str) -> list[Any]:
    """Give the node of one booster: a sum of trees for each class."""
    from onnx import helper, numpy_helper  # noqa: PLC0415 - an extra, needed here only

    objective = str(dump.get("objective", "regression")).split(" ")[0]
    if objective not in _LINKS and objective not in _PLAIN:
        raise UsageError(f"the objective {objective} cannot be written as ONNX", hint="export it with --format mlflow")
    nodes, classes = Nodes(), int(dump.get("num_class", 1))
    for place, tree in enumerate(dump["tree_info"]):
        nodes.add_tree(tree["tree_structure"], place % classes)

    def tensor(name: str, values: list[float], kind: Any = np.float64) -> Any:
        return numpy_helper.from_array(np.array(values, dtype=kind), name)

    attributes: dict[str, Any] = {
        "nodes_featureids": nodes.feature, "nodes_splits": tensor("splits", nodes.split),
        "nodes_modes": tensor("modes", [float(mode) for mode in nodes.mode], np.uint8), "nodes_truenodeids": nodes.true,
        "nodes_falsenodeids": nodes.false, "nodes_trueleafs": nodes.true_leaf, "nodes_falseleafs": nodes.false_leaf,
        "nodes_missing_value_tracks_true": nodes.missing_true, "tree_roots": nodes.roots, "n_targets": classes,
        "leaf_targetids": nodes.targets, "leaf_weights": tensor("leaves", nodes.leaves),
        "aggregate_function": _SUM, "post_transform": 0,
    }  # fmt: skip
    if nodes.members:
        attributes["membership_values"] = tensor("members", nodes.members)
    return [helper.make_node("TreeEnsemble", ["x"], [output], domain="ai.onnx.ml", **attributes)]
