"""Binned rows, kept from one training to the next: trials of a sweep that differ in the trees alone bin once.

Enters: matrices and LightGBM's settings. Leaves: its `Dataset`s. What is kept is found by the rows' own key and by every
setting that has a part in binning, so that the trees have the same bits whether the rows were binned for them or before.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.contracts import Matrix
from engine.keys import canonical_json

from .library import import_lightgbm
from .rows import categorical_columns, plain_names, query_sizes, without_negatives

# What only the trees or the loop read; anything else may change the bins or what is filtered before them.
_OF_TREES = frozenset(
    {
        "num_leaves", "learning_rate", "feature_fraction", "bagging_fraction", "bagging_freq", "lambda_l1", "lambda_l2",
        "max_depth", "min_gain_to_split", "scale_pos_weight", "is_unbalance", "num_iterations", "num_threads",
        "feature_fraction_bynode", "extra_trees", "path_smooth", "max_delta_step", "cat_l2", "cat_smooth",
        "min_sum_hessian_in_leaf", "objective", "alpha", "sigmoid", "boost_from_average", "pos_bagging_fraction",
        "neg_bagging_fraction", "poisson_max_delta_step",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Binned:
    """Training rows, and validation rows on the same bins (`None`: there are none)."""

    rows: Any
    unseen: Any


_KEPT: dict[bytes, Binned] = {}  # the last one only: rows are large
_TURN = threading.Lock()


def bin_rows(train: Matrix, validation: Matrix | None, settings: Mapping[str, Any], by_category: bool) -> Binned:  # noqa: FBT001
    """Bin, or give what was binned of the same rows in the same way; raises `LightGBMError`."""
    if not train.key:
        return _bin(train, validation, settings, by_category)
    deciding = {name: value for name, value in settings.items() if name not in _OF_TREES}
    key = canonical_json({"rows": train.key, "category": by_category, "settings": deciding})
    with _TURN:
        if key not in _KEPT:
            _KEPT.clear()
            _KEPT[key] = _bin(train, validation, settings, by_category)
        return _KEPT[key]


def _bin(train: Matrix, validation: Matrix | None, settings: Mapping[str, Any], by_category: bool) -> Binned:  # noqa: FBT001
    lightgbm = import_lightgbm()
    categorical = categorical_columns(train) if by_category else []
    named: dict[str, Any] = {"categorical_feature": categorical, "feature_name": plain_names(train.names)}
    named |= {"weight": train.weight, "group": query_sizes(train.group)}
    rows = lightgbm.Dataset(without_negatives(train.x, categorical), train.y, params=dict(settings), **named)
    unseen = None
    if validation is not None:
        held_out = without_negatives(validation.x, categorical)
        sizes = query_sizes(validation.group)
        unseen = lightgbm.Dataset(held_out, validation.y, reference=rows, group=sizes, params=dict(settings))
    return Binned(rows, unseen)
