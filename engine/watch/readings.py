"""Readings, alerts and deliveries in the state database. Readings of the same chunk are restated, never doubled.

Enters and leaves: records of `watch_records`. Called by `engine monitor`, its `alerts` actions, and by triggers, which read
the latest readings.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from engine.errors import ConflictError, NotFoundError
from engine.keys import canonical_json
from engine.stores.database import Database, Row, Transaction
from engine.watch_records import Alert, AlertState, Delivery, Reading

_READING = (
    "INSERT INTO monitor_readings (pipeline, monitor, slice, chunk, started_at, status, body) VALUES (?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (pipeline, monitor, slice, chunk) DO UPDATE SET status = excluded.status, body = excluded.body"
)
_ALERT = (
    "INSERT INTO monitor_alerts (id, pipeline, state, opened_at, body) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT (id) DO UPDATE SET state = excluded.state, body = excluded.body"
)
_DELIVERY = (
    "INSERT INTO monitor_deliveries (alert, event, notifier, state, attempts, error) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (alert, event, notifier) DO UPDATE SET state = excluded.state, attempts = excluded.attempts, error = excluded.error"
)


class Readings:
    """What monitors of one state database said."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, readings: Sequence[Reading], alerts: Sequence[Alert], deliveries: Sequence[Delivery]) -> None:
        """Write readings (a changed one with the next revision), alerts and messages to be sent, in one transaction."""
        with self._database.transaction("monitors") as transaction:
            for reading in readings:
                told = _restated(transaction, reading)
                key = (told.pipeline, told.monitor, told.slice, told.chunk)
                transaction.execute(_READING, (*key, told.start, told.status, _text(told)))
            for alert in alerts:
                transaction.execute(_ALERT, (alert.id, alert.pipeline, alert.state, alert.opened_at, _text(alert)))
            for item in deliveries:
                if not _sent(transaction, item):
                    transaction.execute(_DELIVERY, _values(item))

    def readings(self, pipeline: str, since: str = "", monitor: str | None = None) -> list[Reading]:
        """Give readings of chunks that start at `since` or later, in order of chunk."""
        where, values = "pipeline = ? AND started_at >= ?", [pipeline, since]
        if monitor is not None:
            where, values = f"{where} AND monitor = ?", [*values, monitor]
        rows = self._database.query(
            f"SELECT body FROM monitor_readings WHERE {where} ORDER BY started_at, monitor, slice",  # noqa: S608 - our names
            values,
        )
        return [msgspec.json.decode(row["body"], type=Reading) for row in rows]

    def alerts(
        self, pipeline: str | None = None, states: Sequence[AlertState] = ("open", "acknowledged")
    ) -> list[Alert]:
        """Give alerts in these states, the latest first."""
        marks = ", ".join("?" * len(states))
        where = f"state IN ({marks})" + (" AND pipeline = ?" if pipeline is not None else "")
        rows = self._database.query(
            f"SELECT body FROM monitor_alerts WHERE {where} ORDER BY opened_at DESC, id",  # noqa: S608 - our names
            [*states, *([pipeline] if pipeline is not None else [])],
        )
        return [msgspec.json.decode(row["body"], type=Alert) for row in rows]

    def find_alert(self, start: str) -> Alert:
        """Give one alert by its id or the start of it; raises `NotFoundError`."""
        rows = self._database.query("SELECT id, body FROM monitor_alerts ORDER BY id")
        found = [row for row in rows if str(row["id"]).startswith(start)]
        if len(found) != 1:
            known = ", ".join(str(row["id"]) for row in (found or rows)[:5]) or "none yet"
            raise NotFoundError(
                f"{len(found)} alerts have an id that starts with {start!r}", hint=f"there are: {known}"
            )
        return msgspec.json.decode(found[0]["body"], type=Alert)

    def move(self, alert: Alert, state: AlertState, actor: str, reason: str, at: str) -> Alert:
        """Acknowledge or resolve; raises `ConflictError` for an alert that is resolved already."""
        with self._database.transaction("monitors") as transaction:
            rows = transaction.query("SELECT state FROM monitor_alerts WHERE id = ?", (alert.id,))
            if rows and rows[0]["state"] == "resolved":
                raise ConflictError(
                    f"alert {alert.id} is resolved already", hint="a new incident gets an alert of its own"
                )
            moved = msgspec.structs.replace(alert, state=state, actor=actor, reason=reason, changed_at=at)
            transaction.execute(_ALERT, (moved.id, moved.pipeline, moved.state, moved.opened_at, _text(moved)))
        return moved

    def waiting(self, pipeline: str) -> list[tuple[Delivery, Alert]]:
        """Give messages that are still to be sent, oldest first."""
        rows = self._database.query(
            "SELECT d.alert, d.event, d.notifier, d.state, d.attempts, d.error, a.body FROM monitor_deliveries d "
            "JOIN monitor_alerts a ON a.id = d.alert WHERE d.state = 'waiting' AND a.pipeline = ? "
            "ORDER BY a.opened_at, d.alert, d.event, d.notifier",
            (pipeline,),
        )
        return [(_delivery(row), msgspec.json.decode(row["body"], type=Alert)) for row in rows]

    def note_delivery(self, delivery: Delivery) -> None:
        """Note how an attempt ended."""
        with self._database.transaction("monitors") as transaction:
            transaction.execute(_DELIVERY, _values(delivery))


def _restated(transaction: Transaction, reading: Reading) -> Reading:
    rows = transaction.query(
        "SELECT body FROM monitor_readings WHERE pipeline = ? AND monitor = ? AND slice = ? AND chunk = ?",
        (reading.pipeline, reading.monitor, reading.slice, reading.chunk),
    )
    if not rows:
        return reading
    old = msgspec.json.decode(rows[0]["body"], type=Reading)
    same = msgspec.structs.replace(old, at=reading.at, revision=reading.revision) == reading
    return msgspec.structs.replace(reading, revision=old.revision + (not same))


def _sent(transaction: Transaction, item: Delivery) -> bool:
    where = "SELECT state FROM monitor_deliveries WHERE alert = ? AND event = ? AND notifier = ?"
    return bool(transaction.query(where, (item.alert, item.event, item.notifier)))


def _text(record: msgspec.Struct) -> str:
    return canonical_json(msgspec.json.decode(msgspec.json.encode(record))).decode()


def _values(item: Delivery) -> tuple[str | int, ...]:
    return (item.alert, item.event, item.notifier, item.state, item.attempts, item.error)


def _delivery(row: Row) -> Delivery:
    return Delivery(
        alert=row["alert"], event=row["event"], notifier=row["notifier"], state=row["state"], attempts=row["attempts"],
        error=row["error"],
    )  # fmt: skip
