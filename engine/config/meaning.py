"""Mistakes that need no data and no compiled program, in a configuration whose shape is right: names, times, schedules.

The feature language, sources, labels and metrics are checked by the layers that know them. Called by `loading`; pure but for the time
zone database.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any

from engine.config.composed import join_path
from engine.config.trigger_meaning import check_triggers
from engine.config.wording import nearest
from engine.errors import Problem
from engine.spec import CardSpec, EvaluateSpec, FeatureSpec, TrainSpec
from engine.spec.features import expanded_names

# Columns that every row has besides its request fields and features.
_OF_EVERY_ROW = ("row_id", "event_time")


def check_values(values: Mapping[str, Any]) -> list[Problem]:
    """Find values that no schema admits wherever they stand: `???` left over, numbers that are not finite."""
    return list(_check_leaves((), values))


def check_meaning(parts: Mapping[str, Any], given: Collection[str] = ()) -> list[Problem]:
    """Find every mistake that the shape does not show, in those parts of a pipeline (by key) whose shape is right.

    `given` are all keys: one that is not among the parts is there, but not what it should be.
    """
    names = feature_names(parts.get("features", {}))
    monitors = parts.get("monitors", None if "monitors" in given else {})
    problems = [*check_triggers(parts.get("triggers", {}), monitors), *_moments(parts.get("as_of"), parts.get("card"))]
    if "evaluate" in parts:
        request = parts["spine"].request if "spine" in parts else {}
        known = [*request, *names] if {"spine", "features"} <= parts.keys() else None
        problems += _evaluate(parts["evaluate"], known)
    if "train" in parts:
        problems += _target(parts["train"])
    if {"train", "features"} <= parts.keys():
        problems += _train(parts["train"], names)
    if {"train", "features", "spine"} <= parts.keys():
        problems += _train_columns(parts["train"], [*parts["spine"].request, *names])
    return problems


def feature_names(features: Mapping[str, FeatureSpec]) -> list[str]:
    """Name the features, with `{agg}` and `{window}` written out; in order of declaration."""
    names = (name for declared, feature in features.items() for name in expanded_names(declared, feature))
    return list(dict.fromkeys(names))


def _check_leaves(parts: tuple[str | int, ...], value: Any) -> Iterator[Problem]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _check_leaves((*parts, key), item)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _check_leaves((*parts, index), item)
    elif value == "???":
        path = join_path(parts)
        yield Problem(path, "still to be given (`???`)", hint=f"{path}=VALUE on the command line, or in the pipeline")
    elif isinstance(value, float) and not math.isfinite(value):
        yield Problem(join_path(parts), "not a finite number", value=str(value))


def _moments(as_of: str | None, card: CardSpec | None) -> Iterator[Problem]:
    if as_of is not None:
        try:
            datetime.fromisoformat(as_of)
        except ValueError:
            yield Problem("as_of", "not a moment", value=as_of, hint="write it as 2013-11-01T00:00:00Z")
    if card is not None and card.review_by is not None:
        try:
            date.fromisoformat(card.review_by)
        except ValueError:
            yield Problem("card.review_by", "there is no such day", value=card.review_by)


def _evaluate(evaluate: EvaluateSpec, known: Sequence[str] | None) -> Iterator[Problem]:
    """Check names; `known` are the request fields and features, None when they are not all known."""
    yield from _repeated("evaluate.metrics", evaluate.metrics)
    yield from _repeated("evaluate.slices", evaluate.slices)
    if known is None:
        return
    if evaluate.cluster is not None and evaluate.cluster not in {*known, *_OF_EVERY_ROW}:
        near = nearest(evaluate.cluster, [*known, *_OF_EVERY_ROW])
        yield Problem("evaluate.cluster", "no request field or feature is called so", value=evaluate.cluster,
                      allowed=() if near else (*known, *_OF_EVERY_ROW), suggestion=near)  # fmt: skip
    for index, name in enumerate(evaluate.slices):
        if name not in known:
            near = nearest(name, known)
            yield Problem(f"evaluate.slices.{index}", "no request field or feature is called so", value=name,
                          allowed=() if near else tuple(known), suggestion=near)  # fmt: skip


def _train(train: TrainSpec, names: Sequence[str]) -> Iterator[Problem]:
    hint = "`engine features list` names them; `*` stands for anything"
    for key, patterns in (("features", train.features), ("exclude", train.exclude)):
        for index, pattern in enumerate(patterns):
            if not fnmatch.filter(names, pattern):
                near = nearest(pattern, names)
                yield Problem(f"train.{key}.{index}", "matches no feature", value=pattern, suggestion=near, hint=hint)


def _target(train: TrainSpec) -> Iterator[Problem]:
    """Check what is declared of the target against the task."""
    for key, tasks in _ONLY_FOR.items():
        if getattr(train, key) and train.task not in tasks:
            hint = f"set train.task to {' or '.join(tasks)}, or leave it out"
            yield Problem(f"train.{key}", f"the task {train.task} has none", value=train.task, hint=hint)
    if train.task == "ranking" and train.group is None:
        yield Problem(
            "train.group", "a ranking needs the column that names each row's query", hint="as in group: search_id"
        )
    if list(train.quantiles) != sorted(set(train.quantiles)):
        yield Problem(
            "train.quantiles", "the levels must rise", value=", ".join(f"{level:g}" for level in train.quantiles)
        )
    yield from _repeated("train.classes", [str(name) for name in train.classes])
    if len(train.classes) == 1:
        yield Problem("train.classes", "one class only: there is nothing to tell apart", value=str(train.classes[0]))


_ONLY_FOR = {
    "classes": ("multiclass",),
    "quantiles": ("quantile",),
    "group": ("ranking",),
    "class_weight": ("binary", "multiclass"),
    "calibration": ("binary", "multiclass"),
}


def _train_columns(train: TrainSpec, known: Sequence[str]) -> Iterator[Problem]:
    for key in ("group", "weight"):
        name = getattr(train, key)
        if name is not None and name not in known:
            near = nearest(name, known)
            yield Problem(f"train.{key}", "no request field or feature is called so", value=name,
                          allowed=() if near else tuple(known), suggestion=near)  # fmt: skip


def _repeated(path: str, names: Sequence[str]) -> Iterator[Problem]:
    for index, name in enumerate(names):
        if name in names[:index]:
            yield Problem(f"{path}.{index}", "named twice", value=name)
