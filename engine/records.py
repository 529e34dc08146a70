"""What the engine writes down: run records, node results, evidence, the answer of `engine run --json`.

These schemas are upstream of everything and only grow: a field is added with a default, never renamed or removed; a
breaking change gets a new `schema_version` and a reader for the old one. JSON Schemas are published under `schemas/`.
Times are RFC 3339 in UTC, durations are seconds, sizes are bytes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec

SCHEMA_VERSION = 1

NodeState: TypeAlias = Literal["pending", "running", "ran", "cached", "failed", "skipped", "cancelled"]
RunStatus: TypeAlias = Literal["running", "succeeded", "failed", "interrupted", "pruned"]
Verdict: TypeAlias = Literal["promote", "reject", "inconclusive"]
GateStatus: TypeAlias = Literal["pass", "fail", "inconclusive"]
Digest: TypeAlias = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$", description="SHA-256 in hexadecimal")]


class Record(msgspec.Struct, frozen=True):
    """Base of all records. Unknown fields are ignored on reading, so an older engine reads a newer file."""


class Metric(Record, frozen=True, kw_only=True):
    """A point value with its bootstrap interval at `level`; `n` rows. `value: null` when it is not defined."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    level: float | None = None
    n: int = 0
    higher_is_better: bool = True


class NodeOutput(Record, frozen=True, kw_only=True):
    """What a node left: the digest of its content, and notes that are not part of that identity (commit ids, rows)."""

    digest: Digest
    notes: dict[str, Any] = {}


class NodeResult(Record, frozen=True, kw_only=True):
    """How one node ended. `reason` says why it ran or was not cached; `error` is what a person reads."""

    name: str
    kind: str
    state: NodeState
    key: Digest | None = None
    output: NodeOutput | None = None
    reason: str = ""
    seconds: float = 0.0
    started_at: str | None = None
    peak_bytes: int | None = None
    attempts: int = 0
    worker: str | None = None
    error: str | None = None
    exit_code: int = 0


class GateResult(Record, frozen=True, kw_only=True):
    """One gate's verdict with its evidence; `observed` and `required` are for people, `evidence` for machines."""

    name: str
    kind: str
    status: GateStatus
    severity: Literal["block", "warn"] = "block"
    observed: str = ""
    required: str = ""
    reason: str = ""
    evidence: dict[str, Any] = {}


class TunedMetric(Record, frozen=True, kw_only=True):
    """What a trial of a sweep is ranked by: a metric of the validation rows, with the proof that no gate sees them.

    `rows_digest` is that of the ids of the measured rows, `judged_digest` that of the rows that gates judge; `shared_rows`
    counts the rows that are in both, and is 0.
    """

    name: str
    value: float | None
    higher_is_better: bool = True
    part: str = "validation"
    rows: int = 0
    rows_digest: Digest | None = None
    judged_rows: int = 0
    judged_digest: Digest | None = None
    shared_rows: int = 0


class SnapshotPin(Record, frozen=True, kw_only=True):
    """The data one source gave this run: where it lies and what it is; `quarantine` is the branch with rows `set_aside`."""

    source: str
    repository: str
    commit: str
    digest: Digest
    rows: int | None = None
    quarantine: str | None = None
    set_aside: int = 0


class ConfigValue(Record, frozen=True, kw_only=True):
    """One leaf of the composed config, with where it came from: `file:line:col`, or the override."""

    path: str
    value: Any
    origin: str


class GitState(Record, frozen=True, kw_only=True):
    """The project's own version; all null outside a git work tree."""

    commit: str | None = None
    branch: str | None = None
    dirty: bool | None = None


class Environment(Record, frozen=True, kw_only=True):
    """What computed: interpreter, platform, and every installed distribution with its version."""

    python: str
    platform: str
    engine: str
    packages: dict[str, str]
    cpu_count: int
    digest: Digest


class NodeCounts(Record, frozen=True, kw_only=True):
    """How many nodes ended how."""

    ran: int = 0
    cached: int = 0
    failed: int = 0
    skipped: int = 0


class RunRecord(Record, frozen=True, kw_only=True):
    """`runs/<id>/run.json`: one execution of a plan, complete enough to be repeated and compared."""

    schema_version: int = SCHEMA_VERSION
    run_id: str
    pipeline: str
    status: RunStatus
    verdict: Verdict | None = None
    started_at: str
    finished_at: str | None = None
    seconds: float = 0.0
    command: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    config_digest: Digest
    plan_digest: Digest
    seeds: dict[str, int] = {}
    snapshots: tuple[SnapshotPin, ...] = ()
    nodes: tuple[NodeResult, ...] = ()
    metrics: tuple[Metric, ...] = ()
    baseline_metrics: tuple[Metric, ...] = ()
    gates: tuple[GateResult, ...] = ()
    model: str | None = None
    model_digest: Digest | None = None
    promoted: bool = False
    git: GitState = GitState()
    environment: Environment | None = None
    peak_bytes: int | None = None
    error: str | None = None
    exit_code: int = 0
    report: str | None = None
    sample: str | None = None
    sweep: int | None = None
    trial: int | None = None
    tuned: tuple[TunedMetric, ...] = ()


class RunAnswer(Record, frozen=True, kw_only=True):
    """The one object that `engine run --json` prints. `metrics` maps a name to its test-period point value."""

    schema_version: int = SCHEMA_VERSION
    run_id: str
    pipeline: str
    status: RunStatus
    verdict: Verdict | None
    model: str | None
    promoted: bool
    metrics: dict[str, float | None]
    intervals: dict[str, tuple[float | None, float | None]] = {}
    nodes: NodeCounts
    seconds: float
    report: str | None
    run_dir: str
    exit_code: int
    error: str | None = None


