"""A project's online state, filled for a declared pipeline. Called by `engine features materialize`, and by schedules.

Enters: a checked declaration. Leaves: a `MaterializeReport`. This is where settings, snapshots and the state meet.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from engine.api import Declared
from engine.clock import SystemClock, isoformat, stopwatch
from engine.contracts import Progress
from engine.durations import microseconds
from engine.online.materialise import Filled, Materialiser, Published
from engine.online.opening import drop, open_cells, programs_of, register
from engine.online.state import EventState
from engine.online_records import MaterializedSource, MaterializeReport
from engine.spec import PipelineSpec
from engine.stores.snapshots import open_snapshots


def fill_state(
    declared: Declared, progress: Progress, *, rebuild: bool = False, drop_others: bool = False
) -> MaterializeReport:
    """Bring the state of the declared program to the heads of its sources; raises `EngineError`."""
    started = stopwatch()
    stores, spec = declared.settings.stores, declared.spec
    model, program = spec.registry.model or spec.name, declared.logical.program
    url = declared.project.locate(stores.online, "online")
    cells = open_cells(url, model, declared.catalogue)
    try:
        if rebuild:
            drop(cells, program.digest)
        state = register(cells, program, isoformat(SystemClock().now()))
        snapshots = open_snapshots(declared.project.locate(stores.snapshots, "snapshots"))
        filled = Materialiser(state, snapshots, published(spec), progress).fill()
        forgotten = _forget(state, declared.settings.online.retention)
        if drop_others:
            for digest in programs_of(cells):
                if digest != program.digest:
                    drop(cells, digest)
        return MaterializeReport(
            pipeline=spec.name, model=model, program=program.digest, place=_redacted(url), rebuilt=rebuild,
            sources=tuple(_record(item, state) for item in filled), forgotten=forgotten,
            durability=cells.durability(), seconds=stopwatch() - started,
        )  # fmt: skip
    finally:
        cells.close()


def published(spec: PipelineSpec) -> Mapping[str, Published]:
    """Where each source of a declaration is published."""
    return {name: Published(source.repository, source.ref or source.branch) for name, source in spec.sources.items()}


def _forget(state: EventState, retention: str | None) -> int:
    """Expire what no replay within the retention reaches, counted back from the latest event."""
    if retention is None:
        return 0
    latest = [state.watermark(name).available for name in state.program.feature_sources]
    known = [moment for moment in latest if moment is not None]
    return state.expire(max(known) - microseconds(retention)) if known else 0


def _record(item: Filled, state: EventState) -> MaterializedSource:
    return MaterializedSource(
        source=item.source, commit=item.commit, previous=item.previous, objects=item.objects, added=item.added,
        repeated=item.repeated, removed=item.removed, unknowable=item.unknowable, expired=item.expired,
        events=state.watermark(item.source).events, seconds=item.seconds,
    )  # fmt: skip


def _redacted(url: str) -> str:
    """A URL without user and password.

    >>> _redacted("redis://:secret@cache:6379/0")
    'redis://cache:6379/0'
    """
    parts = urlsplit(url)
    if "://" not in url or parts.hostname is None:
        return url
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"
