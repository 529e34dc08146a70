"""Watching, as a part of an observation: monitors that are due, the guard after a promotion, the rollout's next step.

Enters: a plan that was looked at by a run, and the run's record. Leaves: readings, alerts, perhaps a rollout's next step, and
notes that the ledger keeps. Called by `running`. What goes wrong here is a note: an observation has looked at data all the same.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from engine.api import Planned
from engine.clock import Clock
from engine.durations import microseconds
from engine.errors import ConflictError, EngineError
from engine.locations import Stores
from engine.loop.asking import chunk_length
from engine.records import RunRecord
from engine.spec import PipelineSpec
from engine.stores import rollouts
from engine.watch_records import Reading

if TYPE_CHECKING:
    import polars as pl


def needs_features(planned: Planned) -> bool:
    """Say whether rows to watch have to be computed: the server logs none, or two versions are to be compared on them."""
    spec, stores = planned.declared.spec, planned.stores
    held = stores.registry.alias(spec.registry.model or spec.name, spec.registry.alias)
    if held is None:
        return False
    from engine.watch.guarding import rivals  # noqa: PLC0415 - imports data libraries

    unlogged = not _is_logged(planned, held.name)
    return (unlogged and bool(spec.monitors or spec.rollout)) or rivals(planned.declared, stores) is not None


def watch(planned: Planned, record: RunRecord, clock: Clock, *, simulated: bool) -> tuple[str, ...]:
    """Run everything that looks at rows; gives what there is to tell."""
    spec, stores = planned.declared.spec, planned.stores
    if stores.registry.alias(spec.registry.model or spec.name, spec.registry.alias) is None:
        return ()
    try:
        return _watch(planned, _fresh(planned, record), clock, simulated=simulated)
    except EngineError as error:
        return (f"not watched: {error.message}",)


def _watch(planned: Planned, fresh: Path | None, clock: Clock, *, simulated: bool) -> tuple[str, ...]:
    import polars as pl  # noqa: PLC0415 - a tick imports no data library; its child does

    from engine.watch.guarding import GUARD, guard  # noqa: PLC0415
    from engine.watch.observations import open_observations, visible  # noqa: PLC0415
    from engine.watch.readings import Readings  # noqa: PLC0415
    from engine.watch.running import Asked, monitor_seen, now_of  # noqa: PLC0415

    declared, stores, notes = planned.declared, planned.stores, []
    seen = open_observations(declared, stores, None, None, fresh)
    now = clock.now() if simulated else now_of(seen, clock)
    readings = Readings(stores.database)
    if declared.spec.monitors:
        since = _since(declared.spec, readings.readings(declared.spec.name), seen.model)
        report = monitor_seen(declared, stores, seen, Asked(at=now, since=since), clock, lambda _: None)
        alarms = sorted({f"{item.monitor} {item.slice}".strip() for item in report.readings if item.status == "alarm"})
        notes.append(f"monitors: {report.chunks} chunks, alarms: {', '.join(alarms) or 'none'}")
        if report.undelivered:
            notes.append(f"{report.undelivered} messages could not be delivered yet")
    rows = visible(pl.read_parquet(fresh), now) if fresh is not None else None
    found = guard(declared, stores, rows, now) if rows is not None else None
    if found is not None:
        readings.record([found], [], [])
        notes.append(f"{GUARD}: {found.status}: {found.words}")
    if declared.spec.rollout is not None:
        notes += _judge(planned, rows, clock)
    return tuple(notes)


def _judge(planned: Planned, rows: pl.DataFrame | None, clock: Clock) -> list[str]:
    """Take the rollout's next step, if one is due: by the server's log, or by what came since where nobody serves."""
    from engine.serve.judging import decide, judge  # noqa: PLC0415 - as above
    from engine.watch.guarding import replay_rollout  # noqa: PLC0415

    declared, stores = planned.declared, planned.stores
    model, home = declared.spec.registry.model or declared.spec.name, declared.project.home
    before = rollouts.current(stores.registry, model)
    if before is None or before.status != "running":
        return []
    try:
        if rows is None or _is_logged(planned, model) or _is_gone(stores, before.alias, before.champion, model):
            after = judge(stores.registry, home / "predictions", home / "feedback", model, clock.now())
        else:
            after = decide(stores.registry, before, replay_rollout(declared, stores, rows, before), clock.now())
    except ConflictError as error:  # a server took the step, or somebody moved the alias: that is written already
        return [f"rollout: {error.message}"]
    moved = after is not None and after.sequence != before.sequence
    return [f"rollout: {after.status}: {after.reason}"] if moved and after is not None else []


def _is_logged(planned: Planned, model: str) -> bool:
    return any((planned.declared.project.home / "predictions" / model).glob("*"))


def _is_gone(stores: Stores, alias: str, champion: int, model: str) -> bool:
    held = stores.registry.alias(model, alias)
    return held is None or held.version != champion


def _fresh(planned: Planned, record: RunRecord) -> Path | None:
    """Give the file of features that the run made or found, if it did."""
    output = next((node.output for node in record.nodes if node.kind == "features" and node.output), None)
    return planned.stores.artefacts.open(output.digest) / "rows.parquet" if output is not None else None


def _since(spec: PipelineSpec, known: list[Reading], model: str) -> datetime | None:
    """Give from when on chunks are due: those whose labels may have come since, and all of them for a new model."""
    ends = [datetime.fromisoformat(item.end) for item in known if item.model == model and item.kind != "guard"]
    if not ends or spec.watch.chunk.by is None:
        return None
    return max(ends) - timedelta(microseconds=microseconds(spec.label.maturity)) - 2 * chunk_length(spec.watch.chunk.by)
