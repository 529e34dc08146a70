"""One run: a plan executed, its promotion, its record and its report. The last part of the chain in `engine.api`.

Enters: a `Planned` and what the command line asks beyond it. Leaves: `runs/<id>/`, a row in the index, perhaps a new champion.
"""

from __future__ import annotations

import getpass
import importlib
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from engine.api import Planned
from engine.clock import Clock, isoformat, stopwatch
from engine.contracts import Place
from engine.errors import EngineError
from engine.execute.journal import Journal
from engine.execute.request import ExecuteRequest, Observer, select
from engine.execute.run import execute
from engine.keys import digest
from engine.nodes import BODIES
from engine.nodes.promote import Promotion, promote
from engine.plan.model import settle
from engine.provenance import GitProbe, read_environment
from engine.recording import Documents, Shown, complete_record, report_content
from engine.records import Event, NodeCounts, NodeResult, RunAnswer, RunRecord
from engine.runs import RunFolder, create_folder, list_folders, previous_run, write_start
from engine.trackers.posting import post, start_sender


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What one run is asked beyond its declaration. `force` maps a node to the reason why it runs although cached.

    `nodes` are all that may run, instead of `from_`, `to` and `only`.
    """

    from_: str | None = None
    to: str | None = None
    only: str | None = None
    nodes: frozenset[str] | None = None
    force: Mapping[str, str] = field(default_factory=dict)
    sample: str | None = None
    command: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Around:
    """What a run gets from outside: who watches, what time it is, and what git says."""

    observer: Observer
    clock: Clock
    git: GitProbe


def execute_run(planned: Planned, options: RunOptions, around: Around) -> tuple[RunRecord, RunFolder]:
    """Execute a plan, promote, record, report; the record says how it went, whatever happened.

    Raises `EngineError` for what a command line got wrong, and for what prevents a run from being recorded at all. After
    Ctrl-C the record is written with the status `interrupted`.
    """
    request_of(planned, options)  # which refuses what cannot be asked, before there is a folder
    planned.stores.artefacts.sweep_staging()
    folder = new_folder(planned)
    with folder.hold():
        started = describe_start(planned, options, around.clock, folder.run_id)
        return carry_out(planned, options, around, folder, started), folder


def new_folder(planned: Planned) -> RunFolder:
    """Make a folder under the next id, which is above that of every folder that is there."""
    stores = planned.stores
    latest = list_folders(stores.runs_root)
    return create_folder(stores.runs_root, str(stores.index.next_run_id(int(latest[-1].run_id) if latest else 0)))


def carry_out(
    planned: Planned, options: RunOptions, around: Around, folder: RunFolder, started: RunRecord
) -> RunRecord:
    """Run a plan in its folder, from the first record to the report; who calls it holds the folder."""
    stores, watch = planned.stores, stopwatch()
    write_start(folder, started, planned.plan, planned.declared.config, planned.declared.spec)
    stores.index.record_run(started, str(folder.path), planned.declared.config.values)
    effects = {
        "promote": lambda node, results: promote(
            node, results, _promotion(planned, options, started, around.git, results)
        )
    }
    threading.Thread(target=importlib.import_module, args=("engine.report.page",), daemon=True).start()
    request = replace(request_of(planned, options), effects=effects)
    record, results = _execute(planned, request, folder, started, around)
    documents = Documents(stores.artefacts, {result.name: result for result in results})
    record = msgspec.structs.replace(
        record,
        git=around.git.read(),
        finished_at=isoformat(around.clock.now()),
        seconds=stopwatch() - watch,
        report=str(folder.report),
    )
    from engine.report.page import render_report  # noqa: PLC0415 - imported above, beside the nodes

    before = [item for item in list_folders(stores.runs_root) if int(item.run_id) < int(folder.run_id)]
    content = report_content(record, planned.plan, documents, _shown(planned, before, documents.results))
    folder.write(folder.report.name, render_report(content).encode())
    folder.write_record(record)
    stores.index.record_run(record, str(folder.path))
    if post(stores, record, planned.declared.config.values, str(folder.path), around.clock):
        start_sender(stores)
    return record


def answer(record: RunRecord, folder: RunFolder) -> RunAnswer:
    """Give what `engine run --json` prints."""
    states = [node.state for node in record.nodes]
    return RunAnswer(
        run_id=record.run_id,
        pipeline=record.pipeline,
        status=record.status,
        verdict=record.verdict,
        model=record.model,
        promoted=record.promoted,
        metrics={metric.name: metric.value for metric in record.metrics},
        intervals={metric.name: (metric.low, metric.high) for metric in record.metrics},
        nodes=NodeCounts(
            ran=states.count("ran"),
            cached=states.count("cached"),
            failed=states.count("failed"),
            skipped=states.count("skipped"),
        ),
        seconds=record.seconds,
        report=record.report,
        run_dir=str(folder.path),
        exit_code=record.exit_code,
        error=record.error,
    )


@dataclass(frozen=True, slots=True)
class _Both:
    """The journal first: what people are told has been written down."""

    journal: Journal
    display: Observer

    def on_event(self, event: Event) -> None:
        self.journal.on_event(event)
        self.display.on_event(event)


def _execute(
    planned: Planned, request: ExecuteRequest, folder: RunFolder, started: RunRecord, around: Around
) -> tuple[RunRecord, tuple[NodeResult, ...]]:
    """Run the nodes; what stops the whole execution becomes a failed record."""
    store = planned.stores.artefacts
    try:
        with Journal(folder.events) as journal:
            results = execute(
                planned.plan, request, place_of(planned, folder.run_id), store, _Both(journal, around.observer)
            )
    except EngineError as error:
        failed = msgspec.structs.replace(started, status="failed", error=str(error), exit_code=int(error.exit_code))
        return failed, ()
    documents = Documents(store, {result.name: result for result in results})
    return complete_record(started, planned.plan, results, documents), results


def _shown(planned: Planned, latest: Sequence[RunFolder], results: Mapping[str, NodeResult]) -> Shown:
    """Name the champion that the run was compared with, and find the pipeline's run before it."""
    spec, rival = planned.declared.spec, _rival(planned, results)
    name = spec.registry.model or spec.name
    versions = planned.stores.registry.versions(name) if rival else []
    label = next((f"{name}:{item.version}" for item in versions if item.digest == rival), None)
    return Shown(label, previous_run(latest, spec.name), spec.report.top_features, spec.report.max_slices)


