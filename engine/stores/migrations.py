"""The state database's schema, as numbered steps that are only ever added to. Plain SQL that SQLite and PostgreSQL share.

Enters: nothing. Leaves: statements by dialect. Called by `database`, which applies what is missing in one transaction.
Times are RFC 3339 text, JSON is text in canonical form. The ledger refuses updates and deletes in the database itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Migration:
    """One step: statements for every dialect, then those of one."""

    name: str
    common: tuple[str, ...]
    own: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def statements(self, dialect: str) -> tuple[str, ...]:
        """Give the statements for a dialect, in order."""
        return self.common + self.own.get(dialect, ())


_LEDGER_GUARD_SQLITE = tuple(
    f"CREATE TRIGGER ledger_no_{verb} BEFORE {verb} ON ledger BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
    for verb in ("update", "delete")
)
_LEDGER_GUARD_POSTGRESQL = (
    """CREATE FUNCTION refuse_ledger_change() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'the ledger is append-only'; END $$""",
    """CREATE TRIGGER ledger_append_only BEFORE UPDATE OR DELETE ON ledger
        FOR EACH ROW EXECUTE FUNCTION refuse_ledger_change()""",
)

MIGRATIONS: tuple[Migration, ...] = (
    Migration(
        "runs, models, aliases and their ledger",
        (
            "CREATE TABLE counters (name TEXT PRIMARY KEY, value BIGINT NOT NULL)",
            """CREATE TABLE runs (
                run_id TEXT PRIMARY KEY, pipeline TEXT NOT NULL, status TEXT NOT NULL, verdict TEXT,
                started_at TEXT NOT NULL, finished_at TEXT, seconds DOUBLE PRECISION NOT NULL,
                model TEXT, model_digest TEXT, promoted INTEGER NOT NULL, exit_code INTEGER NOT NULL,
                metrics TEXT NOT NULL, error TEXT, run_dir TEXT NOT NULL)""",
            "CREATE INDEX runs_by_start ON runs (started_at, run_id)",
            """CREATE TABLE models (
                name TEXT NOT NULL, version BIGINT NOT NULL, digest TEXT NOT NULL, run_id TEXT NOT NULL,
                pipeline TEXT NOT NULL, created_at TEXT NOT NULL, metrics TEXT NOT NULL, verdict TEXT,
                model_digest TEXT, content_digest TEXT, compared_with TEXT,
                PRIMARY KEY (name, version), UNIQUE (name, digest))""",
            """CREATE TABLE aliases (
                model TEXT NOT NULL, alias TEXT NOT NULL, version BIGINT NOT NULL,
                PRIMARY KEY (model, alias), FOREIGN KEY (model, version) REFERENCES models (name, version))""",
            """CREATE TABLE ledger (
                model TEXT NOT NULL, sequence BIGINT NOT NULL, at TEXT NOT NULL, alias TEXT NOT NULL,
                action TEXT NOT NULL, from_version BIGINT, to_version BIGINT, actor TEXT NOT NULL,
                reason TEXT NOT NULL, run_id TEXT, evidence TEXT NOT NULL, previous TEXT NOT NULL,
                digest TEXT NOT NULL, PRIMARY KEY (model, sequence))""",
        ),
        {"sqlite": _LEDGER_GUARD_SQLITE, "postgresql": _LEDGER_GUARD_POSTGRESQL},
    ),
    Migration(
        "what runs were given, tags and notes, sweeps and their trials",
        (
            "ALTER TABLE runs ADD COLUMN params TEXT NOT NULL DEFAULT '{}'",
            "ALTER TABLE runs ADD COLUMN config TEXT NOT NULL DEFAULT '{}'",
            "ALTER TABLE runs ADD COLUMN tuned TEXT NOT NULL DEFAULT '{}'",
            "ALTER TABLE runs ADD COLUMN sweep BIGINT",
            "ALTER TABLE runs ADD COLUMN trial BIGINT",
            "CREATE INDEX runs_by_sweep ON runs (sweep, trial)",
            "CREATE TABLE config_parts (digest TEXT PRIMARY KEY, content TEXT NOT NULL)",
            """CREATE TABLE run_tags (
                run_id TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (run_id, name))""",
            """CREATE TABLE run_notes (
                run_id TEXT NOT NULL, sequence BIGINT NOT NULL, at TEXT NOT NULL, actor TEXT NOT NULL, note TEXT NOT NULL,
                PRIMARY KEY (run_id, sequence))""",
            """CREATE TABLE sweeps (
                sweep BIGINT PRIMARY KEY, identity TEXT NOT NULL, status TEXT NOT NULL, started_at TEXT NOT NULL,
                finished_at TEXT, folder TEXT NOT NULL)""",
            "CREATE INDEX sweeps_by_identity ON sweeps (identity)",
            """CREATE TABLE trials (
                sweep BIGINT NOT NULL, number BIGINT NOT NULL, overrides TEXT NOT NULL, run_id TEXT, state TEXT NOT NULL,
                outcome TEXT, PRIMARY KEY (sweep, number))""",
        ),
    ),
    Migration(
        "triggers, requests for runs and the ledger of decisions",
        (
            """CREATE TABLE loop_memory (
                pipeline TEXT PRIMARY KEY, version BIGINT NOT NULL, memory TEXT NOT NULL)""",
            """CREATE TABLE loop_requests (
                key TEXT PRIMARY KEY, pipeline TEXT NOT NULL, state TEXT NOT NULL, token BIGINT NOT NULL,
                lease_until TEXT, created_at TEXT NOT NULL, ended_at TEXT, request TEXT NOT NULL)""",
            "CREATE INDEX loop_requests_by_state ON loop_requests (state, pipeline)",
            "CREATE INDEX loop_requests_by_pipeline ON loop_requests (pipeline, created_at)",
            """CREATE TABLE loop_ledger (
                pipeline TEXT NOT NULL, sequence BIGINT NOT NULL, at TEXT NOT NULL, decision TEXT NOT NULL,
                previous TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (pipeline, sequence))""",
        ),
        {
            "sqlite": tuple(
                f"CREATE TRIGGER loop_ledger_no_{verb} BEFORE {verb} ON loop_ledger "
                "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
                for verb in ("update", "delete")
            ),
            "postgresql": (
                """CREATE TRIGGER loop_ledger_append_only BEFORE UPDATE OR DELETE ON loop_ledger
                    FOR EACH ROW EXECUTE FUNCTION refuse_ledger_change()""",
            ),
        },
    ),
    Migration(
        "readings of monitors, alerts, messages",
        (
            """CREATE TABLE monitor_readings (
                pipeline TEXT NOT NULL, monitor TEXT NOT NULL, slice TEXT NOT NULL, chunk TEXT NOT NULL,
                started_at TEXT NOT NULL, status TEXT NOT NULL, body TEXT NOT NULL,
                PRIMARY KEY (pipeline, monitor, slice, chunk))""",
            "CREATE INDEX monitor_readings_by_start ON monitor_readings (pipeline, started_at)",
            """CREATE TABLE monitor_alerts (
                id TEXT PRIMARY KEY, pipeline TEXT NOT NULL, state TEXT NOT NULL, opened_at TEXT NOT NULL, body TEXT NOT NULL)""",
            """CREATE TABLE monitor_deliveries (
                alert TEXT NOT NULL, event TEXT NOT NULL, notifier TEXT NOT NULL, state TEXT NOT NULL,
                attempts INTEGER NOT NULL, error TEXT NOT NULL, PRIMARY KEY (alert, event, notifier))""",
        ),
    ),
    Migration(
        "what trackers have not been told",
        (
            """CREATE TABLE outbox (
                run_id TEXT NOT NULL, tracker TEXT NOT NULL, declared TEXT NOT NULL, plugins TEXT NOT NULL,
                folder TEXT NOT NULL, attempts BIGINT NOT NULL, error TEXT, queued_at TEXT NOT NULL,
                PRIMARY KEY (run_id, tracker))""",
        ),
    ),
)
