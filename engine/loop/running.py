"""The run of a request: the pipeline as declared, at its moment, as far as the request's kind goes. Called by `work`.

`observe` ingests and audits what is new, counts labels when a trigger wants to know, and watches: monitors, the guard after a
promotion, the rollout. `diagnose` does the same for data that failed, and keeps what it found; `train` runs everything. What
the run saw of the sources becomes the content that triggers compare.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from engine.api import declare, plan
from engine.clock import Clock
from engine.errors import EngineError, ExitCode
from engine.execute.request import Observer
from engine.locations import Stores
from engine.loop.diagnosing import diagnose, resolve
from engine.loop.watching import needs_features, watch
from engine.loop.work import Outcome
from engine.loop_records import RunRequest
from engine.project import Project
from engine.provenance import GitProbe
from engine.records import Event, RunRecord
from engine.running import Around, RunOptions, execute_run
from engine.runs import list_folders

_LOOKING = ("ingest", "checkout")
_LATEST = 50  # runs among which a dead process's last one is
_AGAIN = frozenset({int(ExitCode.LOCKED), int(ExitCode.UNAVAILABLE), int(ExitCode.INTERRUPTED)})


class Silent:
    """An observer that tells nobody: the journal in the run's folder has it all."""

    def on_event(self, event: Event) -> None:
        """Hear, and say nothing."""


def run_request(project: Project, request: RunRequest, clock: Clock, observer: Observer | None = None) -> Outcome:
    """Run a request's pipeline; raises `EngineError` for what prevents a run from being recorded at all."""
    overrides = [f"pipeline={request.pipeline}", *request.overrides]
    overrides += [f"as_of='{request.as_of}'"] if request.as_of else []
    planned = plan(declare(project, overrides))
    planned = replace(planned, stores=replace(planned.stores, clock=clock))
    counted = any(trigger.kind == "new_labels" for trigger in planned.declared.spec.triggers.values())
    nodes = None
    if request.kind != "train":
        kinds = (*_LOOKING, "features") if counted or needs_features(planned) else _LOOKING
        nodes = frozenset(node.name for node in planned.plan.nodes if node.kind in kinds)
    reasons = "; ".join(f"{name}: {why}" for name, why in request.reasons.items())
    options = RunOptions(nodes=nodes, command=("engine", "tick", f"--work={request.key[:12]}", reasons))
    around = Around(observer or Silent(), clock, GitProbe(project.root).start())
    record = finished_before(planned.stores, options.command[2]) or execute_run(planned, options, around)[0]
    quarantined, notes = _quarantined(record), tuple[str, ...]()
    if quarantined:
        notes = diagnose(planned, record, quarantined, clock, compared=request.kind == "diagnose")
    elif record.exit_code == 0:
        resolve(planned, clock)
        if request.kind != "train":
            notes = watch(planned, record, clock, simulated=request.as_of is not None)
    return Outcome(record, record.exit_code, record.error, _content(record), quarantined, _labels(record), notes)


def finished_before(stores: Stores, mark: str) -> RunRecord | None:
    """Give the record of a run that a dead process had finished for the same request: who adopts it need only tell.

    `mark` is the word of a run's command that names the request. Runs that stopped half-way are no answer: the next one goes
    on from the nodes that they finished.
    """
    for folder in reversed(list_folders(stores.runs_root)[-_LATEST:]):
        try:
            record = folder.read_record()
        except EngineError:
            continue
        if mark in record.command and record.status not in {"running", "interrupted"}:
            if record.exit_code in _AGAIN:
                return None
            stores.index.record_run(record, str(folder.path))
            return record
    return None


def _content(record: RunRecord) -> dict[str, str]:
    """Give what each source held, by the digest of its ingested content."""
    return {pin.source: pin.digest for pin in record.snapshots}


def _quarantined(record: RunRecord) -> tuple[str, ...]:
    """Name the sources whose new data did not pass."""
    failed = [node.name for node in record.nodes if node.state == "failed" and node.kind in _LOOKING]
    return tuple(name.removeprefix("ingest.") for name in failed if record.exit_code == ExitCode.QUARANTINED)


def _labels(record: RunRecord) -> int | None:
    rows: list[Mapping[str, object]] = [
        node.output.notes for node in record.nodes if node.kind == "features" and node.output is not None
    ]
    found = rows[0].get("rows") if rows else None
    return found if isinstance(found, int) else None
