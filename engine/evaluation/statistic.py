"""The words in which metrics are written: a statistic maps row weights to values, and a family prepares one for many metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from engine.contracts import Scores

Floats: TypeAlias = "NDArray[np.float64]"
Statistic: TypeAlias = Callable[[Floats], "dict[str, float]"]
"""Maps row weights (n,) to values by metric; NaN where a resample leaves a metric undefined. See `over` for many resamples."""


@dataclass(frozen=True, slots=True)
class Aside:
    """What some metrics need beside labels and predictions: the queries of a ranking, the levels of quantiles."""

    group: NDArray[np.int64] | None = None
    quantiles: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Blocked:
    """A `Statistic` that has a quicker way, with the same bits, for the weights (b, n) of several resamples: values (b,) by metric."""

    one: Statistic
    many: Callable[[Floats], dict[str, Floats]]

    def __call__(self, weight: Floats) -> dict[str, float]:
        """Evaluate one resample."""
        return self.one(weight)


def over(statistic: Statistic, weights: Floats) -> dict[str, Floats]:
    """Evaluate several resamples, (b, n), b at least 1: values (b,) by metric."""
    if isinstance(statistic, Blocked):
        return statistic.many(weights)
    found = [statistic(weight) for weight in weights]
    return {name: np.array([values[name] for values in found]) for name in found[0]}


Prepare: TypeAlias = Callable[[Floats, Floats, Sequence[str], Aside], Statistic]
"""`prepare(y, prediction, names, aside)`: sort and sum what does not depend on weights."""

NOTHING = Aside()


def aside_of(scores: Scores) -> Aside:
    """Give what scores carry beside their labels and predictions."""
    return Aside(scores.group, scores.quantiles)


def likeliest(prediction: Floats) -> NDArray[np.int64]:
    """Give each row's class of the highest probability, of equal ones the first; for a binary, whether it is one half or more."""
    return (prediction >= 0.5).astype(np.int64) if prediction.ndim == 1 else np.argmax(prediction, axis=1)
