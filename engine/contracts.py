"""The Protocols that components and stores fulfil, and the small values that pass between them; models' are in `modelling`.

Nodes pass paths and digests, never frames. Heavy types (polars, numpy) appear in annotations only: importing this module
costs nothing.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from engine.keys import Json
from engine.modelling import (
    UNMEASURED,
    Explainer,
    FitRequest,
    Matrix,
    Measured,
    PartedRows,
    PartedTrainer,
    Predictor,
    Progress,
    Splitter,
    Target,
    Trainer,
    is_told,
)
from engine.records import Event, GateResult, NodeOutput, RunRecord
from engine.snapshotting import Change, Commit, ObjectStat, Scan, SnapshotStore

if TYPE_CHECKING:
    import numpy as np
    import polars as pl


def _unheard(message: str, rows: int | None, done: float | None) -> None:
    """Nobody listens."""


# --- sources -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pin:
    """What a source will read, found without reading it: `identity` changes exactly when the bytes would.

    `identity: None` means that it cannot be known beforehand; the ingest is then not cached, and the plan says so.
    """

    identity: Json
    summary: str


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading of a source: what was pinned, which columns (name -> column type of the spec), and who hears of progress."""

    root: Path
    pin: Pin
    columns: Mapping[str, str]
    progress: Progress = _unheard


class Source(Protocol):
    """Where raw rows come from. Paths in parameters are relative to the project root."""

    def pin(self, root: Path) -> Pin:
        """Identify what would be read, in milliseconds; raises `DataError` (missing, unreadable) or `UnavailableError`."""
        ...

    def read(self, reading: Reading) -> Iterator[pl.DataFrame]:
        """Yield raw rows in the source's own order, at least the declared columns, and exactly what was pinned.

        Text may be left to the ingest node to cast. Rows are counted by the caller; a source that knows bytes or its
        share says so by `reading.progress`. Raises `DataError` naming source, object, row or column, and
        `UnavailableError` for a server that is not there, after a bounded number of tries.
        """
        ...


@runtime_checkable
class PartedSource(Source, Protocol):
    """A source whose parts can be read one by one, such as files: what `incremental:` needs."""

    def parts(self, pin: Pin) -> Mapping[str, Json]:
        """Name the pin's parts in reading order, each with an identity that changes exactly when its bytes do."""
        ...

    def read_parts(self, reading: Reading, wanted: Collection[str]) -> Iterator[tuple[str, pl.DataFrame]]:
        """As `read`, the wanted parts only: each frame with the name of its part, in reading order."""
        ...


# --- gates -------------------------------------------------------------------------------------------------------

_NO_TARGET = Target("")


@dataclass(frozen=True, slots=True)
class Scores:
    """Predictions of one model on the test rows, the same rows in the same order for every model.

    `y` is (n,) as in `Matrix`, `prediction` as a `Predictor` gives it: (n,) or (n, k). `group` (n,) names each row's query in
    a ranking; `quantiles` are the levels of the columns of a quantile prediction.
    """

    y: np.ndarray
    prediction: np.ndarray
    cluster: np.ndarray | None = None
    group: np.ndarray | None = None
    quantiles: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Evidence:
    """What gates decide on. `champion` is absent when no model holds the alias; `refusals` say why it could not be scored.

    `probes` answer what gates demanded, by probe and gate (`engine.spec.probes`); `columns` (n,) are of the test rows.
    `refused` says why the challenger's scores do not count, such as rows that it was trained on.
    `target.outputs` name the columns of predictions that are (n, k).
    """

    task: str
    challenger: Scores
    baseline: Scores | None
    champion: Scores | None
    champion_name: str | None
    slices: Mapping[str, Mapping[str, np.ndarray]]
    validation: Mapping[str, Mapping[str, Json]]
    metrics: Mapping[str, Json]
    seed: int
    refusals: tuple[str, ...] = ()
    probes: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    refused: str = ""
    target: Target = _NO_TARGET


class Gate(Protocol):
    """One blocking verdict. Missing data is inconclusive; zero matching rows fail; never a silent pass."""

    def decide(self, name: str, evidence: Evidence) -> GateResult:
        """Judge; raises nothing for bad numbers, which are a verdict."""
        ...


# --- trackers ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MirroredRun:
    """What a tracker is told of a run: its record, parameters by path, numbers, tags, journal, files; no secret is in it.

    `edges` maps a node to those that it needs, `package` is the folder of the registered model, `alias` what a promotion moves.
    """

    record: RunRecord
    project: str
    root: Path
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    events: tuple[Event, ...]
    edges: Mapping[str, tuple[str, ...]]
    files: tuple[Path, ...]
    package: Path | None
    alias: str

    @staticmethod
    def milliseconds(at: str | None) -> int | None:
        """Give a moment (RFC 3339) in milliseconds since 1970.

        >>> MirroredRun.milliseconds("1970-01-01T00:00:01.500Z")
        1500
        """
        return None if at is None else round(datetime.fromisoformat(at).timestamp() * 1000)


