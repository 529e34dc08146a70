"""What a trigger sees and says: the Protocol of the role `trigger`, and the values that pass between it and the tick.

A trigger is pure: the tick gathers what it may look at into a `View`, keeps its `cursor` for it, and acts on its `Opinion`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol, TypeAlias

from engine.keys import Json

Intent: TypeAlias = Literal["train", "diagnose"]


@dataclass(frozen=True, slots=True)
class Measured:
    """One thing that a monitor read of a chunk: `value` is the magnitude, `alarm` what its own statistics say.

    `kind` is the monitor's (`drift`, `prediction`, `performance`, `estimated`, `concept`, `quality`, …), `what` the column,
    metric or check, `until` the end of the chunk, `rows` its size (of performance, the labelled ones). `status` is `ok`,
    `alarm`, `insufficient_data` or `broken`. `sizes` are distances by name (`psi`, `ks`, `effect`, …). `since` is the
    chunk's beginning.
    """

    kind: str
    what: str
    until: datetime
    value: float | None
    status: str
    rows: int = 0
    slice: str | None = None
    name: str = ""
    sizes: Mapping[str, float] = field(default_factory=dict)
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Serving:
    """The model in production: when it was promoted, how new its training data is, how many labels it had.

    `metrics` are those that it reached on its own test rows, as recorded with it.
    """

    version: int
    promoted_at: datetime
    trained_until: datetime | None = None
    labels: int | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class View:
    """All that a trigger may look at. `readings` are ascending by `until`; `content` is each source's identity now.

    `labels` counts the rows with a usable label, when that is known. `opinions` are those of triggers named before this one.
    """

    now: datetime
    cursor: Mapping[str, Json] = field(default_factory=dict)
    readings: Sequence[Measured] = ()
    content: Mapping[str, str] = field(default_factory=dict)
    labels: int | None = None
    serving: Serving | None = None
    opinions: Mapping[str, Opinion] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Opinion:
    """Whether a trigger fires, why or why not, and what it wants to remember.

    `occasion` names what it fires for (a slot, a commit, a window) and becomes part of the run's key: one occasion never
    makes two runs. `intent` says what for: `train`, or `diagnose` for data that must not be trained on. A `patient` trigger
    wants a run of its own: when there cannot be one now, its cursor stays, and it fires again. `since` is when what it fires for
    began, where that can be known: time to detect is counted from there.
    """

    fired: bool
    why: str
    occasion: str = ""
    cursor: Mapping[str, Json] = field(default_factory=dict)
    intent: Intent = "train"
    patient: bool = False
    since: datetime | None = None


def fires(why: str, occasion: str, cursor: Mapping[str, Json]) -> Opinion:
    """Say yes, for an occasion."""
    return Opinion(fired=True, why=why, occasion=occasion, cursor=cursor)


def quiet(why: str, cursor: Mapping[str, Json]) -> Opinion:
    """Say no, and why."""
    return Opinion(fired=False, why=why, cursor=cursor)


class Trigger(Protocol):
    """One reason to run a pipeline again."""

    def judge(self, view: View) -> Opinion:
        """Say whether the reason is there now; pure, so that history can be replayed."""
        ...
