"""Sweeps and their trials in the state database: what makes a killed sweep go on where it was.

Enters: identities of sweeps, and trials as they start and end. Leaves: what has ended. Called by `engine.sweeps`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine.keys import Json, canonical_json
from engine.stores.database import Database


@dataclass(frozen=True, slots=True)
class SweepRow:
    """One sweep; two commands with the same `identity` try the same on the same data."""

    sweep: int
    identity: str
    status: str
    started_at: str
    folder: str


@dataclass(frozen=True, slots=True)
class TrialRow:
    """One trial; `outcome` is there once it has ended."""

    number: int
    overrides: tuple[str, ...]
    run_id: str | None
    state: str
    outcome: Any


class SweepsIndex:
    """The sweeps of one state database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def unfinished(self, identity: str) -> list[SweepRow]:
        """Give the sweeps of this identity that did not come to their end, the latest first."""
        rows = self._database.query(
            "SELECT * FROM sweeps WHERE identity = ? AND status <> 'finished' ORDER BY sweep DESC", (identity,)
        )
        return [_sweep(row) for row in rows]

    def find(self, sweep: int) -> SweepRow | None:
        """Give a sweep by its number."""
        rows = self._database.query("SELECT * FROM sweeps WHERE sweep = ?", (sweep,))
        return _sweep(rows[0]) if rows else None

    def latest(self) -> SweepRow | None:
        """Give the latest sweep."""
        rows = self._database.query("SELECT * FROM sweeps ORDER BY sweep DESC LIMIT 1")
        return _sweep(rows[0]) if rows else None

    def start(self, identity: str, at: str, folder: str) -> SweepRow:
        """Begin a sweep under the next number; `{sweep}` in `folder` becomes it."""
        with self._database.transaction("counters") as transaction:
            rows = transaction.query(
                "INSERT INTO counters (name, value) VALUES ('sweep', 1) ON CONFLICT (name) DO UPDATE "
                "SET value = counters.value + 1 RETURNING value"
            )
            row = SweepRow(int(rows[0]["value"]), identity, "running", at, "")
            place = folder.format(sweep=row.sweep)
            transaction.execute(
                "INSERT INTO sweeps (sweep, identity, status, started_at, finished_at, folder) VALUES (?, ?, ?, ?, NULL, ?)",
                (row.sweep, identity, row.status, at, place),
            )
        return SweepRow(row.sweep, identity, row.status, at, place)

    def end(self, sweep: int, status: str, at: str) -> None:
        """Note how a sweep ended: `finished`, or `stopped`, which the same command goes on with."""
        with self._database.transaction(f"sweep:{sweep}") as transaction:
            transaction.execute("UPDATE sweeps SET status = ?, finished_at = ? WHERE sweep = ?", (status, at, sweep))

    def record_trial(self, sweep: int, trial: TrialRow) -> None:
        """Write a trial's present state, new or again."""
        outcome = None if trial.outcome is None else canonical_json(trial.outcome).decode()
        overrides: Json = list(trial.overrides)
        with self._database.transaction(f"sweep:{sweep}") as transaction:
            transaction.execute(
                "INSERT INTO trials (sweep, number, overrides, run_id, state, outcome) VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (sweep, number) DO UPDATE SET overrides = excluded.overrides, run_id = excluded.run_id, "
                "state = excluded.state, outcome = excluded.outcome",
                (sweep, trial.number, canonical_json(overrides).decode(), trial.run_id, trial.state, outcome),
            )

    def trials(self, sweep: int) -> Sequence[TrialRow]:
        """Give a sweep's trials by number."""
        rows = self._database.query("SELECT * FROM trials WHERE sweep = ? ORDER BY number", (sweep,))
        return [
            TrialRow(
                int(row["number"]),
                tuple(json.loads(row["overrides"])),
                row["run_id"],
                row["state"],
                None if row["outcome"] is None else json.loads(row["outcome"]),
            )
            for row in rows
        ]


def _sweep(row: dict[str, Any]) -> SweepRow:
    return SweepRow(int(row["sweep"]), row["identity"], row["status"], row["started_at"], row["folder"])