class Tracker(Protocol):
    """Somebody who keeps a copy of runs. It owns nothing: what it does not take is sent again later."""

    def mirror(self, run: MirroredRun) -> str:
        """Tell of a run, new or again (the same run twice is one there); gives its id. Raises `UnavailableError`."""
        ...


# --- nodes -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Artefact:
    """An input of a node: a verified directory of files, its content digest, and notes such as a commit id."""

    path: Path
    digest: str
    notes: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node's body may look: everything that is not part of its key. `cluster` is a Dask scheduler's address, if any."""

    root: Path
    snapshots: str
    artefacts: str
    plugins: tuple[str, ...]
    threads: int
    run_id: str
    cluster: str | None = None


class Parts(Protocol):
    """Where a body has its parts run: other processes of this machine, the workers of a Dask scheduler, or here in turn."""

    @property
    def beside(self) -> int:
        """How many parts run side by side on one machine, and so share its memory."""
        ...

    def run(self, work: Work, body: str, settings: Sequence[Mapping[str, Json]]) -> list[Mapping[str, Json]]:
        """Run `body` ("module:function") once for each of the settings, in any order and place; gives the notes in their order.

        A part is a body without inputs; it reads and writes files that the settings name, on the store's file system, and
        may be run twice, so what it writes is a function of its settings, and appears under its name at once. What a part
        raises ends the node.
        """
        ...


@dataclass(frozen=True, slots=True)
class InTurn:
    """Parts one after the other, in this process."""

    beside: int = 1

    def run(self, work: Work, body: str, settings: Sequence[Mapping[str, Json]]) -> list[Mapping[str, Json]]:
        """See `Parts`."""
        function = load_body(body)
        return [dict(function(replace(work, settings=part, inputs={}, progress=_unheard))) for part in settings]


IN_TURN = InTurn()


@dataclass(frozen=True, slots=True)
class Work:
    """One call of a node's body: read `inputs`, write files into `out` (an empty directory), report progress."""

    node: str
    settings: Mapping[str, Json]
    inputs: Mapping[str, Artefact]
    out: Path
    place: Place
    progress: Progress
    measured: Measured = UNMEASURED
    parts: Parts = IN_TURN


Body = Callable[[Work], Mapping[str, Json]]
"""A node's body: writes its files under `work.out` and returns its notes. Deterministic in `settings` and `inputs`."""


def load_body(body: str) -> Body:
    """Give the function that "module:function" names."""
    module, _, function = body.partition(":")
    found: Body = getattr(importlib.import_module(module), function)
    return found


# --- stores ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Miss:
    """Why an action that was done before has no usable result any more."""

    reason: str
    damaged: bool


class ArtefactStore(Protocol):
    """Content-addressed directories, and the actions that made them. Safe for several processes at once."""

    def stage(self) -> Path:
        """Give a fresh empty directory on the store's file system to write into."""
        ...

    def commit(self, staged: Path) -> str:
        """Fsync, digest and move a staged directory into place (atomic, idempotent); returns the content digest."""
        ...

    def discard(self, staged: Path) -> None:
        """Give a staged directory up, with the scratch space beside it; nothing happens when they are gone."""
        ...

    def open(self, digest: str) -> Path:
        """Give a verified directory; raises `IntegrityError` (after setting the corrupt copy aside) or `NotFoundError`."""
        ...

    def read(self, digest: str, name: str) -> bytes:
        """Give one verified file of it, without looking at the others; raises as `open`, also when there is no such file."""
        ...

    def exists(self, digest: str) -> bool:
        """Say in under a millisecond whether the artefact is there with every file at its recorded size."""
        ...

    def record_action(self, key: str, output: NodeOutput) -> None:
        """Remember atomically and durably that this action gave this output."""
        ...

    def find_action(self, key: str) -> NodeOutput | None:
        """Look an action up; `None` when unknown or when its artefact is gone or damaged in size."""
        ...

    def explain_miss(self, key: str) -> Miss | None:
        """Say what became of an action's result after `find_action` gave `None`; `None` when it was never done."""
        ...


__all__ = [
    "IN_TURN",
    "UNMEASURED",
    "Artefact",
    "ArtefactStore",
    "Body",
    "Change",
    "Commit",
    "Evidence",
    "Explainer",
    "FitRequest",
    "Gate",
    "Matrix",
    "Measured",
    "Miss",
    "ObjectStat",
    "PartedRows",
    "PartedSource",
    "PartedTrainer",
    "Parts",
    "Pin",
    "Place",
    "Predictor",
    "Progress",
    "Reading",
    "Scan",
    "Scores",
    "SnapshotStore",
    "Source",
    "Splitter",
    "Target",
    "Trainer",
    "Work",
    "is_told",
    "load_body",
]
