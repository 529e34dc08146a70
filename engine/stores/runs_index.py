"""The index of runs in the state database: fast to list, shared by a team; the run folders hold the whole story.

Enters: run records. Leaves: run ids, and summaries newest first. Called when a run starts and ends, and by listings.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from engine.errors import NotFoundError
from engine.keys import Json, canonical_json, digest_bytes
from engine.records import RunRecord, RunStatus, Verdict
from engine.stores.database import Database, Row

_COLUMNS = (
    "run_id", "pipeline", "status", "verdict", "started_at", "finished_at", "seconds", "model", "model_digest", "promoted",
    "exit_code", "metrics", "error", "run_dir", "params", "config", "tuned", "sweep", "trial",
)  # fmt: skip

_MADE = frozenset({"promoted", "metrics", "run_dir", "params", "config", "tuned"})
_CHUNK = 5000  # parameters of one statement; SQLite takes 32,766, PostgreSQL 65,535


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One run in the index; `metrics` maps a name to its point value, `run_dir` is where the rest lies.

    `params` are the overrides by key, `tuned` the metrics of the validation rows, of a trial.
    """

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
    params: dict[str, Any] = {}
    tuned: dict[str, float | None] = {}
    sweep: int | None = None
    trial: int | None = None
    tags: dict[str, str] = {}


class RunNote(msgspec.Struct, frozen=True, kw_only=True):
    """Words that a person added to a run."""

    at: str
    actor: str
    note: str


class RunFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs to list; what is left out does not narrow."""

    pipeline: str | None = None
    status: RunStatus | None = None
    sweep: int | None = None
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

    def record_run(self, record: RunRecord, run_dir: str, config: Mapping[str, Json] | None = None) -> None:
        """Write a run's present state, new or again, with its composed config (`None`: as it was recorded before)."""
        parts = {key: canonical_json(value).decode() for key, value in (config or {}).items()}
        digests = {key: digest_bytes(content.encode()) for key, content in parts.items()}
        row: Row = {name: getattr(record, name) for name in _COLUMNS if name not in _MADE}
        row |= {
            "promoted": int(record.promoted),
            "metrics": _text({metric.name: metric.value for metric in record.metrics}),
            "tuned": _text({metric.name: metric.value for metric in record.tuned}),
            "params": _text(read_params(record.overrides)),
            "config": canonical_json(digests).decode(),
            "run_dir": run_dir,
        }
        kept = {"run_id"} if config is not None else {"run_id", "config"}
        updates = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS if name not in kept)
        marks = ", ".join("?" * len(_COLUMNS))
        statement = (
            f"INSERT INTO runs ({', '.join(_COLUMNS)}) VALUES ({marks}) ON CONFLICT (run_id) DO UPDATE SET {updates}"  # noqa: S608 - our names
        )
        with self._database.transaction(f"run:{record.run_id}") as transaction:
            for key, content in parts.items():
                transaction.execute(
                    "INSERT INTO config_parts (digest, content) VALUES (?, ?) ON CONFLICT (digest) DO NOTHING",
                    (digests[key], content),
                )
            transaction.execute(statement, tuple(row[name] for name in _COLUMNS))

    def list_runs(self, wanted: RunFilter | None = None) -> list[RunSummary]:
        """List runs, the latest first."""
        wanted = wanted or RunFilter()
        conditions = {"pipeline": wanted.pipeline, "status": wanted.status, "sweep": wanted.sweep}
        given = {name: value for name, value in conditions.items() if value is not None}
        where = "WHERE " + " AND ".join(f"{name} = ?" for name in given) if given else ""
        order = "ORDER BY started_at DESC, LENGTH(run_id) DESC, run_id DESC LIMIT ?"
        select = f"SELECT * FROM runs {where} {order}"  # noqa: S608 - our names
        rows = self._database.query(select, (*given.values(), max(wanted.limit, 0)))
        tags = self.tags()
        return [_summary(row, tags.get(row["run_id"], {})) for row in rows]

    def find_run(self, run_id: str) -> RunSummary:
        """Find one run; raises `NotFoundError`."""
        rows = self._database.query("SELECT * FROM runs WHERE run_id = ?", (run_id,))
        if not rows:
            latest = ", ".join(run.run_id for run in self.list_runs(RunFilter(limit=5))) or "none yet"
            raise NotFoundError(f"no run {run_id} in the index", hint=f"the latest: {latest}")
        return _summary(rows[0], self.tags(run_id).get(run_id, {}))

    def configs(self, run_ids: Sequence[str], keys: Collection[str] | None = None) -> dict[str, dict[str, Any]]:
        """Give the composed configs of these runs, by run, or only these keys of their roots; equal parts are one object."""
        wanted = {
            run: {key: item for key, item in digests.items() if keys is None or key in keys}
            for run, digests in self.config_digests(run_ids).items()
        }
        contents = self.config_parts(list({item: None for digests in wanted.values() for item in digests.values()}))
        return {
            run: {key: contents[item] for key, item in digests.items() if item in contents}
            for run, digests in wanted.items()
        }

    def config_digests(self, run_ids: Sequence[str]) -> dict[str, dict[str, str]]:
        """Give the digests of the parts of these runs' configs, by run and by key of the root."""
        found: dict[str, dict[str, str]] = {}
        for chunk in _chunks(run_ids):
            marks = ", ".join("?" * len(chunk))
            rows = self._database.query(f"SELECT run_id, config FROM runs WHERE run_id IN ({marks})", chunk)  # noqa: S608
            found |= {row["run_id"]: msgspec.json.decode(row["config"]) for row in rows}
        return found

    def config_parts(self, digests: Sequence[str]) -> dict[str, Any]:
        """Give parts of configs by their digests."""
        contents: dict[str, Any] = {}
        for chunk in _chunks(digests):
            marks = ", ".join("?" * len(chunk))
            rows = self._database.query(f"SELECT digest, content FROM config_parts WHERE digest IN ({marks})", chunk)  # noqa: S608
            contents |= {row["digest"]: msgspec.json.decode(row["content"]) for row in rows}
        return contents

    def scan(self, limit: int | None, columns: Sequence[str] = _COLUMNS) -> list[Row]:
        """Give the rows of runs, the latest first, as they are stored: what lists of thousands are made from."""
        order = "ORDER BY started_at DESC, LENGTH(run_id) DESC, run_id DESC"
        select = f"SELECT {', '.join(columns)} FROM runs {order}"  # noqa: S608 - our names
        if limit is None:
            return self._database.query(select)
        return self._database.query(f"{select} LIMIT ?", (max(limit, 0),))

    def rows(self, run_ids: Sequence[str]) -> list[Row]:
        """Give the rows of these runs, in this order; runs that there are none of are left out."""
        found: dict[str, Row] = {}
        for chunk in _chunks(run_ids):
            marks = ", ".join("?" * len(chunk))
            rows = self._database.query(f"SELECT * FROM runs WHERE run_id IN ({marks})", chunk)  # noqa: S608 - our words
            found |= {row["run_id"]: row for row in rows}
        return [found[run] for run in run_ids if run in found]

    def run_ids(self) -> set[str]:
        """Give the id of every run."""
        return {row["run_id"] for row in self._database.query("SELECT run_id FROM runs")}

    def summarise(self, row: Row, tags: Mapping[str, str]) -> RunSummary:
        """Turn a row into a summary."""
        return _summary(row, tags)

    def set_tag(self, run_id: str, name: str, value: str | None) -> None:
        """Give a run a tag, or take it away with `None`; raises `NotFoundError` for an unknown run."""
        self.find_run(run_id)
        with self._database.transaction(f"run:{run_id}") as transaction:
            transaction.execute("DELETE FROM run_tags WHERE run_id = ? AND name = ?", (run_id, name))
            if value is not None:
                transaction.execute(
                    "INSERT INTO run_tags (run_id, name, value) VALUES (?, ?, ?)", (run_id, name, value)
                )

    def add_note(self, run_id: str, note: RunNote) -> None:
        """Add words to a run; raises `NotFoundError` for an unknown run."""
        self.find_run(run_id)
        with self._database.transaction(f"run:{run_id}") as transaction:
            rows = transaction.query(
                "SELECT COALESCE(MAX(sequence), 0) + 1 AS next FROM run_notes WHERE run_id = ?", (run_id,)
            )
            transaction.execute(
                "INSERT INTO run_notes (run_id, sequence, at, actor, note) VALUES (?, ?, ?, ?, ?)",
                (run_id, int(rows[0]["next"]), note.at, note.actor, note.note),
            )

    def notes(self, run_id: str) -> list[RunNote]:
        """Give a run's notes in the order in which they were made."""
        rows = self._database.query(
            "SELECT at, actor, note FROM run_notes WHERE run_id = ? ORDER BY sequence", (run_id,)
        )
        return [msgspec.convert(row, RunNote) for row in rows]

    def tags(self, run_id: str | None = None) -> dict[str, dict[str, str]]:
        """Give the tags by run, of one or of all."""
        where, given = ("", ()) if run_id is None else ("WHERE run_id = ?", (run_id,))
        found: dict[str, dict[str, str]] = {}
        for row in self._database.query(f"SELECT * FROM run_tags {where} ORDER BY name", given):  # noqa: S608 - our words
            found.setdefault(row["run_id"], {})[row["name"]] = row["value"]
        return found


def read_params(overrides: Sequence[str]) -> dict[str, Any]:
    """Read overrides as values by key; what is no JSON is a text.

    >>> read_params(["pipeline=flights", "train.rounds=20", "~baseline"])
    {'pipeline': 'flights', 'train.rounds': 20, '~baseline': None}
    """
    found: dict[str, Any] = {}
    for text in overrides:
        key, equals, value = text.lstrip("+").partition("=")
        try:
            found[key] = msgspec.json.decode(value) if equals else None
        except msgspec.DecodeError:
            found[key] = value
    return found


def _chunks(items: Sequence[str]) -> Iterator[tuple[str, ...]]:
    return (tuple(items[index : index + _CHUNK]) for index in range(0, len(items), _CHUNK))


def _text(values: Mapping[str, Any]) -> str:
    """Write JSON; a number that is not finite becomes null."""
    return canonical_json(msgspec.json.decode(msgspec.json.encode(values))).decode()


def _summary(row: Row, tags: Mapping[str, str]) -> RunSummary:
    decoded = {name: msgspec.json.decode(row[name]) for name in ("metrics", "tuned", "params")}
    return msgspec.convert({**row, **decoded, "promoted": bool(row["promoted"]), "tags": dict(tags)}, RunSummary)
