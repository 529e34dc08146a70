"""What `engine data` and `engine gc` print with `--json`: additive only, as `records`, and published under `schemas/`.

Times are RFC 3339 in UTC, sizes are bytes, shares lie between 0 and 1.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

SCHEMA_VERSION = 1

ChangeKind: TypeAlias = Literal["added", "removed", "changed"]


class DataRecord(msgspec.Struct, frozen=True):
    """Base of these records. Unknown fields are ignored on reading."""


class SnapshotSource(DataRecord, frozen=True, kw_only=True):
    """One source as a commit holds it; `rows` and times come from its audit and may be unknown."""

    source: str
    commit: str
    objects: int
    bytes: int
    rows: int | None = None
    first: str | None = None
    last: str | None = None
    failed: tuple[str, ...] = ()
    released: str = ""


class SnapshotCommit(DataRecord, frozen=True, kw_only=True):
    """One commit, newest first in a log. `metadata` says who, what, from which declaration, in which run."""

    id: str
    parents: tuple[str, ...]
    at: str
    message: str
    tags: tuple[str, ...] = ()
    metadata: dict[str, str] = {}


class Quarantined(DataRecord, frozen=True, kw_only=True):
    """One quarantined branch. `block`: nothing of it was published; `quarantine`: the rows that passed were."""

    branch: str
    source: str
    severity: str
    at: str
    run_id: str
    actor: str
    rows: int
    set_aside: int
    failed: tuple[str, ...]
    findings: tuple[dict[str, Any], ...] = ()


class ObjectDiff(DataRecord, frozen=True, kw_only=True):
    """One object that differs; sizes are null where it is absent."""

    path: str
    kind: ChangeKind
    before: int | None = None
    after: int | None = None


class ColumnDiff(DataRecord, frozen=True, kw_only=True):
    """One column of a source, before and after. `psi` and `ks` are null where the two cannot be compared.

    `shares_before` and `shares_after` are shares of rows on the same `bins`, frozen with the earlier commit.
    """

    column: str
    kind: Literal["added", "removed", "retyped", "kept"]
    type_before: str | None = None
    type_after: str | None = None
    nulls_before: float | None = None
    nulls_after: float | None = None
    mean_before: float | None = None
    mean_after: float | None = None
    psi: float | None = None
    ks: float | None = None
    moved: bool = False
    bins: tuple[str, ...] = ()
    shares_before: tuple[float, ...] = ()
    shares_after: tuple[float, ...] = ()


class RowSample(DataRecord, frozen=True, kw_only=True):
    """One row that differs: its values as text, and for a changed one those before."""

    kind: ChangeKind
    after: dict[str, str | None] = {}
    before: dict[str, str | None] = {}


class SourceDiff(DataRecord, frozen=True, kw_only=True):
    """One source that differs. Rows are matched by `key`; without one, a changed row counts as removed and added."""

    source: str
    rows_before: int
    rows_after: int
    rows_added: int
    rows_removed: int
    rows_changed: int
    key: tuple[str, ...] = ()
    objects: tuple[ObjectDiff, ...] = ()
    columns: tuple[ColumnDiff, ...] = ()
    samples: tuple[RowSample, ...] = ()


class SnapshotDiff(DataRecord, frozen=True, kw_only=True):
    """What differs between two commits of a repository."""

    schema_version: int = SCHEMA_VERSION
    repository: str
    before: str
    after: str
    sources: tuple[SourceDiff, ...]


class ColumnProfile(DataRecord, frozen=True, kw_only=True):
    """One column in numbers. `quantiles` by share, as in `0.5`; `top` are the most frequent values as text, with counts.

    `minimum`, `maximum` and quantiles are numbers, or times as text; `not_finite` counts NaN and infinities.
    """

    column: str
    type: str
    nulls: int
    distinct: int
    not_finite: int = 0
    minimum: Any = None
    maximum: Any = None
    mean: float | None = None
    std: float | None = None
    quantiles: dict[str, Any] = {}
    top: tuple[tuple[str, int], ...] = ()
    lengths: tuple[int, int] | None = None
    shape: str | None = None
    increasing: bool = False
    bins: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()


class TableProfile(DataRecord, frozen=True, kw_only=True):
    """A source or file in numbers."""

    schema_version: int = SCHEMA_VERSION
    name: str
    rows: int
    columns: tuple[ColumnProfile, ...]
    at: str


class Validation(DataRecord, frozen=True, kw_only=True):
    """What the audit of a source found, without anything having been published."""

    schema_version: int = SCHEMA_VERSION
    source: str
    rows: int
    set_aside: int
    ok: bool
    findings: tuple[dict[str, Any], ...]


class Garbage(DataRecord, frozen=True, kw_only=True):
    """One thing that nothing needs: an artefact, the object of a repository, an old log; `idle_seconds` since its last use."""

    store: Literal["artefacts", "snapshots", "logs"]
    name: str
    bytes: int
    idle_seconds: float
    repository: str | None = None


class GarbageReport(DataRecord, frozen=True, kw_only=True):
    """What a collection found, and deleted unless it was a dry run. `kept` says how much each reason pins, in things."""

    schema_version: int = SCHEMA_VERSION
    dry_run: bool
    found: int
    bytes: int
    deleted: int
    kept: dict[str, int]
    garbage: tuple[Garbage, ...]
