"""What the closed loop writes down: the state of a pipeline's triggers, requests for runs, and the ledger of decisions.

As all records these only grow. Times are RFC 3339 in UTC. `engine tick` and `engine triggers` print them with `--json`.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from engine.records import SCHEMA_VERSION, Digest, Record

LoopAction: TypeAlias = Literal[
    "launch", "replace", "wait", "drop", "nothing", "observe", "diagnose", "rollback", "pause", "resume", "reset", "fire",
    "finish",
]  # fmt: skip
RequestState: TypeAlias = Literal["pending", "running", "done", "failed", "cancelled"]


class WaitingReasons(Record, frozen=True, kw_only=True):
    """Reasons that wait for their run: why by trigger, the occasions, and since when the first of them waits."""

    since: str
    intent: Literal["train", "diagnose"]
    reasons: dict[str, str]
    occasions: dict[str, str]


class PolicyCheck(Record, frozen=True, kw_only=True):
    """One check of the policy: whether it lets a run pass, and why."""

    name: str
    passed: bool
    why: str


class TriggerOpinion(Record, frozen=True, kw_only=True):
    """What one trigger said: whether it fired, and why or why not; `since` is when what it fired for began, if it knows."""

    trigger: str
    fired: bool
    why: str
    since: str | None = None


class LoopDecision(Record, frozen=True, kw_only=True):
    """One evaluation of a pipeline's triggers. `quiet` counts the evaluations since the row before that decided nothing.

    `request` is the key of the run that was asked for; `since` is when what it is about began, where that is known.
    """

    pipeline: str
    at: str
    action: LoopAction
    why: str
    opinions: tuple[TriggerOpinion, ...] = ()
    checks: tuple[PolicyCheck, ...] = ()
    request: str | None = None
    actor: str = ""
    quiet: int = 0
    since: str | None = None


class LoopEntry(Record, frozen=True, kw_only=True):
    """A row of the ledger of decisions; `digest` chains over the row before it, pipeline by pipeline."""

    pipeline: str
    sequence: int
    decision: LoopDecision
    previous: Digest
    digest: Digest


class TriggerMemory(Record, frozen=True, kw_only=True):
    """What is remembered of a pipeline: each trigger's cursor, what waits, why it is paused, and counts for the ledger.

    `version` rises with each change; who changes it names the version that it read. `observed` identifies the data, code and
    configuration that were looked at last (`subject`), and what was diagnosed. `forgiven_at` is when a person last reset what
    failures and rejections had led to.
    """

    schema_version: int = SCHEMA_VERSION
    pipeline: str
    version: int = 0
    forgiven_at: str | None = None
    cursors: dict[str, dict[str, Any]] = {}
    waiting: WaitingReasons | None = None
    paused: str | None = None
    paused_triggers: dict[str, str] = {}
    observed: dict[str, str] = {}
    observed_at: str | None = None
    last_action: str = ""
    quiet: int = 0


class RunRequest(Record, frozen=True, kw_only=True):
    """A run that was asked for: by which reasons, who does it, and what came of it.

    `token` is the fence: it rises with each claim, and only its holder may finish. `lease_until` is when others may claim.
    `subject` identifies the data, code and configuration that it ran with, `content` what each source held, `labels` how many
    rows had a usable label; `quarantined` are sources whose new data did not pass; `notes` is what watching them gave.
    """

    schema_version: int = SCHEMA_VERSION
    key: str
    pipeline: str
    kind: Literal["train", "diagnose", "observe"]
    reasons: dict[str, str]
    overrides: tuple[str, ...] = ()
    created_at: str
    as_of: str | None = None
    state: RequestState = "pending"
    token: int = 0
    lease_until: str | None = None
    owner: str | None = None
    run_id: str | None = None
    verdict: str | None = None
    exit_code: int | None = None
    error: str | None = None
    quarantined: tuple[str, ...] = ()
    content: dict[str, str] = {}
    labels: int | None = None
    notes: tuple[str, ...] = ()
    subject: str = ""
    cpu_seconds: float = 0.0
    ended_at: str | None = None


class TickedPipeline(Record, frozen=True, kw_only=True):
    """What one tick did about one pipeline; `error` is in words, and the others still tick."""

    pipeline: str
    action: str
    why: str
    opinions: tuple[TriggerOpinion, ...] = ()
    checks: tuple[PolicyCheck, ...] = ()
    request: str | None = None
    error: str | None = None
    exit_code: int = 0


class TickReport(Record, frozen=True, kw_only=True):
    """What `engine tick --json` prints. `adopted` are requests that a dead process had left."""

    schema_version: int = SCHEMA_VERSION
    at: str
    dry_run: bool
    pipelines: tuple[TickedPipeline, ...]
    launched: tuple[str, ...] = ()
    adopted: tuple[str, ...] = ()
    seconds: float = 0.0


class TriggerState(Record, frozen=True, kw_only=True):
    """What `engine triggers ls --json` prints for one trigger."""

    pipeline: str
    trigger: str
    kind: str
    paused: str | None = None
    fired: bool | None = None
    why: str = ""
    next: str | None = None
    cursor: dict[str, Any] = {}


class Incident(Record, frozen=True, kw_only=True):
    """Something that was wrong: `what` is the trigger that found it, `quarantine` (of data) or `promotion` (a bad one).

    `by` says what ended it; both are absent while it goes on.
    """

    what: str
    detected: str
    why: str
    began: str | None = None
    recovered: str | None = None
    by: str | None = None
    seconds_to_detect: float | None = None
    seconds_to_recover: float | None = None


class LoopSummary(Record, frozen=True, kw_only=True):
    """What `engine triggers report --json` prints: what the loop did about a pipeline, and how long it took to find and mend."""

    schema_version: int = SCHEMA_VERSION
    pipeline: str
    since: str | None
    until: str | None
    trainings: int
    refused: int
    promotions: int
    rollbacks: int
    quarantines: int
    incidents: tuple[Incident, ...] = ()
    median_seconds_to_detect: float | None = None
    median_seconds_to_recover: float | None = None


LOOP_RECORDS: tuple[type[msgspec.Struct], ...] = (LoopEntry, LoopSummary, RunRequest, TickReport, TriggerState)
