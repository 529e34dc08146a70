"""What commands about models print: production at a time, listings with reviews, verification, exports.

As in `records`: these only grow.
"""

from __future__ import annotations

from typing import Any, Literal

from engine.records import SCHEMA_VERSION, Digest, ModelVersion, Record


class CardFacts(Record, frozen=True, kw_only=True):
    """`card.json`: what the model card says, for machines. `review_by` is a date; `weak_slices` the worst first."""

    owner: str = ""
    intended_use: str = ""
    limitations: str = ""
    review_by: str | None = None
    weak_slices: tuple[str, ...] = ()


class Review(Record, frozen=True, kw_only=True):
    """Whether a version's review is due: `overdue_days` since the date on its card, if that has passed."""

    model: str
    version: int
    owner: str = ""
    review_by: str | None = None
    overdue_days: int | None = None


class ListedModel(Record, frozen=True, kw_only=True):
    """One version in `engine models list --json`. `bad` says why it was rolled back from, if it was."""

    version: ModelVersion
    aliases: tuple[str, ...] = ()
    review: Review | None = None
    bad: str = ""


class Tenure(Record, frozen=True, kw_only=True):
    """A version while it held an alias: from when to when (null: still), who put it there, why, and what it was.

    `git`, `snapshots`, `gates` and `owner` come from its package; without a readable one `missing` says so.
    """

    model: str
    alias: str
    version: int
    since: str
    until: str | None
    action: str
    actor: str
    reason: str
    run_id: str | None
    digest: Digest | None = None
    model_digest: Digest | None = None
    metrics: dict[str, float | None] = {}
    verdict: str | None = None
    owner: str = ""
    git: dict[str, Any] = {}
    snapshots: dict[str, str] = {}
    gates: dict[str, str] = {}
    missing: str = ""


class ProductionAnswer(Record, frozen=True, kw_only=True):
    """What `engine models history --on DAY` prints: everything that held the alias in `[from, to)`, in order."""

    schema_version: int = SCHEMA_VERSION
    model: str
    alias: str
    from_: str
    to: str
    tenures: tuple[Tenure, ...]


class VerifyAnswer(Record, frozen=True, kw_only=True):
    """What `engine models verify --json` prints; `problems` by what was looked at, `overdue` reviews do not fail it."""

    schema_version: int = SCHEMA_VERSION
    ok: bool
    problems: dict[str, tuple[str, ...]]
    overdue: tuple[Review, ...] = ()


class DrillAnswer(Record, frozen=True, kw_only=True):
    """What `engine models rollback --drill --json` prints: how long going back took, and the ledger's rows of both moves."""

    schema_version: int = SCHEMA_VERSION
    model: str
    alias: str
    version: int
    back_to: int
    seconds: float
    rows: tuple[int, int]


class ExportAnswer(Record, frozen=True, kw_only=True):
    """What `engine models export --json` prints: where it is, and how far its outputs are from ours on `rows` rows."""

    schema_version: int = SCHEMA_VERSION
    model: str
    version: int
    digest: Digest
    format: Literal["onnx", "mlflow"]
    path: str
    rows: int
    largest_difference: float
    tolerance: float
