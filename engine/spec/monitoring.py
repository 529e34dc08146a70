"""Monitors and notifiers as declared: what is read, in which chunks, against what, who hears of it."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

from engine.spec.base import Fraction, Identifier, PositiveInt, Prose, Spec

Period: TypeAlias = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(month|week|day|hour|[1-9][0-9]{0,8}(us|ms|s|m|h|d|w))$",
        description="a calendar period in UTC, or a fixed duration",
        examples=["day", "month", "6h"],
    ),
]


class ChunkSpec(Spec, frozen=True, kw_only=True):
    """How rows are cut into chunks: by time (`1d`, `7d`, or a calendar `month`), by `rows` each, or into `count` parts."""

    by: Period | None = None
    rows: PositiveInt | None = None
    count: PositiveInt | None = None


class WatchSpec(Spec, frozen=True, kw_only=True):
    """What all monitors of a pipeline share, unless one says otherwise.

    `reference`: `training` cuts the training rows evenly into `reference_chunks`; `previous` takes that many chunks before
    each chunk, `same_weekday` those of the same weekday before it. `level` is the chance of any alarm in a chunk in which
    nothing changed; `effect` the smallest change worth an alarm, in Cohen's terms; `run_length` how many chunks without
    change pass on average until slow change is found where there is none.
    """

    chunk: ChunkSpec = ChunkSpec(by="day")
    reference: Literal["training", "previous", "same_weekday"] = "training"
    reference_chunks: Annotated[int, msgspec.Meta(ge=5, le=200)] = 10
    level: Annotated[float, msgspec.Meta(gt=0, lt=0.5)] = 0.05
    effect: Fraction = 0.1
    run_length: Annotated[float, msgspec.Meta(ge=2)] = 200.0
    min_rows: PositiveInt = 30
    slices: tuple[Identifier, ...] = ()
    mode: Literal["engine", "compat"] = "engine"


class MonitorSpec(Spec, frozen=True, kw_only=True):
    """One reading of each chunk; `params` are the component's own keys in YAML.

    `columns` are names or globs (none: all), `slices` columns by whose values the chunk is read once more each. `notify`
    names notifiers (none: all); `runbook` says what to do, and is part of every alert.
    """

    kind: Identifier
    params: msgspec.Struct
    columns: tuple[str, ...] = ()
    slices: tuple[Identifier, ...] = ()
    level: Annotated[float, msgspec.Meta(gt=0, lt=0.5)] | None = None
    effect: Fraction | None = None
    severity: Literal["info", "warning", "critical"] = "warning"
    notify: tuple[Identifier, ...] = ()
    owner: Prose = ""
    runbook: Prose = ""
    doc: Prose = ""


class NotifierSpec(Spec, frozen=True, kw_only=True):
    """Who hears of alerts, from a severity up; `params` are the component's own keys in YAML."""

    kind: Identifier
    params: msgspec.Struct
    at_least: Literal["info", "warning", "critical"] = "warning"
    doc: Prose = ""


DEFAULT_MONITORS: dict[str, dict[str, str]] = {
    "drift": {"kind": "drift"},
    "prediction": {"kind": "prediction"},
    "multivariate": {"kind": "multivariate", "severity": "info"},
    "quality": {"kind": "quality", "severity": "critical"},
    "calibration": {"kind": "calibration"},
    "performance": {"kind": "performance", "severity": "critical"},
    "estimated": {"kind": "estimated"},
    "concept": {"kind": "concept"},
    "parity": {"kind": "parity", "severity": "critical"},
    "staleness": {"kind": "staleness"},
    "service": {"kind": "service", "severity": "critical"},
}
"""What `monitors: default` stands for."""
