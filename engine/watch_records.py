"""What monitors write down: readings, alerts, the answer of `engine monitor --json`. Additive only, as `records`.

Times are RFC 3339 in UTC, shares lie between 0 and 1. Stored in the state database, and published under `schemas/`.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

SCHEMA_VERSION = 1

ReadingStatus: TypeAlias = Literal["ok", "alarm", "insufficient_data", "broken"]
AlertState: TypeAlias = Literal["open", "acknowledged", "resolved"]
Severity: TypeAlias = Literal["info", "warning", "critical"]


class WatchRecord(msgspec.Struct, frozen=True):
    """Base of these records. Unknown fields are ignored on reading."""


class Finding(WatchRecord, frozen=True, kw_only=True):
    """One thing that a monitor looked at: a column, a metric, a pair of columns.

    `adjusted` is its evidence after correction (at most the level means evidence), `effect` its size, `component` what about
    it changed. `explains` is the share of the score's movement that the column's change accounts for, by itself.
    """

    name: str
    status: ReadingStatus
    adjusted: float | None = None
    effect: float | None = None
    component: str = ""
    words: str = ""
    before: float | None = None
    now: float | None = None
    explains: float | None = None
    window: int | None = None
    distances: dict[str, float] = {}
    details: dict[str, Any] = {}


class Reading(WatchRecord, frozen=True, kw_only=True):
    """What one monitor said of one chunk, or of a slice of it; `findings` the most telling first.

    `value` is the headline number with its interval, `expected` what it was in the reference. `coverage` is the share of
    rows that had a label; a reading is restated when more labels are known, and `revision` counts that.
    """

    schema_version: int = SCHEMA_VERSION
    pipeline: str
    monitor: str
    kind: str
    chunk: str
    start: str
    end: str
    rows: int
    status: ReadingStatus
    severity: Severity = "warning"
    slice: str = ""
    model: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    expected: float | None = None
    coverage: float | None = None
    words: str = ""
    findings: tuple[Finding, ...] = ()
    details: dict[str, Any] = {}
    at: str = ""
    revision: int = 0


class Alert(WatchRecord, frozen=True, kw_only=True):
    """An incident: everything that one monitor says of one slice until it is quiet again.

    `causes` are ranked over all monitors of the chunk; `runbook` is generated with this incident's evidence; `command`
    reproduces the reading.
    """

    schema_version: int = SCHEMA_VERSION
    id: str
    pipeline: str
    monitor: str
    slice: str = ""
    state: AlertState
    severity: Severity
    title: str
    since: str
    last_chunk: str
    chunks: int = 1
    causes: tuple[Finding, ...] = ()
    owner: str = ""
    runbook: str = ""
    command: str = ""
    opened_at: str = ""
    changed_at: str = ""
    actor: str = ""
    reason: str = ""


class Delivery(WatchRecord, frozen=True, kw_only=True):
    """One message to one notifier: delivered, or to be tried again."""

    alert: str
    event: str
    notifier: str
    state: Literal["waiting", "delivered"]
    attempts: int = 0
    error: str = ""


class MonitorReport(WatchRecord, frozen=True, kw_only=True):
    """What `engine monitor --json` prints: the readings of this run, and the alerts that are not resolved."""

    schema_version: int = SCHEMA_VERSION
    pipeline: str
    model: str
    at: str
    status: ReadingStatus
    chunks: int
    readings: tuple[Reading, ...]
    alerts: tuple[Alert, ...] = ()
    undelivered: int = 0
    report: str | None = None
    exit_code: int = 0
