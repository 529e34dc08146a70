"""What is done about data that failed its audit: people are told, and the data is compared with the last that was good.

Enters: a run whose ingestion quarantined something. Leaves: an alert a source with what failed and what to do, and, from a
`diagnose` run, a page with every difference to the last good snapshot. Called by `running`. The champion stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from engine.api import Declared, Planned
from engine.clock import Clock, isoformat
from engine.contracts import SnapshotStore
from engine.data_records import ColumnDiff, Quarantined
from engine.errors import EngineError, NotFoundError
from engine.keys import digest
from engine.records import RunRecord
from engine.stores.database import Database
from engine.watch.alerts import Change
from engine.watch.notify import deliver, messages
from engine.watch.readings import Readings
from engine.watch_records import Alert, Finding

QUARANTINE = "quarantine"
_MOST = 8


def diagnose(
    planned: Planned, record: RunRecord, sources: Sequence[str], clock: Clock, *, compared: bool
) -> tuple[str, ...]:
    """Raise an alert for each source; with `compared`, say what differs from the last good snapshot. Gives what to tell."""
    store, notes = planned.stores.open_snapshots(), []
    for source in sources:
        try:
            found = _quarantined(planned, store, source)
            moved, page = _differences(planned, store, record, found) if compared else ((), "")
            tell(planned.declared, planned.stores.database, _alert(planned, found, moved, page, clock))
            told = f", differences: {page}" if page else ""
            notes.append(f"{source}: {', '.join(found.failed[:3])} failed, kept on {found.branch}{told}")
        except EngineError as error:
            notes.append(f"{source}: not diagnosed: {error.message}")
    return tuple(notes)


def resolve(planned: Planned, clock: Clock) -> None:
    """Close the alerts about quarantined data, once new data has passed."""
    readings, at = Readings(planned.stores.database), isoformat(clock.now())
    for alert in readings.alerts(planned.declared.spec.name):
        if alert.monitor == QUARANTINE:
            moved = readings.move(alert, "resolved", "engine", "newer data passed its audit", at)
            readings.record([], [], messages(planned.declared, [Change(moved, "resolved")]))
    deliver(planned.declared, readings, lambda _: None)


def tell(declared: Declared, database: Database, alert: Alert) -> None:
    """Record an alert and send it; the same incident is told once."""
    readings = Readings(database)
    known = {item.id: item for item in readings.alerts(declared.spec.name, ("open", "acknowledged", "resolved"))}
    before = known.get(alert.id)
    event = "opened" if before is None or before.state == "resolved" else "ongoing"
    if before is not None and event == "ongoing":
        alert = msgspec.structs.replace(alert, since=before.since, opened_at=before.opened_at, state=before.state)
    readings.record([], [alert], messages(declared, [Change(alert, event)]))
    deliver(declared, readings, lambda _: None)


def _quarantined(planned: Planned, store: SnapshotStore, source: str) -> Quarantined:
    from engine.data.quarantine import list_quarantined, show_quarantined  # noqa: PLC0415 - imports data libraries
    from engine.data.repository import Repository  # noqa: PLC0415

    repository = Repository(store, planned.declared.spec.sources[source].repository)
    branches = [item.branch for item in list_quarantined(repository) if item.source == source]
    if not branches:
        raise NotFoundError(f"no branch holds the data of `{source}` that failed")
    return show_quarantined(repository, branches[0])


def _differences(
    planned: Planned, store: SnapshotStore, record: RunRecord, found: Quarantined
) -> tuple[tuple[ColumnDiff, ...], str]:
    """Compare with the branch that holds what was good last, and write the page into the run's folder."""
    from engine.data.compare import compare  # noqa: PLC0415 - as above
    from engine.data.repository import Repository  # noqa: PLC0415
    from engine.report.data_diff import render_diff  # noqa: PLC0415

    spec = planned.declared.spec.sources[found.source]
    diff = compare(Repository(store, spec.repository), spec.branch, found.branch, found.source)
    page = planned.stores.runs_root / record.run_id / f"diagnosis-{found.source}.html"
    page.write_text(render_diff(diff), encoding="utf-8")
    columns = [column for source in diff.sources for column in source.columns if column.moved]
    return tuple(sorted(columns, key=lambda item: -(item.psi or 0.0))[:_MOST]), str(page)


def _alert(planned: Planned, found: Quarantined, moved: Sequence[ColumnDiff], page: str, clock: Clock) -> Alert:
    spec, at = planned.declared.spec, isoformat(clock.now())
    failed = ", ".join(found.failed[:3]) or "no row passes"
    causes = [Finding(name=rule, status="broken", words=f"{rule} failed") for rule in found.failed[:_MOST]]
    causes += [Finding(name=item.column, status="alarm", effect=item.psi, words=f"{item.column}: PSI {item.psi:.3g}")
               for item in moved if item.psi is not None]  # fmt: skip
    return Alert(
        id=digest({"pipeline": spec.name, "quarantine": found.branch})[:12],
        pipeline=spec.name, monitor=QUARANTINE, slice=f"source={found.source}", state="open", severity="critical",
        title=f"{spec.name}: new data of {found.source} is quarantined: {failed}"[:300], since=at, last_chunk=found.branch,
        causes=tuple(causes), owner=spec.owner, opened_at=at, changed_at=at, runbook=_runbook(planned, found, causes, page),
        command=f"engine data quarantine show {found.branch}",
    )  # fmt: skip


def _runbook(planned: Planned, found: Quarantined, causes: Sequence[Finding], page: str) -> str:
    spec, good = planned.declared.spec, planned.declared.spec.retrain.on_quality_failure == "last_good"
    lines = [
        f"# New data of `{found.source}` failed its audit", "",
        f"{found.rows:,} rows are kept on the branch `{found.branch}`; nothing that is used has changed.",
        "The model in production stays. Until newer data passes, runs "
        + ("train on the last good snapshot, as declared." if good else "train nothing."),
        "", "## What failed", "", *(f"{rank}. {item.words}" for rank, item in enumerate(causes, 1)), "", "## What to do", "",
        f"    engine data quarantine show {found.branch}",
        f"    engine data diff {spec.sources[found.source].branch} {found.branch} {found.source}",
        f"    engine data quarantine release {found.branch} --reason …    # if the data is right",
        f"    engine data quarantine drop {found.branch}                  # if it is not; mend it at its source", "",
    ]  # fmt: skip
    lines += [f"Every difference: {page}", ""] if page else []
    lines += [spec.runbook, ""] if spec.runbook else []
    return "\n".join(lines)
