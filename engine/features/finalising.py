"""From exact aggregates to a feature's values: roundings, defaults and nulls, in one place for every way of evaluation.

Arrays have one entry a row that is asked about. Called by `windows` for many rows and by `events` for one.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from engine.errors import IntegrityError
from engine.features.exact import (
    Doubles,
    Flags,
    Integers,
    by_blocks,
    finalise_mean,
    finalise_smoothed,
    finalise_std,
    finalise_sum,
)
from engine.features.frames import Ints
from engine.features.operands import unsortable
from engine.features.steps import Window

T = TypeVar("T")
Made = tuple[Integers, Flags | None]
"""Values (doubles, with NaN for null; or integers, texts by rank), and where there is one (`None`: everywhere)."""
_COUNTED = frozenset({"count", "n_distinct", "histogram", "sum"})


def absent(step: Window) -> float | None:
    """What a step gives where there is no row at all; `None` is null."""
    if step.agg in _COUNTED:
        return 0 if step.empty is None else float(step.empty) if step.type == "f64" else int(step.empty)
    if step.agg == "smoothed_mean":
        return step.prior if step.empty is None else float(step.empty)
    return None


def fills_nulls(step: Window) -> bool:
    """Whether `empty` stands for every null: an integer sum that leaves 64 bits is null whatever `empty` says."""
    return step.empty is not None and step.agg not in _COUNTED and step.agg != "smoothed_mean"


def counted(step: Window, count: Ints, values: Integers) -> Made:
    """A count or a sum: 0 where there is no value, or `empty`; null where an integer leaves 64 bits."""
    valid = None
    if values.dtype == object:
        valid = np.array([-(2**63) <= value < 2**63 for value in values], dtype=np.bool_)
        values = np.where(valid, values, 0).astype(np.int64)
    none = absent(step)
    return (np.where(count > 0, values, none).astype(values.dtype) if none else values), valid


def summed(step: Window, count: Ints, total: Integers) -> Made:
    """Sum, mean or smoothed mean from exact integers."""
    decimals = step.decimals or 0
    if step.agg == "sum":
        return counted(step, count, finalise_sum(total, decimals) if step.type == "f64" else total)
    if step.agg == "mean":
        return by_blocks(lambda n, s: finalise_mean(n, s, decimals), count, total), None
    prior = given(step, step.prior), given(step, step.weight)
    smoothed = by_blocks(lambda n, s: finalise_smoothed(n, s, decimals, prior), count, total)
    return np.where(count > 0, smoothed, np.float64(absent(step))).astype(np.float64), None


def deviated(step: Window, count: Ints, spread: Doubles) -> Made:
    """The standard deviation from n * sum(x^2) - sum(x)^2."""
    return by_blocks(lambda n, s: finalise_std(n, s, step.decimals or 0), count, spread), None


def selected(step: Window, physical: Ints, there: Flags) -> Made:
    """One row's value, from the integer that sorts as it does."""
    if step.type == "f64":
        return np.where(there, unsortable(physical), np.nan), None
    return physical, there


def given(step: Window, value: T | None) -> T:
    """A field of the step that its aggregate needs; the compiler refuses a step without."""
    if value is None:
        message = f"feature `{step.name}`: a field that `{step.agg}` needs is missing"
        raise IntegrityError(message, hint="the program was edited by hand")
    return value
