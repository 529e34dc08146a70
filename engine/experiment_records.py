"""What `engine runs diff`, `compare` and `reproduce` print as JSON."""

from __future__ import annotations

from typing import Any, Literal

from engine.records import SCHEMA_VERSION, Record


class Side(Record, frozen=True, kw_only=True):
    """One of two runs. `folder_gone`: its folder was deleted, and only what the index knows was compared."""

    run_id: str
    pipeline: str
    status: str
    started_at: str
    overrides: tuple[str, ...] = ()
    folder_gone: bool = False


class ValueChange(Record, frozen=True, kw_only=True):
    """One thing that differs: a config path, a package, a gate, a node; `null` where a side has none."""

    name: str
    left: Any = None
    right: Any = None


class DataChange(Record, frozen=True, kw_only=True):
    """One source: commits may differ while the content is the same."""

    source: str
    same_content: bool
    left_commit: str | None = None
    right_commit: str | None = None
    left_digest: str | None = None
    right_digest: str | None = None
    left_rows: int | None = None
    right_rows: int | None = None


class MetricChange(Record, frozen=True, kw_only=True):
    """One metric of both runs; `difference` is right minus left, with an interval when both scored the same rows."""

    name: str
    part: Literal["test", "validation"] = "test"
    left: float | None = None
    right: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    paired: bool = False
    better: str | None = None
    reason: str = ""


class NodeChange(Record, frozen=True, kw_only=True):
    """One node: whether what it left is the same, and how long it took on each side."""

    name: str
    same_output: bool | None = None
    left_state: str | None = None
    right_state: str | None = None
    left_seconds: float | None = None
    right_seconds: float | None = None
    left_digest: str | None = None
    right_digest: str | None = None


class RunDiff(Record, frozen=True, kw_only=True):
    """What differs between two runs; `identical` when no node's output, value, package or metric does."""

    schema_version: int = SCHEMA_VERSION
    left: Side
    right: Side
    identical: bool = False
    config: tuple[ValueChange, ...] = ()
    data: tuple[DataChange, ...] = ()
    features: tuple[ValueChange, ...] = ()
    code: tuple[ValueChange, ...] = ()
    environment: tuple[ValueChange, ...] = ()
    metrics: tuple[MetricChange, ...] = ()
    verdict: ValueChange | None = None
    gates: tuple[ValueChange, ...] = ()
    nodes: tuple[NodeChange, ...] = ()
    notes: tuple[str, ...] = ()


class NodeMatch(Record, frozen=True, kw_only=True):
    """One node of a run that was done again."""

    name: str
    recorded: str | None
    again: str | None
    same: bool
    reason: str = ""


class Reproduction(Record, frozen=True, kw_only=True):
    """What `engine runs reproduce --json` prints: identical, or the first node that differs and why."""

    schema_version: int = SCHEMA_VERSION
    run_id: str
    pipeline: str
    identical: bool
    nodes: tuple[NodeMatch, ...] = ()
    first_difference: str | None = None
    reasons: tuple[str, ...] = ()
    environment: tuple[ValueChange, ...] = ()
    seconds: float = 0.0
    threads: int | None = None
    workspace: str = ""
    exit_code: int = 0
    at: str = ""