class Event(Record, frozen=True, kw_only=True):
    """One line of `events.jsonl` and of `--ndjson`: a node changed state, progressed, measured itself, or logged.

    `result` is there when a node has ended; `step` and `value` are an intermediate metric (lower is better).
    """

    at: str
    run_id: str
    event: Literal["run", "node", "progress", "metric", "trial", "log"]
    node: str | None = None
    state: str | None = None
    message: str = ""
    level: Literal["debug", "info", "warning", "error"] = "info"
    rows: int | None = None
    done: float | None = None
    seconds: float | None = None
    step: int | None = None
    value: float | None = None
    result: NodeResult | None = None


class FeatureComparison(Record, frozen=True, kw_only=True):
    """One feature of a case: what was expected, what came out (moments as RFC 3339), and whether they are equal."""

    feature: str
    expected: bool | int | float | str | None
    actual: bool | int | float | str | None
    equal: bool


class FeatureCaseResult(Record, frozen=True, kw_only=True):
    """One case of a pipeline's `tests`."""

    name: str
    passed: bool
    compared: tuple[FeatureComparison, ...]


class FeatureTestReport(Record, frozen=True, kw_only=True):
    """What `engine features test --json` prints; `ok` means that no case failed."""

    schema_version: int = SCHEMA_VERSION
    pipeline: str
    ok: bool
    cases: tuple[FeatureCaseResult, ...]


class FeatureProfile(Record, frozen=True, kw_only=True):
    """What a feature was in a run's training rows: nulls, and counts on quantile edges, `counts[i]` in `(edges[i-1], edges[i]]`."""

    run_id: str
    rows: int
    nulls: int
    null_rate: float | None
    edges: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()


class FeatureCost(Record, frozen=True, kw_only=True):
    """What computing a feature, with all that it reads, took: for `rows` at once, and for one row (the median of some)."""

    rows: int
    history_rows: int
    seconds: float
    peak_bytes: int
    one_row_seconds: float


class FeatureExplanation(Record, frozen=True, kw_only=True):
    """What `engine features explain --json` prints: a feature's definition, its lineage, its users, its figures.

    `pii` says whether it is tagged as personal data or derived from such; `used_by` are paths of the pipeline that name it,
    `models` the registered ones whose program has it. A figure that there is none of is null, and `notes` say why.
    """

    schema_version: int = SCHEMA_VERSION
    name: str
    kind: str
    type: str
    words: str
    declared: str
    source: str | None
    sources: tuple[str, ...]
    columns: tuple[str, ...]
    key: tuple[str, ...]
    window: str | None
    owner: str
    doc: str
    tags: tuple[str, ...]
    pii: str | None
    reads: tuple[str, ...]
    upstream: tuple[str, ...]
    downstream: tuple[str, ...]
    used_by: tuple[str, ...]
    tests: tuple[str, ...]
    models: tuple[str, ...]
    profile: FeatureProfile | None = None
    cost: FeatureCost | None = None
    notes: tuple[str, ...] = ()


class ModelVersion(Record, frozen=True, kw_only=True):
    """A registered model package. `name` and `version` identify it to people, `digest` to machines.

    `model_digest` is the output of its training, `content_digest` its package before the run's provenance was added,
    `compared_with` the package of the champion that it was judged against (null: there was none).
    """

    name: str
    version: int
    digest: Digest
    run_id: str
    pipeline: str
    created_at: str
    metrics: dict[str, float | None] = {}
    verdict: Verdict | None = None
    model_digest: Digest | None = None
    content_digest: Digest | None = None
    compared_with: Digest | None = None


class LedgerEntry(Record, frozen=True, kw_only=True):
    """One row of the append-only history of an alias; `digest` chains over the row before it."""

    sequence: int
    at: str
    model: str
    alias: str
    action: Literal["register", "promote", "rollback", "reject", "rollout"]
    from_version: int | None
    to_version: int | None
    actor: str
    reason: str
    run_id: str | None
    evidence: dict[str, Any]
    previous: Digest
    digest: Digest


class PredictAnswer(Record, frozen=True, kw_only=True):
    """What `engine predict --json` prints; `without_score` rows had no finite one."""

    model: str
    rows: int
    without_score: int
    program: Digest
    output: str
    seconds: float


class ServeStart(Record, frozen=True, kw_only=True):
    """The line that `engine serve --json` prints once it answers; `predictions` is the folder of the log."""

    url: str
    model: str
    program: Digest
    pid: int
    workers: int
    predictions: str


class FeedbackAnswer(Record, frozen=True, kw_only=True):
    """What `engine feedback add --json` prints."""

    model: str
    accepted: int


class ArmOutcome(Record, frozen=True, kw_only=True):
    """How the answers of one version in one arm turned out: `engine feedback show --json` prints a list of these."""

    version: int
    arm: str
    answers: int
    labelled: int
    revised: int
    mean_score: float | None
    mean_label: float | None


class RolloutState(Record, frozen=True, kw_only=True):
    """A rollout as its last ledger row leaves it; `since` is when it was written, `evidence` on what.

    `status`: running, paused (by a person), held (something is amiss, or a person promotes), promoted, rolled_back, aborted.
    """

    model: str
    alias: str
    champion: int
    challenger: int
    status: str
    step: int
    share: float
    since: str
    salt: str
    spec: dict[str, Any]
    reason: str
    sequence: int
    evidence: dict[str, Any] = {}
