"""Components that do nothing: they lend their parameters to the tests of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from engine.components import Component, Params


class Csv(Params, frozen=True, kw_only=True):
    """Rows of a CSV file."""

    path: str
    separator: Annotated[str, msgspec.Meta(min_length=1, max_length=1)] = ","
    password: str | None = None


class ForestParams(Params, frozen=True, kw_only=True):
    """The inner parameters of a forest."""

    depth: Annotated[int, msgspec.Meta(ge=1, le=30)] = 6
    rate: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.1


class Forest(Params, frozen=True, kw_only=True):
    """A learner with parameters of its own under `params`."""

    trees: Annotated[int, msgspec.Meta(ge=1)] = 100
    objective: Literal["gini", "entropy"] = "gini"
    params: ForestParams = ForestParams()


class Mean(Params, frozen=True, kw_only=True):
    """A learner without parameters."""


class ByTime(Params, frozen=True, kw_only=True):
    """Training rows before a day."""

    train_until: Annotated[str, msgspec.Meta(pattern=r"^\d{4}-\d{2}-\d{2}$", description="a day, as in 2013-09-01")]


class ByChance(Params, frozen=True, kw_only=True):
    """A random part."""

    fraction: Annotated[float, msgspec.Meta(gt=0, lt=1)]


class Floor(Params, frozen=True, kw_only=True):
    """A metric that must reach a value."""

    metric: str
    minimum: float


class Cron(Params, frozen=True, kw_only=True):
    """At the moments of a schedule."""

    schedule: str
    timezone: str = "UTC"
    misfire: Literal["coalesce", "all", "skip"] = "coalesce"


def components() -> tuple[Component, ...]:
    """List them."""
    return (
        Component("source", "csv", Csv, build=lambda params: params),
        Component("trainer", "forest", Forest, build=lambda params: params, doc="trees"),
        Component("trainer", "mean", Mean, build=lambda params: params),
        Component("splitter", "by_time", ByTime, build=lambda params: params),
        Component("splitter", "by_chance", ByChance, build=lambda params: params),
        Component("gate", "floor", Floor, build=lambda params: params),
        Component("trigger", "cron", Cron, build=lambda params: params),
    )
