"""What a backtest writes down: its policies, what each decided, how good the models in production were, and what it cost.

As all records these only grow. Times are RFC 3339 in UTC. `engine backtest --json` prints a `BacktestReport`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from engine.loop_records import PolicyCheck, TriggerOpinion
from engine.records import SCHEMA_VERSION, GateStatus, Record, Verdict


class Estimate(Record, frozen=True, kw_only=True):
    """A value with its bootstrap interval; `None` where it is not defined."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


class BacktestDecision(Record, frozen=True, kw_only=True):
    """One evaluation of a policy's triggers, as `engine tick` would have made it: what it did, why, and what came of it.

    `trained` names the challenger by its moment; `promoted` says whether it went into production. `gates` are the gates that
    were replayed. Quiet evaluations have action `nothing`.
    """

    at: str
    action: str
    why: str
    opinions: tuple[TriggerOpinion, ...] = ()
    checks: tuple[PolicyCheck, ...] = ()
    trained: str | None = None
    verdict: Verdict | None = None
    promoted: bool = False
    gates: dict[str, GateStatus] = {}
    failed_gates: dict[str, str] = {}


class BacktestPeriod(Record, frozen=True, kw_only=True):
    """The rows of one period, scored by the model that a policy had in production: trained at `model`.

    `regret` is how much worse than retraining always it did on the very same rows; 0 when both had the same model.
    """

    start: str
    end: str
    rows: int
    model: str
    quality: Estimate
    regret: Estimate


class PolicyOutcome(Record, frozen=True, kw_only=True):
    """What one policy would have given: quality over all periods, regret against retraining always, retrainings, cost.

    `cpu_seconds` are those that its retrainings took when they were computed; `cpu_share` is relative to always. The first
    model, which every policy starts with, is not counted.
    """

    name: str
    triggers: dict[str, dict[str, Any]]
    quality: Estimate
    regret: Estimate
    retrainings: int
    promotions: int
    refused: int
    diagnoses: int
    rows_trained: int
    cpu_seconds: float
    cpu_share: float | None
    decisions: tuple[BacktestDecision, ...]
    periods: tuple[BacktestPeriod, ...]


class BacktestNodes(Record, frozen=True, kw_only=True):
    """How many nodes ran, and how many were taken from the cache."""

    ran: int
    cached: int
    failed: int = 0
    skipped: int = 0


class BacktestResult(Record, frozen=True, kw_only=True):
    """What a backtest found: the same bytes whenever it is run again on the same history.

    `recommended` is the cheapest policy whose regret cannot be told from none: its interval reaches to 0 or below.
    """

    schema_version: int = SCHEMA_VERSION
    pipeline: str
    start: str
    end: str
    every: str
    metric: str
    higher_is_better: bool
    level: float
    rows: int
    policies: tuple[PolicyOutcome, ...]
    recommended: str | None = None
    gates_replayed: tuple[str, ...] = ()
    gates_left_out: dict[str, str] = {}
    notes: tuple[str, ...] = ()


class BacktestReport(Record, frozen=True, kw_only=True):
    """What `engine backtest --json` prints: the result, and how this time of asking went."""

    schema_version: int = SCHEMA_VERSION
    status: str
    result: BacktestResult | None = None
    nodes: BacktestNodes
    seconds: float
    folder: str | None = None
    report: str | None = None
    error: str | None = None
    exit_code: int = 0


BACKTEST_RECORDS: tuple[type[msgspec.Struct], ...] = (BacktestReport, BacktestResult)
