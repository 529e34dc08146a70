"""Trees as ONNX, in doubles: one `TreeEnsemble` (ai.onnx.ml 5), in which thresholds and leaves keep every bit.

Enters: nodes and leaves, tree by tree, from the trainers that grow trees; the usual converters round both to single
precision. Leaves: the ensemble as a node of a `Graph`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from engine.onnx_graph import Graph

# Comparisons of a node with its threshold; the true branch is taken when it holds.
LEQ, LESS, MEMBER = 0, 1, 6
_SUM = 1
Child = tuple[int, bool]
"""A child of a node: its place among nodes or among leaves, and whether it is a leaf."""


@dataclass(slots=True)
class Trees:
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

    def leaf(self, value: float, target: int) -> Child:
        """Add a leaf that adds to one output."""
        self.leaves.append(value)
        self.targets.append(target)
        return len(self.leaves) - 1, True

    def node(self, feature: int, split: float, mode: int, *, missing: bool) -> int:
        """Add a node, whose children are joined later; `missing` says that a missing value takes the true branch."""
        self.feature.append(feature)
        self.split.append(split)
        self.mode.append(mode)
        self.missing_true.append(int(missing))
        for column in (self.true, self.false, self.true_leaf, self.false_leaf):
            column.append(0)
        return len(self.feature) - 1

    def join(self, place: int, true: Child, false: Child) -> None:
        """Give a node its children."""
        self.true[place], self.true_leaf[place] = true[0], int(true[1])
        self.false[place], self.false_leaf[place] = false[0], int(false[1])

    def root(self, child: Child) -> None:
        """End a tree; one that is a single leaf becomes a node with that leaf on both sides."""
        place, is_leaf = child
        if is_leaf:
            place = self.node(0, 0.0, LEQ, missing=True)
            self.join(place, child, child)
        self.roots.append(place)

    def write(self, graph: Graph, rows: str, outputs: int) -> str:
        """Add the ensemble to a graph: rows (n, k) to sums (n, outputs)."""
        from onnx import numpy_helper  # noqa: PLC0415 - an extra, needed here only

        def tensor(name: str, values: list[float], kind: Any = np.float64) -> Any:
            return numpy_helper.from_array(np.array(values, dtype=kind), name)

        attributes: dict[str, Any] = {
            "nodes_featureids": self.feature, "nodes_splits": tensor("splits", self.split),
            "nodes_modes": tensor("modes", [float(mode) for mode in self.mode], np.uint8),
            "nodes_truenodeids": self.true, "nodes_falsenodeids": self.false,
            "nodes_trueleafs": self.true_leaf, "nodes_falseleafs": self.false_leaf,
            "nodes_missing_value_tracks_true": self.missing_true, "tree_roots": self.roots, "n_targets": outputs,
            "leaf_targetids": self.targets, "leaf_weights": tensor("leaves", self.leaves),
            "aggregate_function": _SUM, "post_transform": 0,
        }  # fmt: skip
        if self.members:
            attributes["membership_values"] = tensor("members", self.members)
        return graph.one("TreeEnsemble", [rows], domain="ai.onnx.ml", **attributes)
