"""Triggers: a schedule, drift, performance, quality, new labels, new data, age, a person, and combinations of these.

Enters: a `View` (engine.loop_contracts). Leaves: an `Opinion`. Called by `engine tick`, `engine triggers` and
`engine backtest`. This module holds the parameters and is all that checking a declaration imports.
"""

from __future__ import annotations

import importlib
from typing import Annotated, Any, Literal

import msgspec

from engine.components import Component, Params
from engine.evaluation.names import METRIC_NAMES
from engine.loop_contracts import Trigger
from engine.spec.base import Duration, Identifier

_Count = Annotated[int, msgspec.Meta(ge=1, le=1000)]
_Rows = Annotated[int, msgspec.Meta(ge=0)]


class CronParams(Params, frozen=True, kw_only=True):
    """At the moments of a cron expression, by the clock of a time zone.

    Slots that were missed fire once (`coalesce`), each (`all`, at most `most`, the latest), or not at all when they are
    older than `grace` (`skip`).
    """

    schedule: str
    timezone: str = "UTC"
    misfire: Literal["coalesce", "all", "skip"] = "coalesce"
    grace: Duration = "1h"
    most: _Count = 100


class _Windowed(Params, frozen=True, kw_only=True):
    """Shared by what looks at readings: fires when `k` of the last `n` chunks are bad, and not again before one is good.

    Chunks with fewer than `min_rows` rows do not count, nor do those without enough data. What stays bad fires once more
    when `again` has passed (null: never), with newer chunks; a new model in production starts from the beginning.
    """

    k: _Count = 1
    n: _Count = 1
    min_rows: _Rows = 0
    again: Duration | None = "7d"

    def __post_init__(self) -> None:
        """Refuse more chunks than are looked at."""
        if self.k > self.n:
            raise ValueError(f"`k` is {self.k} of `n` {self.n} chunks: it would never fire")


class DriftParams(_Windowed, frozen=True, kw_only=True):
    """Readings of drift: of features (`input`), of predictions (`output`), or of how labels follow from both (`concept`).

    With `enter`, the magnitude by `measure` decides, and it is over below `exit`; without, the monitor's own alarm does,
    which weighs size and evidence. `columns` limits it to some (`input` only), and `slice` to one slice, as in `carrier=UA`.
    """

    of: Literal["input", "output", "concept"] = "input"
    measure: Literal[
        "psi", "jensen_shannon", "hellinger", "ks", "wasserstein", "chi_squared", "l_infinity", "effect"
    ] = "psi"
    enter: Annotated[float, msgspec.Meta(gt=0)] | None = None
    exit: Annotated[float, msgspec.Meta(ge=0)] | None = None
    columns: tuple[str, ...] = ()
    slice: str | None = None

    def __post_init__(self) -> None:
        """Refuse an exit that lies beyond the entrance."""
        super().__post_init__()
        if self.exit is not None and (self.enter is None or self.exit > self.enter):
            raise ValueError("`exit` goes with `enter` and is not above it: between the two nothing changes")
        if self.of == "concept" and self.measure != "effect" and self.enter is not None:
            raise ValueError("of concept only the `effect` is measured: say `measure: effect`")
        if self.columns and self.of != "input":
            raise ValueError("`columns` are features: they go with `of: input`")


class PerformanceParams(_Windowed, frozen=True, kw_only=True):
    """Readings of performance, realised or estimated: fires when `metric` falls below `minimum` (or rises above `maximum`).

    `drop` puts the limit so far below (for losses: above) what the model in production reached on its own test rows, as was
    recorded with it. Without a limit the monitor's own alarm decides, which takes for usual what the model reached on the rows
    that stopped its training: one that was trained in bad times has a low bar. It is over when a chunk is better than the limit by
    `margin`.
    """

    metric: Identifier | None = None
    minimum: float | None = None
    maximum: float | None = None
    drop: Annotated[float, msgspec.Meta(gt=0)] | None = None
    margin: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    estimated: bool = False
    slice: str | None = None

    def __post_init__(self) -> None:
        """Refuse two limits, and a limit on nothing."""
        super().__post_init__()
        limits = [limit for limit in (self.minimum, self.maximum, self.drop) if limit is not None]
        if len(limits) > 1:
            raise ValueError("give one limit: `minimum`, `maximum` or `drop`")
        if self.metric is None and limits:
            raise ValueError("a limit needs its `metric`")
        if self.drop is not None and self.metric not in METRIC_NAMES:
            raise ValueError(f"`drop` needs a metric that models are recorded with: {', '.join(METRIC_NAMES)}")
        if self.drop is not None and self.slice is not None:
            raise ValueError("`drop` is from what was reached on all test rows: it does not go with `slice`")


class QualityParams(_Windowed, frozen=True, kw_only=True):
    """Alarms about the quality of data: nulls, ranges, unseen values, volume, freshness. Runs diagnostics, never a training."""


class NewLabelsParams(Params, frozen=True, kw_only=True):
    """When `rows` more labels can be used than the model in production was trained with, or that `fraction` more."""

    rows: Annotated[int, msgspec.Meta(ge=1)] | None = None
    fraction: Annotated[float, msgspec.Meta(gt=0)] | None = None

    def __post_init__(self) -> None:
        """Refuse both or none."""
        if (self.rows is None) == (self.fraction is None):
            raise ValueError("give `rows` or `fraction`")


class DataCommitParams(Params, frozen=True, kw_only=True):
    """When the content of a source changed since this trigger last fired; `sources` none means every one."""

    sources: tuple[Identifier, ...] = ()


class StalenessParams(Params, frozen=True, kw_only=True):
    """When the model in production is older than `older_than`: since its promotion, or since its newest training data."""

    older_than: Duration
    since: Literal["promotion", "data"] = "promotion"


class ManualParams(Params, frozen=True, kw_only=True):
    """Only `engine triggers fire` fires it."""


class CombinedParams(Params, frozen=True, kw_only=True):
    """When any, or all, of other triggers fire. Say `alone: false` with those that shall not launch anything by themselves.

    For `all`, a trigger that fired stays fired for `within`.
    """

    triggers: Annotated[tuple[Identifier, ...], msgspec.Meta(min_length=1)]
    within: Duration = "1d"


def _build(name: str) -> Any:
    def build(params: Params) -> Trigger:
        judging = importlib.import_module(f"{__name__}.judging")  # late: checking a declaration judges nothing
        made: Trigger = getattr(judging, name)(params)
        return made

    return build


def components() -> tuple[Component, ...]:
    """Contribute every trigger."""
    return (
        Component("trigger", "cron", CronParams, _build("Cron"), ("cronsim",), "by a schedule"),
        Component("trigger", "drift", DriftParams, _build("Drift"), (), "inputs or outputs moved"),
        Component("trigger", "performance", PerformanceParams, _build("Performance"), (), "the model got worse"),
        Component("trigger", "quality", QualityParams, _build("Quality"), (), "data got worse"),
        Component("trigger", "new_labels", NewLabelsParams, _build("NewLabels"), (), "more labels"),
        Component("trigger", "data_commit", DataCommitParams, _build("DataCommit"), (), "new data"),
        Component("trigger", "staleness", StalenessParams, _build("Staleness"), (), "an old model"),
        Component("trigger", "manual", ManualParams, _build("Manual"), (), "a person"),
        Component("trigger", "any", CombinedParams, _build("AnyOf"), (), "one of several"),
        Component("trigger", "all", CombinedParams, _build("AllOf"), (), "several at once"),
    )
