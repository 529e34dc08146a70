"""Aggregates of one request: from the values that a window takes to the feature. Called by `single`.

The integers are exact and the doubles come from the formulas of `exact`, so they have the bits of `windows`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.features.events import Scalar
from engine.features.exact import mean_formula, quantile_rank, smoothed_formula, sum_formula, variance_formula
from engine.features.finalising import absent, given
from engine.features.frames import Ints
from engine.features.steps import Window

_INT64 = 2**63
Array = npt.NDArray[Any]
Decode = Callable[[Any], Scalar]
"""How to read a value of a track."""


@dataclass(slots=True)
class Taken:
    """The values that count, in total order, and what the aggregates of one track and window share.

    `bound`: no integer is larger in size, of those that are summed. `places`: how many texts there are, where values are
    places among texts.
    """

    values: Array
    bound: int = 0
    places: int | None = None
    _total: int | None = None

    @property
    def count(self) -> int:
        """How many values there are."""
        return len(self.values)

    def total(self) -> int:
        """The exact sum of integers."""
        if self._total is None:
            self._total = exact_sum(self.values, self.bound)
        return self._total


Finish = Callable[[Taken, Decode], Scalar]


def exact_sum(values: Array, bound: int) -> int:
    """The exact sum of integers, none of which is larger than `bound` in size."""
    return int(values.sum()) if bound * len(values) < _INT64 else sum(values.tolist())


def exact_squares(values: Array, bound: int) -> int:
    """The exact sum of the squares of integers."""
    if bound * bound * len(values) < _INT64:
        return int(np.dot(values, values))
    return sum(value * value for value in values.tolist())


def _sum(step: Window) -> Finish:
    scale, none, whole = 10.0 ** (step.decimals or 0), absent(step), step.type != "f64"

    def finish(taken: Taken, _decode: Decode) -> Scalar:
        if not taken.count and none:
            return none
        total = taken.total()
        if whole:
            return total if -_INT64 <= total < _INT64 else None
        return sum_formula(float(total), scale)

    return finish


def _mean(step: Window) -> Finish:
    scale = 10.0 ** (step.decimals or 0)

    def finish(taken: Taken, _decode: Decode) -> Scalar:
        return mean_formula(float(taken.count), float(taken.total()), scale) if taken.count else None

    return finish


def _smoothed(step: Window) -> Finish:
    scale, prior = 10.0 ** (step.decimals or 0), (given(step, step.prior), given(step, step.weight))
    none = absent(step)

    def finish(taken: Taken, _decode: Decode) -> Scalar:
        if not taken.count:
            return none
        return smoothed_formula(float(taken.count), float(taken.total()), scale, prior)

    return finish


def _std(step: Window) -> Finish:
    scale = 10.0 ** (step.decimals or 0)

    def finish(taken: Taken, _decode: Decode) -> Scalar:
        count = taken.count
        if count < 2:
            return None
        total = taken.total()
        spread = float(count * exact_squares(taken.values, taken.bound) - total * total)
        return sum_formula(math.sqrt(variance_formula(float(count), spread)), scale)

    return finish


def _tally(taken: Taken) -> tuple[Ints, int] | None:
    """How often each of consecutive integers occurs, and the first of them; `None` for doubles and for a wide range.

    Places among texts, and other small numbers, are counted instead of sorted.
    """
    values = taken.values
    if taken.places is not None:
        low, high = 0, taken.places - 1
    elif values.dtype.kind == "i" and taken.count:
        low, high = int(values.min()), int(values.max())
    else:
        return None
    if high - low > 4 * taken.count + 64:
        return None
    return np.bincount(values - low if low else values), low


def _n_distinct(taken: Taken) -> int:
    tally = _tally(taken)
    return int(np.count_nonzero(tally[0])) if tally is not None else len(np.unique(taken.values))


def _by_value(taken: Taken) -> tuple[Array, Array]:
    """The distinct values, rising, and how often each occurs."""
    tally = _tally(taken)
    if tally is None:
        return np.unique(taken.values, return_counts=True)
    counts, low = tally
    found = np.flatnonzero(counts)
    return found + low, counts[found]


def _counted(count: Callable[[Taken], int]) -> Callable[[Window], Finish]:
    def build(step: Window) -> Finish:
        none = absent(step)

        def finish(taken: Taken, _decode: Decode) -> Scalar:
            return count(taken) if taken.count or not none else int(none)

        return finish

    return build


def _histogram(step: Window) -> Finish:
    low, high = step.bounds or (None, None)
    whole = step.of_type != "f64"

    def finish(taken: Taken, _decode: Decode) -> Scalar:
        values = taken.values
        inside = np.ones(taken.count, dtype=np.bool_)
        if low is not None:
            inside &= values >= (_ceiling(low) if whole else low)  # 2**63 is above every integer, also for NumPy
        if high is not None and not (whole and _ceiling(high) == _INT64):
            inside &= values < (_ceiling(high) if whole else high)
        return int(inside.sum())

    return finish


def _ceiling(value: float) -> int:
    """The least integer that is not below a bound, as far as 64 bits have it."""
    if math.isinf(value):
        return _INT64 if value > 0 else -_INT64
    return min(max(math.ceil(value), -_INT64), _INT64)


def _picked(pick: Callable[[Array], Any]) -> Callable[[Window], Finish]:
    def build(_step: Window) -> Finish:
        return lambda taken, decode: decode(pick(taken.values)) if taken.count else None

    return build


def _last_k(step: Window) -> Finish:
    rank = given(step, step.rank)
    return lambda taken, decode: decode(taken.values[-rank]) if taken.count >= rank else None


def _quantile(step: Window) -> Finish:
    share = given(step, step.q)

    @lru_cache(4096)
    def rank(count: int) -> int:
        return int(quantile_rank(np.array([count]), share)[0])

    def finish(taken: Taken, decode: Decode) -> Scalar:
        if not taken.count:
            return None
        place = rank(taken.count) - 1
        return decode(np.partition(taken.values, place)[place])

    return finish


def _top_k(step: Window) -> Finish:
    rank = given(step, step.rank)

    def finish(taken: Taken, decode: Decode) -> Scalar:
        found, counts = _by_value(taken)
        if len(found) < rank:
            return None
        return decode(found[np.argsort(-counts, kind="stable")[rank - 1]])

    return finish


FINISH: dict[str, Callable[[Window], Finish]] = {
    "count": _counted(lambda taken: taken.count),
    "n_distinct": _counted(_n_distinct),
    "histogram": _histogram,
    "sum": _sum,
    "mean": _mean,
    "smoothed_mean": _smoothed,
    "std": _std,
    "min": _picked(lambda values: values.min()),
    "max": _picked(lambda values: values.max()),
    "first": _picked(lambda values: values[0]),
    "last": _picked(lambda values: values[-1]),
    "last_k": _last_k,
    "quantile": _quantile,
    "top_k": _top_k,
}
