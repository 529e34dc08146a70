"""A booster's trees as arrays, scored by a compiled kernel with LightGBM's own bits: a third of the time of its call for single rows.

Enters: LightGBM's dump of a booster that is not trained any further. Leaves: scores. Whether they are LightGBM's is not
believed: before it is used, a forest is compared with the booster bit by bit on rows made of its own thresholds, missing
values, zeros, infinities and unknown categories, and one that differs is not used. Called by the predictor when a server prepares.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

CHILDREN = 4  # a node's children: not above the threshold, above it, missing, unused (a power of two)
AS_ZERO, ZERO_TOO, AS_IT_IS = 0, 1, 2  # what a missing value is in a column: zero; missing, as zero is; missing
_MISSING = {"None": AS_ZERO, "Zero": ZERO_TOO, "NaN": AS_IT_IS}
PLAIN, SIGMOID, EXPONENTIAL, SOFTMAX = 0, 1, 2, 3
_LINKS = {
    "regression": PLAIN, "regression_l1": PLAIN, "huber": PLAIN, "quantile": PLAIN, "lambdarank": PLAIN,
    "binary": SIGMOID, "poisson": EXPONENTIAL, "multiclass": SOFTMAX,
}  # fmt: skip
_PROBES = 256
_DUMPED_INFINITY = 1e300


class UnusualError(Exception):
    """The booster has something that the kernel does not know."""


@dataclass(frozen=True, slots=True)
class Forest:
    """Trees as one array of nodes, inner ones first; a leaf is its own child, so that trees of any depth go in step.

    Node `n` looks at `column[n]` (its complement, when categorical) and goes to `child[4 n + k]`; the categories that go left
    are bits of `words[first[n]:first[n + 1]]`. `missing` (k,) says what missing is in a column.
    """

    column: NDArray[np.int32]
    threshold: Doubles
    child: NDArray[np.uint32]
    first: NDArray[np.int32]
    words: NDArray[np.uint32]
    value: Doubles
    root: NDArray[np.uint32]
    inner: int
    missing: NDArray[np.uint8]
    classes: int
    link: int
    steepness: float

    def score(self, x: Doubles) -> Doubles:
        """Score C-contiguous rows (n, k): (n,), or (n, classes)."""
        from .forest_kernel import score  # noqa: PLC0415 - imports numba

        made = np.empty((len(x), self.classes))
        score(
            x, self.column, self.threshold, self.child, self.first, self.words, self.value, self.root,
            np.uint64(self.inner), self.missing, self.link, self.steepness, made,
        )  # fmt: skip
        return made[:, 0] if self.classes == 1 else made


@dataclass(slots=True)
class _Nodes:
    """Nodes and leaves as they are read. A child is a node's place, or the complement of a leaf's."""

    column: list[int] = field(default_factory=list)
    threshold: list[float] = field(default_factory=list)
    child: list[tuple[int, int, int]] = field(default_factory=list)
    sets: list[list[int]] = field(default_factory=list)
    leaves: list[float] = field(default_factory=list)
    missing: dict[int, int] = field(default_factory=dict)

    def read(self, tree: Mapping[str, Any]) -> int:
        """Add a tree; gives its root."""
        if "split_feature" not in tree:
            if "leaf_coeff" in tree:
                raise UnusualError("linear leaves")
            self.leaves.append(float(tree["leaf_value"]))
            return ~(len(self.leaves) - 1)
        place, column = len(self.column), int(tree["split_feature"])
        categorical = tree["decision_type"] == "=="
        if (
            not categorical
            and self.missing.setdefault(column, _MISSING[tree["missing_type"]]) != _MISSING[tree["missing_type"]]
        ):
            raise UnusualError("a column with two kinds of missing values")
        self.column.append(~column if categorical else column)
        self.threshold.append(0.0 if categorical else _unbounded(float(tree["threshold"])))
        self.sets.append([int(code) for code in str(tree["threshold"]).split("||")] if categorical else [])
        self.child.append((0, 0, 0))
        left, right = self.read(tree["left_child"]), self.read(tree["right_child"])
        self.child[place] = (left, right, left if tree["default_left"] and not categorical else right)
        return place


def read_forest(dump: Mapping[str, Any]) -> Forest:
    """Read LightGBM's dump; raises `UnusualError`."""
    name, *settings = str(dump.get("objective", "")).split(" ")
    classes = int(dump["num_tree_per_iteration"])
    if name not in _LINKS or dump.get("average_output") or "sqrt" in settings:
        raise UnusualError(f"objective {name}")
    nodes = _Nodes()
    roots = [nodes.read(tree["tree_structure"]) for tree in dump["tree_info"]]
    inner, leaves = len(nodes.column), len(nodes.leaves)
    words = [_bits(codes) for codes in nodes.sets]

    def place(child: int) -> int:
        return child if child >= 0 else inner + ~child

    child = np.repeat(np.arange(inner + leaves, dtype=np.uint32), CHILDREN).reshape(-1, CHILDREN)
    if inner:
        child[:inner, :3] = [[place(one) for one in three] for three in nodes.child]
    missing = np.full(len(dump["feature_names"]), AS_IT_IS, dtype=np.uint8)
    for column, kind in nodes.missing.items():
        missing[column] = kind
    return Forest(
        column=np.array([*nodes.column, *[0] * leaves], dtype=np.int32),
        threshold=np.array([*nodes.threshold, *[math.inf] * leaves]),
        child=child.reshape(-1),
        first=np.cumsum([0, *map(len, words), *[0] * leaves]).astype(np.int32),
        words=np.array([word for part in words for word in part], dtype=np.uint32),
        value=np.array([*[0.0] * inner, *nodes.leaves]),
        root=np.array([place(root) for root in roots], dtype=np.uint32),
        inner=inner,
        missing=missing,
        classes=classes,
        link=_LINKS[name],
        steepness=float(dict(part.split(":") for part in settings if ":" in part).get("sigmoid", 1.0)),
    )


