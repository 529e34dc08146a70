"""What a sweep writes down: `runs/sweep-<n>/sweep.json`, which is also what `engine run -m --json` prints."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from engine.records import SCHEMA_VERSION, Record, TunedMetric

TrialState: TypeAlias = Literal["planned", "succeeded", "failed", "pruned", "interrupted"]


class TrialRecord(Record, frozen=True, kw_only=True):
    """One trial: what was swept (`params`), how it ended, and what it is ranked by.

    `shared` counts the nodes that another trial of the sweep computed for it. `rank` is 1 for the best; it is null for a
    trial without a value.
    """

    number: int
    run_id: str | None = None
    state: TrialState
    params: dict[str, Any] = {}
    overrides: tuple[str, ...] = ()
    pipeline: str = ""
    tuned: tuple[TunedMetric, ...] = ()
    intermediate: dict[int, float] = {}
    seconds: float = 0.0
    ran: int = 0
    shared: int = 0
    rank: int | None = None
    error: str | None = None
    exit_code: int = 0


class SweepRecord(Record, frozen=True, kw_only=True):
    """One sweep: its trials, best first, and what became of the best one."""

    schema_version: int = SCHEMA_VERSION
    sweep: int
    pipeline: str
    status: Literal["running", "finished", "stopped"]
    started_at: str
    finished_at: str | None = None
    seconds: float = 0.0
    command: tuple[str, ...] = ()
    objectives: tuple[str, ...] = ()
    study: str | None = None
    trials: tuple[TrialRecord, ...] = ()
    pareto: tuple[int, ...] = ()
    best: int | None = None
    best_run: str | None = None
    verdict: str | None = None
    model: str | None = None
    promoted: bool = False
    resumed: int = 0
    executed: int = 0
    distinct: int = 0
    exit_code: int = 0
    report: str | None = None
    folder: str = ""
    error: str | None = None
