"""One monitoring run: observe, read, record, raise alerts, tell, draw. Called by `engine monitor` and by the tick."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from engine.api import Declared
from engine.clock import Clock, isoformat
from engine.errors import ExitCode, UsageError
from engine.locations import Stores
from engine.watch.alerts import Change, update_alerts
from engine.watch.levels import level_for
from engine.watch.notify import deliver, messages
from engine.watch.observations import Observations, open_observations
from engine.watch.observe import read_chunks
from engine.watch.observed import TIME
from engine.watch.readings import Readings
from engine.watch_records import Alert, MonitorReport, Reading, ReadingStatus


@dataclass(frozen=True)
class Asked:
    """What to read: a moment that is now, the earliest chunk, some monitors, files, where the report goes.

    `fresh` is the file of features that a later run than the champion's made.
    """

    at: datetime | None = None
    since: datetime | None = None
    only: tuple[str, ...] = ()
    rows: Path | None = None
    reference: Path | None = None
    report: Path | None = None
    record: bool = True
    fresh: Path | None = None


def monitor(
    declared: Declared, stores: Stores, asked: Asked, clock: Clock, say: Callable[[str], None]
) -> MonitorReport:
    """Run the monitors of a pipeline."""
    _refuse_none(declared)
    seen = open_observations(declared, stores, asked.rows, asked.reference, asked.fresh)
    return monitor_seen(declared, stores, seen, asked, clock, say)


def monitor_seen(  # noqa: PLR0913, PLR0917 - what `monitor` gets, and the rows that were opened before
    declared: Declared, stores: Stores, seen: Observations, asked: Asked, clock: Clock, say: Callable[[str], None]
) -> MonitorReport:
    """Run the monitors on rows that are open already; the tick looks at them for other reasons too."""
    if asked.only:
        level, every = declared.spec.watch.level, declared.spec.monitors
        kept = {  # alone, a monitor reads at the level that it has among all
            name: msgspec.structs.replace(spec, level=level_for(name, every, level))
            for name, spec in every.items()
            if name in asked.only
        }
        declared = replace(declared, spec=msgspec.structs.replace(declared.spec, monitors=kept))
    now = asked.at or now_of(seen, clock)
    watched = read_chunks(declared, seen, now, asked.since, lambda chunk, _done, _all: say(f"reading {chunk}"))
    model = seen.model
    readings = tuple(msgspec.structs.replace(reading, model=model) for reading in watched.readings)
    kept_readings = Readings(stores.database)
    known = kept_readings.alerts(declared.spec.name) if asked.record else []
    history = kept_readings.readings(declared.spec.name) if asked.record else []
    changes = update_alerts(declared.spec, readings, history, known, isoformat(now))
    if asked.record:
        kept_readings.record(readings, [change.alert for change in changes], messages(declared, changes))
    undelivered = deliver(declared, kept_readings, say) if asked.record else 0
    alerts = _open(known, changes)
    report = MonitorReport(
        pipeline=declared.spec.name,
        model=model,
        at=isoformat(now),
        status=_status(readings),
        chunks=len({reading.chunk for reading in readings}),
        readings=readings,
        alerts=alerts,
        undelivered=undelivered,
        exit_code=_exit_code(readings, alerts),
    )
    path = asked.report or (stores.runs_root / "monitor" / f"{declared.spec.name}.html" if asked.record else None)
    if path is None:
        return report
    from engine.watch.pictures import render_monitor  # noqa: PLC0415 - only when there is something to draw

    path.parent.mkdir(parents=True, exist_ok=True)
    deployments = [
        entry for entry in stores.registry.history(seen.model.partition("@")[0]) if entry.action != "register"
    ]
    path.write_text(
        render_monitor(
            report, watched, seen, [(entry.at, f"{entry.action} {entry.to_version}") for entry in deployments]
        ),
        encoding="utf-8",
    )
    return msgspec.structs.replace(report, report=str(path))


def _refuse_none(declared: Declared) -> None:
    if not declared.spec.monitors:
        raise UsageError(f"{declared.spec.name} declares no monitors", hint="write `monitors: default` in the pipeline")


def now_of(seen: Observations, clock: Clock) -> datetime:
    """Rows that end in the past are replayed up to their end, so that the last chunk is whole."""
    newest = seen.watched[TIME].max() if seen.watched.height else None
    now = clock.now()
    return min(now, now if not isinstance(newest, datetime) else max(now, newest)).astimezone(UTC)


def _open(known: Sequence[Alert], changes: Sequence[Change]) -> tuple[Alert, ...]:
    merged = {alert.id: alert for alert in known} | {change.alert.id: change.alert for change in changes}
    rank = {"critical": 0, "warning": 1, "info": 2}
    kept = [alert for alert in merged.values() if alert.state != "resolved"]
    return tuple(sorted(kept, key=lambda alert: (rank[alert.severity], alert.since, alert.monitor, alert.slice)))


def _status(readings: Sequence[Reading]) -> ReadingStatus:
    states = {reading.status for reading in readings}
    if states & {"broken", "alarm"}:
        return "alarm"
    return "ok" if "ok" in states else "insufficient_data"


def _exit_code(readings: Sequence[Reading], alerts: Sequence[Alert]) -> int:
    severities = {alert.severity for alert in alerts if alert.state == "open"}
    if "critical" in severities:
        return ExitCode.QUARANTINED
    if "warning" in severities:
        return ExitCode.REJECTED
    return ExitCode.INCONCLUSIVE if _status(readings) == "insufficient_data" else ExitCode.OK
