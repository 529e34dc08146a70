"""Trainers `linear` and `majority`: the simple models that a real one has to beat.

Enters: a matrix of training rows. Leaves: `model.json`, readable and exact. Called by the `train` node, mostly for
`baseline:`; both can be the model itself as well. This module holds the parameters and is all that planning imports.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from engine.components import Component, Params
from engine.contracts import Trainer


class LinearParams(Params, frozen=True, kw_only=True):
    """Logistic or linear regression, by task: classes each against the rest, quantiles at fixed distances from the line.

    `l2` is the penalty on squared standardised weights. A category gets a weight of its own if it is one of the
    `max_levels` most frequent of its column.
    """

    l2: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    max_levels: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 100
    max_iterations: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 200


class MajorityParams(Params, frozen=True, kw_only=True):
    """The same for every row: base rate, classes' shares, the labels' quantiles; for a regression the mean or the median."""

    statistic: Literal["mean", "median"] = "mean"


def build_linear(params: LinearParams) -> Trainer:
    """Make the trainer `linear`."""
    from .linear import LinearTrainer  # noqa: PLC0415 - start-up: planning needs neither numpy nor scipy

    return LinearTrainer(params)


def build_majority(params: MajorityParams) -> Trainer:
    """Make the trainer `majority`."""
    from .majority import MajorityTrainer  # noqa: PLC0415 - start-up: planning does not need numpy

    return MajorityTrainer(params)


def components() -> tuple[Component, ...]:
    """Contribute both trainers."""
    linear = "logistic or linear regression on standardised columns, nulls as the mean with an indicator"
    return (
        Component("trainer", "linear", LinearParams, build_linear, ("numpy", "scipy"), linear),
        Component("trainer", "majority", MajorityParams, build_majority, ("numpy",), "the base rate, or the mean"),
    )
