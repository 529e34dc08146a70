"""What trackers have not been told yet: rows that a run leaves at its end and a sender takes away when they are sent.

Enters: a run's id and the trackers that its pipeline declares, secrets as references. Leaves: what is due, the oldest first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from engine.keys import canonical_json
from engine.stores.database import Database


@dataclass(frozen=True, slots=True)
class Letter:
    """One run to tell one tracker of. `declared` is the tracker's kind and parameters; `where` is the run's folder."""

    run_id: str
    tracker: str
    declared: dict[str, Any]
    plugins: tuple[str, ...]
    where: str
    attempts: int = 0
    error: str | None = None
    queued_at: str = ""


class Outbox:
    """The letters of one state database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, letter: Letter) -> None:
        """Leave a letter; one for the same run and tracker is replaced, as when the run goes on."""
        with self._database.transaction("outbox") as transaction:
            transaction.execute("DELETE FROM outbox WHERE run_id = ? AND tracker = ?", (letter.run_id, letter.tracker))
            transaction.execute(
                "INSERT INTO outbox (run_id, tracker, declared, plugins, folder, attempts, error, queued_at) "
                "VALUES (?, ?, ?, ?, ?, 0, NULL, ?)",
                (
                    letter.run_id,
                    letter.tracker,
                    canonical_json(letter.declared).decode(),
                    canonical_json(list(letter.plugins)).decode(),
                    letter.where,
                    letter.queued_at,
                ),
            )

    def due(self, run_id: str | None = None) -> list[Letter]:
        """Give what has not been sent, the oldest first."""
        where, given = ("WHERE run_id = ?", (run_id,)) if run_id is not None else ("", ())
        rows = self._database.query(f"SELECT * FROM outbox {where} ORDER BY queued_at, tracker", given)  # noqa: S608 - our words
        return [
            Letter(
                row["run_id"],
                row["tracker"],
                msgspec.json.decode(row["declared"]),
                tuple(msgspec.json.decode(row["plugins"])),
                row["folder"],
                int(row["attempts"]),
                row["error"],
                row["queued_at"],
            )
            for row in rows
        ]

    def sent(self, letter: Letter) -> None:
        """Take a letter away, unless the run has left a newer one meanwhile."""
        with self._database.transaction("outbox") as transaction:
            transaction.execute(
                "DELETE FROM outbox WHERE run_id = ? AND tracker = ? AND queued_at = ?",
                (letter.run_id, letter.tracker, letter.queued_at),
            )

    def failed(self, letter: Letter, error: str) -> None:
        """Note that a letter was not taken; it stays."""
        with self._database.transaction("outbox") as transaction:
            transaction.execute(
                "UPDATE outbox SET attempts = attempts + 1, error = ? WHERE run_id = ? AND tracker = ?",
                (error[:2000], letter.run_id, letter.tracker),
            )
