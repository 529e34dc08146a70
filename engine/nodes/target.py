"""What a model predicts, found from the declaration and the training labels, and labels as the numbers that models see.

Enters: the settings of a training and raw labels. Leaves: a `Target`, labels as float64 (a class as its place among the
target's classes; NaN for a class that the model does not know), and row weights. Called by `train`, `evaluate` and the
analyses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.contracts import Target
from engine.errors import DataError
from engine.keys import Json

MULTICLASS = "multiclass"
_MOST_CLASSES = 1000


def fit_target(settings: Mapping[str, Any], labels: pl.Series) -> Target:
    """Find the target; the classes that are not declared are the labels' values, sorted.

    Raises `DataError` for labels that cannot be classes, or that are none of those declared.
    """
    if settings["task"] != MULTICLASS:
        return Target(settings["task"], quantiles=tuple(settings.get("quantiles") or ()))
    classes = tuple(str(name) for name in settings.get("classes") or ())
    if classes:
        _refuse_other_classes(labels, classes)
    return Target(MULTICLASS, classes or _found_classes(labels))


def target_of(trained: Mapping[str, Any]) -> Target:
    """Read the target back from what `train` wrote."""
    return Target(
        trained["task"], tuple(trained.get("classes") or ()), tuple(float(q) for q in trained.get("quantiles") or ())
    )


def encode_label(labels: pl.Series, target: Target) -> NDArray[np.float64]:
    """Give labels as float64, (n,); NaN for null and for a class beyond the target's."""
    if target.task != MULTICLASS:
        if labels.dtype == pl.String:
            hint = "set train.task=multiclass, or make the label a number"
            raise DataError(f"the label is text, and the task {target.task} needs a number", hint=hint)
        return np.array(labels.cast(pl.Float64).to_numpy(), dtype=np.float64)
    places = {name: float(place) for place, name in enumerate(target.classes)}
    found = class_names(labels).replace_strict(places, default=None, return_dtype=pl.Float64)
    return np.array(found.to_numpy(), dtype=np.float64)


def class_names(labels: pl.Series) -> pl.Series:
    """Write labels as the names of classes: text as it is, whole numbers without a point.

    >>> class_names(pl.Series([1.0, 2.0])).to_list(), class_names(pl.Series([True])).to_list()
    (['1', '2'], ['true'])
    """
    if labels.dtype.is_float():
        whole = labels.drop_nulls()
        if not bool(((whole == whole.floor()) & whole.is_finite()).all()):
            raise DataError("a label that is no whole number cannot be a class", hint="set train.task=regression")
        labels = labels.cast(pl.Int64)
    return labels.cast(pl.String)


def weigh(rows: pl.DataFrame, y: NDArray[np.float64], settings: Mapping[str, Any], target: Target) -> Any:
    """Give the weight of each row, (n,) float64 above 0, or None when all weigh the same.

    `settings["class_weights"]` are those that `class_weights` found on the training rows. Raises `DataError` for weights
    that are missing or not above 0.
    """
    column, by_class = settings.get("weight"), settings.get("class_weights")
    if column is None and not by_class:
        return None
    weight = np.ones(len(y))
    if column is not None:
        given = rows[column].cast(pl.Float64).to_numpy()
        wrong = int((~(np.isfinite(given) & (given > 0))).sum())
        if wrong:
            hint = "a weight is a number above 0; leave a row out by the source's filter instead"
            raise DataError(f"train.weight: {wrong} of {len(given)} rows have no weight above 0", hint=hint)
        weight = weight * given
    if by_class:
        names = target.classes or ("0", "1")
        table = np.array([float(by_class.get(name, 1.0)) for name in names])
        known = np.isfinite(y)
        weight[known] *= table[y[known].astype(np.int64).clip(0, len(names) - 1)]
    return weight


def class_weights(declared: Any, y: NDArray[np.float64], target: Target) -> dict[str, Json]:
    """Find the weight of each class by name: as declared, or `balanced` (n / classes / rows of the class).

    Raises `DataError` for a name that is no class.
    """
    names = target.classes or ("0", "1")
    if declared is None:
        return {}
    if declared != "balanced":
        strange = sorted(set(declared) - set(names))
        if strange:
            raise DataError(f"train.class_weight: `{strange[0]}` is no class; the classes are {', '.join(names)}")
        return {name: float(declared[name]) for name in names if name in declared}
    known = y[np.isfinite(y)].astype(np.int64).clip(0, len(names) - 1)
    counts = np.bincount(known, minlength=len(names))
    return {
        name: len(known) / (len(names) * int(count))
        for name, count in zip(names, counts.tolist(), strict=True)
        if count
    }


def group_ids(rows: pl.DataFrame, column: str | None) -> Any:
    """Number the queries of a ranking, (n,) int64 in order of appearance; raises `DataError` for a row without one."""
    if column is None:
        return None
    if rows[column].null_count():
        raise DataError(f"train.group: {rows[column].null_count()} rows have no `{column}`, which names their query")
    _, first, member = np.unique(rows[column].cast(pl.String).to_numpy(), return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))
    return rank[member].astype(np.int64)


def _refuse_other_classes(labels: pl.Series, classes: tuple[str, ...]) -> None:
    named = class_names(labels.drop_nulls())
    other = named.filter(~named.is_in(list(classes)))
    if not len(other):
        return
    counts = other.value_counts(sort=True, name="n")
    shown = ", ".join(f"`{name}` ({n} rows)" for name, n in counts.head(5).iter_rows())
    more = f" and {counts.height - 5} more" if counts.height > 5 else ""
    raise DataError(
        f"train.classes does not name {shown}{more}, which training or validation rows have; it names {', '.join(classes)}",
        hint="add it to train.classes, or give those rows another class (or none: null) in `label.expr`",
    )


def _found_classes(labels: pl.Series) -> tuple[str, ...]:
    present = labels.drop_nulls().unique().sort()
    if not 1 <= len(present) <= _MOST_CLASSES:
        hint = "set train.task=regression, or make fewer classes in `label.expr`"
        raise DataError(f"the label has {len(present)} values; a multiclass has 2 to {_MOST_CLASSES}", hint=hint)
    if len(present) == 1:
        hint = "check the label and the split's boundaries"
        raise DataError(
            f"the training and validation rows have one class only (`{class_names(present)[0]}`)", hint=hint
        )
    return tuple(class_names(present).to_list())