def _unbounded(threshold: float) -> float:
    """The dump writes infinity as 1e300."""
    return math.copysign(math.inf, threshold) if abs(threshold) >= _DUMPED_INFINITY else threshold


def _bits(codes: list[int]) -> list[int]:
    words = [0] * (max(codes, default=-1) // 32 + 1)
    for code in codes:
        words[code // 32] |= 1 << code % 32
    return words


def make_forest(booster: Any) -> Forest | None:
    """A booster's trees; `None` when they are unusual, or give another bit than the booster on rows made to find one."""
    try:
        forest = read_forest(booster.dump_model())
    except (UnusualError, KeyError, ValueError, RecursionError):
        return None
    x = make_probes(forest)
    theirs = np.asarray(booster.predict(x, num_threads=1), dtype=np.float64)
    return forest if forest.score(x).tobytes() == np.ascontiguousarray(theirs).tobytes() else None


def make_probes(forest: Forest, count: int = _PROBES) -> Doubles:
    """Rows at and beside thresholds, at zero and next to it, missing, infinite, and of known and unknown categories."""
    draw = np.random.default_rng(0)
    always = np.array([math.nan, 0.0, -0.0, 1e-36, -1e-35, math.inf, -math.inf, 1.0, -1.0, 1e300])
    x = np.empty((count, len(forest.missing)))
    for index in range(x.shape[1]):
        cuts = forest.threshold[: forest.inner][forest.column[: forest.inner] == index]
        pool = np.concatenate([cuts, np.nextafter(cuts, math.inf), always])
        if (forest.column == ~index).any():
            pool = np.concatenate([np.arange(40.0), [math.nan, -0.5, -1.0, -7.0, 1.5, 1e3, 2.0**31, 1e18]])
        x[:, index] = draw.choice(pool, count)
    return x
