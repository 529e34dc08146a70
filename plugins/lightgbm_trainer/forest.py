"""A booster's trees as arrays, scored by a compiled kernel with LightGBM's own bits: a third of the time of its call for single rows.

Enters: the text of a booster that is not trained any further. Leaves: scores. Whether they are LightGBM's is not
believed: before it is used, a forest is compared with the booster bit by bit on rows made of its own thresholds, missing
values, zeros, infinities and unknown categories, and one that differs is not used. Called by the predictor when a server prepares.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

CHILDREN = 4  # a node's children: not above the threshold, above it, missing, unused (a power of two)
AS_ZERO, ZERO_TOO, AS_IT_IS = 0, 1, 2  # what a missing value is in a column: zero; missing, as zero is; missing
PLAIN, SIGMOID, EXPONENTIAL, SOFTMAX = 0, 1, 2, 3
_LINKS = {
    "regression": PLAIN, "regression_l1": PLAIN, "huber": PLAIN, "quantile": PLAIN, "lambdarank": PLAIN,
    "binary": SIGMOID, "poisson": EXPONENTIAL, "multiclass": SOFTMAX,
}  # fmt: skip
_PROBES = 256
_VERSION = "v4"  # of the text that LightGBM writes
_CATEGORICAL, _DEFAULT_LEFT = 1, 2  # bits of a node's `decision_type`; what is missing is in the next two


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


def read_forest(text: str) -> Forest:
    """Read a model's text, as `Booster.model_to_string` gives it; raises `UnusualError`, `KeyError` or `ValueError`."""
    head, *blocks = text.split("\nTree=")
    lines = head.splitlines()
    settings = dict(line.split("=", 1) for line in lines if "=" in line)
    name, *options = settings.get("objective", "").split(" ")
    if settings["version"] != _VERSION or name not in _LINKS or "average_output" in lines or "sqrt" in options:
        raise UnusualError(f"version {settings['version']}, objective {name}")
    width, classes = int(settings["max_feature_idx"]) + 1, int(settings["num_tree_per_iteration"])
    trees = [_read_tree(block.partition("\n\n")[0]) for block in blocks]
    inner = sum(len(tree.column) for tree in trees)
    leaves = sum(len(tree.leaf) for tree in trees)
    child = np.repeat(np.arange(inner + leaves, dtype=np.uint32), CHILDREN).reshape(-1, CHILDREN)
    root, nodes, ends = np.empty(len(trees), dtype=np.uint32), 0, inner
    for index, tree in enumerate(trees):
        stop = nodes + len(tree.column)
        placed = np.where(tree.child >= 0, nodes + tree.child, ends + ~tree.child)
        child[nodes:stop, :3] = placed
        root[index] = nodes if len(tree.column) else ends
        nodes, ends = stop, ends + len(tree.leaf)
    column = np.concatenate([*(tree.column for tree in trees), np.zeros(leaves, dtype=np.int32)])
    sizes = np.concatenate([*(tree.sizes for tree in trees), np.zeros(leaves, dtype=np.int32)])
    return Forest(
        column=column.astype(np.int32),
        threshold=np.concatenate([*(tree.threshold for tree in trees), np.full(leaves, math.inf)]),
        child=child.reshape(-1),
        first=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32),
        words=np.concatenate([np.zeros(0, dtype=np.uint32), *(tree.words for tree in trees)]).astype(np.uint32),
        value=np.concatenate([np.zeros(inner), *(tree.leaf for tree in trees)]),
        root=root,
        inner=inner,
        missing=_missing(column[:inner], np.concatenate([*(tree.missing for tree in trees), np.zeros(0)]), width),
        classes=classes,
        link=_LINKS[name],
        steepness=float(dict(part.split(":") for part in options if ":" in part).get("sigmoid", 1.0)),
    )


@dataclass(frozen=True, slots=True)
class _Tree:
    """One tree as its text has it: `child` (m, 3) with the complements of leaves, `sizes` the words of each node's categories."""

    column: NDArray[np.int32]
    threshold: Doubles
    child: NDArray[np.int64]
    missing: NDArray[np.int64]
    sizes: NDArray[np.int64]
    words: NDArray[np.uint32]
    leaf: Doubles


def _read_tree(text: str) -> _Tree:
    fields = dict(line.split("=", 1) for line in text.splitlines()[1:])
    if int(fields.get("is_linear", "0")):
        raise UnusualError("linear leaves")

    def numbers(name: str, kind: Any) -> Any:
        return np.array(fields.get(name, "").split(), dtype=kind)

    kinds = numbers("decision_type", np.int64)
    column, threshold = numbers("split_feature", np.int32), numbers("threshold", np.float64)
    left, right = numbers("left_child", np.int64), numbers("right_child", np.int64)
    categorical = (kinds & _CATEGORICAL) != 0
    absent = np.where(((kinds & _DEFAULT_LEFT) != 0) & ~categorical, left, right)
    bounds, words = numbers("cat_boundaries", np.int64), numbers("cat_threshold", np.uint32)
    sets = [words[bounds[index] : bounds[index + 1]] for index in threshold[categorical].astype(np.int64)]
    sizes = np.zeros(len(column), dtype=np.int64)
    sizes[categorical] = [len(one) for one in sets]
    leaf = np.array(fields["leaf_value"].split(), dtype=np.float64)
    inner = len(leaf) - 1
    if {len(column), len(threshold), len(kinds), len(left), len(right)} != {inner}:
        raise UnusualError(f"a tree of {len(leaf)} leaves with other than {inner} nodes")
    if inner and (min(left.min(), right.min()) < -len(leaf) or max(left.max(), right.max()) >= inner):
        raise UnusualError("a child that is not there")
    return _Tree(
        column=np.where(categorical, ~column, column),
        threshold=threshold,
        child=np.stack([left, right, absent], axis=1),
        missing=kinds >> 2 & 3,
        sizes=sizes,
        words=np.concatenate(sets) if sets else words[:0],
        leaf=leaf,
    )


def _missing(column: NDArray[np.int32], kinds: NDArray[np.int64], width: int) -> NDArray[np.uint8]:
    """Give what is missing in each column: the same at all of its nodes."""
    found = np.full(width, AS_IT_IS, dtype=np.uint8)
    numeric = column >= 0
    found[column[numeric]] = kinds[numeric]
    if (found[column[numeric]] != kinds[numeric]).any():
        raise UnusualError("a column with two kinds of missing values")
    return found


def make_forest(booster: Any) -> Forest | None:
    """A booster's trees; `None` when they are unusual, or give another bit than the booster on rows made to find one."""
    try:
        forest = read_forest(booster.model_to_string())
    except (UnusualError, KeyError, ValueError):
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
