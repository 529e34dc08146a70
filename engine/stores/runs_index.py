"""The index of runs in the state database: fast to list, shared by a team; the run folders hold the whole story.

Enters: run records. Leaves: run ids, and summaries newest first. Called when a run starts and ends, and by listings.
"""

from __future__ import annotations

import json

import msgspec

from engine.errors import NotFoundError
from engine.keys import canonical_json
from engine.records import RunRecord, RunStatus, Verdict
from engine.stores.database import Database, Row

_COLUMNS = (
    "run_id", "pipeline", "status", "verdict", "started_at", "finished_at", "seconds", "model", "model_digest", "promoted",
    "exit_code", "metrics", "error", "run_dir",
)  # fmt: skip


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One run in the index; `metrics` maps a name to its point value, `run_dir` is where the rest lies."""

    run_id: str
    pipeline: str
    status: RunStatus
    verdict: Verdict | None
    started_at: str
    finished_at: str | None
    seconds: float
    model: str | None
    model_digest: str | None
    promoted: bool
    exit_code: int
    metrics: dict[str, float | None]
    error: str | None
    run_dir: str


class RunFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs to list; what is left out does not narrow."""

    pipeline: str | None = None
    status: RunStatus | None = None
    limit: int = 20


class RunsIndex:
    """The runs of one state database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def next_run_id(self, above: int = 0) -> int:
        """Allot the next number, each to one caller only; higher than `above`, for run folders that outlived a database."""
        with self._database.transaction("counters") as transaction:
            rows = transaction.query(
                "INSERT INTO counters (name, value) VALUES ('run', ?) ON CONFLICT (name) DO UPDATE "
                "SET value = CASE WHEN counters.value < ? THEN ? ELSE counters.value END + 1 RETURNING value",
                (above + 1, above, above),
            )
        return int(rows[0]["value"])

    def record_run(self, record: RunRecord, run_dir: str) -> None:
        """Write a run's present state, new or again."""
        metrics = {metric.name: metric.value for metric in record.metrics}
        finite = msgspec.json.decode(msgspec.json.encode(metrics))
        row: Row = {name: getattr(record, name) for name in _COLUMNS if name not in {"promoted", "metrics", "run_dir"}}
        row |= {"promoted": int(record.promoted), "metrics": canonical_json(finite).decode(), "run_dir": run_dir}
        updates = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS if name != "run_id")
        marks = ", ".join("?" * len(_COLUMNS))
        statement = (
            f"INSERT INTO runs ({', '.join(_COLUMNS)}) VALUES ({marks}) ON CONFLICT (run_id) DO UPDATE SET {updates}"  # noqa: S608 - our names
        )
        with self._database.transaction(f"run:{record.run_id}") as transaction:
            transaction.execute(statement, tuple(row[name] for name in _COLUMNS))

    def list_runs(self, wanted: RunFilter | None = None) -> list[RunSummary]:
        """List runs, the latest first."""
        wanted = wanted or RunFilter()
        conditions = {"pipeline": wanted.pipeline, "status": wanted.status}
        given = {name: value for name, value in conditions.items() if value is not None}
        where = "WHERE " + " AND ".join(f"{name} = ?" for name in given) if given else ""
        order = "ORDER BY started_at DESC, LENGTH(run_id) DESC, run_id DESC LIMIT ?"
        select = f"SELECT * FROM runs {where} {order}"  # noqa: S608 - our names
        rows = self._database.query(select, (*given.values(), max(wanted.limit, 0)))
        return [_summary(row) for row in rows]

    def find_run(self, run_id: str) -> RunSummary:
        """Find one run; raises `NotFoundError`."""
        rows = self._database.query("SELECT * FROM runs WHERE run_id = ?", (run_id,))
        if not rows:
            latest = ", ".join(run.run_id for run in self.list_runs(RunFilter(limit=5))) or "none yet"
            raise NotFoundError(f"no run {run_id} in the index", hint=f"the latest: {latest}")
        return _summary(rows[0])


def _summary(row: Row) -> RunSummary:
    return msgspec.convert(
        {**row, "promoted": bool(row["promoted"]), "metrics": json.loads(row["metrics"])}, RunSummary
    )