def describe_start(planned: Planned, options: RunOptions, clock: Clock, run_id: str) -> RunRecord:
    """Give the record of a run that begins."""
    declared = planned.declared
    return RunRecord(
        run_id=run_id,
        pipeline=declared.spec.name,
        status="running",
        started_at=isoformat(clock.now()),
        command=options.command,
        overrides=tuple(declared.config.overrides),
        config_digest=digest(declared.config.values),
        plan_digest=planned.plan.digest,
        seeds={"train": declared.spec.train.seed, "evaluate": declared.spec.evaluate.seed},
        environment=read_environment(),
        sample=options.sample,
    )


def request_of(planned: Planned, options: RunOptions) -> ExecuteRequest:
    """Say how to execute, without effects; raises `UsageError` for nodes that do not exist."""
    settings = planned.declared.settings
    return ExecuteRequest(
        bodies=BODIES,
        address=settings.dask.address,
        workers=settings.execute.workers,
        threads=settings.execute.threads,
        selected=options.nodes or select(planned.plan, options.from_, options.to, options.only),
        force=options.force,
    )


def _rival(planned: Planned, results: Mapping[str, NodeResult]) -> str | None:
    """Give the package that the challenger was compared with: the champion's, or the one that the champion had beaten."""
    node = planned.plan.node("evaluate")
    outputs = {role: results[name].output for role, name in node.inputs.items() if name in results}
    rival: str | None = settle(node, {role: item.digest for role, item in outputs.items() if item})["champion"]
    return rival


def _promotion(
    planned: Planned, options: RunOptions, started: RunRecord, git: GitProbe, results: Mapping[str, NodeResult]
) -> Promotion:
    stores, declared, champion = planned.stores, planned.declared, planned.inputs.champion
    return Promotion(
        store=stores.artefacts,
        registry=stores.registry,
        run_id=started.run_id,
        pipeline=declared.spec.name,
        actor=getpass.getuser(),
        champion_version=champion.version if champion else None,
        compared_with=_rival(planned, results),
        provenance={
            "run_id": started.run_id,
            "created_at": started.started_at,
            "plugins": list(planned.plugins),
            "config": declared.config.values,
            "git": msgspec.to_builtins(git.read()),
            "environment": msgspec.to_builtins(started.environment),
        },
        sampled=options.sample is not None,
    )


def place_of(planned: Planned, run_id: str) -> Place:
    """Give bodies where they may look."""
    stores, settings = planned.stores, planned.declared.settings
    return Place(
        root=planned.declared.project.root,
        snapshots=stores.snapshots_url,
        artefacts=str(stores.artefacts_root),
        plugins=planned.plugins,
        threads=settings.execute.threads or os.cpu_count() or 1,
        run_id=run_id,
        cluster=settings.dask.address,
    )
