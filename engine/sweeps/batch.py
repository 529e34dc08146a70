"""One batch of trials: folders, one merged DAG, and the record of each trial the moment that its last node ends.

Enters: planned trials. Leaves: a `TrialRecord` each; its run in the index and its folder. Called by `sweep`.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Protocol

import msgspec

from engine.api import Planned
from engine.clock import isoformat
from engine.errors import EngineError, ExitCode
from engine.execute.journal import Journal
from engine.execute.request import ExecuteRequest
from engine.execute.run import execute
from engine.execute.seats import Stops
from engine.nodes import BODIES
from engine.plan.model import PlanNode
from engine.recording import Documents, complete_record
from engine.records import NodeResult, RunRecord, TunedMetric
from engine.running import Around, RunOptions, describe_start, new_folder, place_of
from engine.runs import RunFolder, open_folder, write_start
from engine.sweep_records import TrialRecord
from engine.sweeps.board import Board, TrialRun
from engine.sweeps.merging import Merged, merge
from engine.sweeps.planning import Trial
from engine.trackers.posting import post

_TUNING = frozenset({"ingest", "checkout", "features", "split", "train", "tune"})
_NOT_BASELINE = "baseline"  # trains like the model, and only evaluation needs it
_REASON = "only the best trial of the sweep is judged"


class Pruner(Protocol):
    """Who stops trials that lose; lower values are better."""

    def hear(self, trial: int, step: int, value: float) -> str | None:
        """Hear an intermediate value; gives the reason to stop the trial, or nothing."""
        ...

    def verdict(self, trial: int) -> str | None:
        """Give the reason for which a trial was stopped, also when it had ended before it could be."""
        ...


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """What a batch needs besides its trials: the sweep, where its journal is, how many side by side, who is told."""

    sweep: int
    folder: RunFolder
    options: RunOptions
    around: Around
    workers: int
    judge_all: bool
    told: Callable[[TrialRecord], None]
    pruner: Pruner | None = None
    known: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BatchResult:
    """How a batch went: its trials in order, how many nodes it executed, and how many different ones it has."""

    trials: tuple[TrialRecord, ...]
    executed: int = 0
    distinct: int = 0
    interrupted: bool = False


def run_batch(trials: Sequence[Trial], request: BatchRequest) -> BatchResult:
    """Run trials; what is wrong with one stops that one. Raises what prevents any of them from being recorded."""
    planned = {trial.number: trial for trial in trials if trial.planned is not None}
    broken = tuple(_broken(trial) for trial in trials if trial.planned is None)
    for record in broken:
        request.told(record)
    if not planned:
        return BatchResult(broken)
    with ExitStack() as stack:
        batch = _Batch(planned, request, stack)
        result = batch.run()
    done = sorted((*broken, *result.trials), key=lambda record: record.number)
    return replace(result, trials=tuple(done))


def describe_trial(trial: Trial, **known: object) -> TrialRecord:
    """Give a trial's record with what is known of it."""
    pipeline = trial.planned.plan.pipeline if trial.planned else ""
    base = TrialRecord(
        number=trial.number, state="planned", params=dict(trial.params), overrides=trial.overrides, pipeline=pipeline
    )
    return msgspec.structs.replace(base, **known)


def _broken(trial: Trial) -> TrialRecord:
    error = trial.error or EngineError("it could not be planned")
    return describe_trial(trial, state="failed", error=str(error), exit_code=int(error.exit_code))


class _Batch:
    """The state of one batch."""

    def __init__(self, trials: Mapping[int, Trial], request: BatchRequest, stack: ExitStack) -> None:
        self._trials = trials
        self._request = request
        self._plans = {number: _planned(trial) for number, trial in trials.items()}
        self._first = next(iter(self._plans.values()))
        self._folders: dict[int, RunFolder] = {}
        self._started: dict[int, RunRecord] = {}
        self._records: dict[int, TrialRecord] = {}
        self._ended: queue.SimpleQueue[tuple[int, Mapping[str, NodeResult], Mapping[int, float]] | None] = (
            queue.SimpleQueue()
        )
        self._failure: BaseException | None = None
        for number in trials:
            self._open(number, stack)

    def run(self) -> BatchResult:
        """Execute the merged DAG and record every trial."""
        request = self._request
        wanted = {number: self._wanted(planned) for number, planned in self._plans.items()}
        chosen = {
            number: msgspec.structs.replace(planned.plan, nodes=wanted[number])
            for number, planned in self._plans.items()
        }
        merged = merge(chosen, {node.kind for nodes in wanted.values() for node in nodes})
        stops = Stops() if request.pruner is not None else None
        runs = {
            number: TrialRun(number, self._folders[number].run_id, frozenset(node.name for node in wanted[number]))
            for number in self._plans
        }
        worker = threading.Thread(target=self._record_ended, name="trials", daemon=True)
        worker.start()
        place = place_of(self._first, f"sweep-{request.sweep}")
        try:
            with Journal(request.folder.events) as journal:
                board = Board(merged, runs, journal, request.around.observer, self._enqueue, self._pruning(stops))
                results = execute(
                    merged.plan, self._execution(merged, stops), place, self._first.stores.artefacts, board
                )
                for result in results:
                    board.settle(result)
        finally:
            self._ended.put(None)
            worker.join()
        if self._failure is not None:
            raise self._failure
        interrupted = any(record.state == "interrupted" for record in self._records.values())
        return BatchResult(tuple(self._records.values()), board.executed, len(merged.plan.nodes), interrupted)

    def _open(self, number: int, stack: ExitStack) -> None:
        """Give a trial its folder: the one it had before the sweep was killed, or a new one."""
        planned, request = self._plans[number], self._request
        known = request.known.get(number)
        folder = open_folder(planned.stores.runs_root, known) if known is not None else new_folder(planned)
        stack.enter_context(folder.hold())
        started = describe_start(planned, request.options, request.around.clock, folder.run_id)
        overrides = self._trials[number].overrides
        started = msgspec.structs.replace(started, sweep=request.sweep, trial=number, overrides=overrides)
        write_start(folder, started, planned.plan, planned.declared.config, planned.declared.spec)
        planned.stores.index.record_run(started, str(folder.path), planned.declared.config.values)
        self._folders[number], self._started[number] = folder, started
        request.told(describe_trial(self._trials[number], run_id=folder.run_id))

    def _wanted(self, planned: Planned) -> tuple[PlanNode, ...]:
        """Give the nodes that a trial runs: up to its measurement, or, when all are judged, all but effects."""
        nodes = (node for node in planned.plan.nodes if not node.effect)
        if self._request.judge_all:
            return tuple(nodes)
        return tuple(node for node in nodes if node.kind in _TUNING and node.name != _NOT_BASELINE)

    def _execution(self, merged: Merged, stops: Stops | None) -> ExecuteRequest:
        settings = self._first.declared.settings
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        limit = settings.execute.threads
        threads = max(1, limit or cores // self._request.workers)
        return ExecuteRequest(
            bodies=BODIES,
            address=settings.dask.address,
            workers=self._request.workers,
            threads=threads,
            clock=self._request.around.clock,
            wide=merged.wide,
            cores=max(cores, threads),
            stops=stops,
        )

    def _pruning(self, stops: Stops | None) -> Callable[[int, str, int, float], None]:
        def hear(number: int, node: str, step: int, value: float) -> None:
            pruner = self._request.pruner
            reason = pruner.hear(number, step, value) if pruner is not None else None
            if reason is not None and stops is not None:
                stops.stop(node, reason)

        return hear

    def _enqueue(self, number: int, results: Mapping[str, NodeResult], measured: Mapping[int, float]) -> None:
        self._ended.put((number, dict(results), dict(measured)))

    def _record_ended(self) -> None:
        """Record trials as they end, beside the nodes that still run."""
        while (item := self._ended.get()) is not None:
            try:
                self._record(*item)
            except BaseException as error:  # noqa: BLE001 - raised by `run`, when the DAG has ended
                self._failure = self._failure or error

    def _record(self, number: int, results: Mapping[str, NodeResult], measured: Mapping[int, float]) -> None:
        trial, planned, folder = self._trials[number], self._plans[number], self._folders[number]
        every = tuple(results.get(node.name) or _left_out(node) for node in planned.plan.nodes)
        documents = Documents(planned.stores.artefacts, {result.name: result for result in every})
        record = complete_record(self._started[number], planned.plan, every, documents)
        pruner = self._request.pruner
        pruned = pruner.verdict(number) if pruner is not None else None
        if pruned is not None:
            record = msgspec.structs.replace(record, status="pruned", error=pruned, exit_code=0)
        tuned = read_tuned(trial, documents) if pruned is None else ()
        seconds = sum(result.seconds for result in results.values() if result.state == "ran")
        record = msgspec.structs.replace(
            record,
            tuned=tuned,
            git=self._request.around.git.read(),
            finished_at=isoformat(self._request.around.clock.now()),
            seconds=seconds,
        )
        folder.write_record(record)
        planned.stores.index.record_run(record, str(folder.path))
        post(planned.stores, record, planned.declared.config.values, str(folder.path), self._request.around.clock)
        states = [result.state for result in results.values()]
        self._records[number] = describe_trial(
            trial,
            run_id=folder.run_id,
            state=record.status,
            tuned=tuned,
            intermediate=dict(measured),
            seconds=seconds,
            ran=states.count("ran"),
            shared=sum(result.reason.startswith("computed once for this sweep") for result in results.values()),
            error=record.error,
            exit_code=record.exit_code,
        )
        self._request.told(self._records[number])


def read_tuned(trial: Trial, documents: Documents) -> tuple[TunedMetric, ...]:
    """Read what a trial was measured at, in the order of its objectives."""
    found = documents.notes("tune").get("tuned")
    if not found:
        return ()
    proof = {
        name: found[name] for name in ("part", "rows", "rows_digest", "judged_rows", "judged_digest", "shared_rows")
    }
    return tuple(
        TunedMetric(
            name=objective.name,
            value=found["metrics"].get(objective.name),
            higher_is_better=objective.higher_is_better,
            **proof,
        )
        for objective in trial.objectives
    )


def _left_out(node: PlanNode) -> NodeResult:
    return NodeResult(name=node.name, kind=node.kind, state="skipped", reason=_REASON)


def _planned(trial: Trial) -> Planned:
    if trial.planned is None:
        raise EngineError(f"trial {trial.number} has no plan", hint=str(ExitCode.INTERNAL))
    return trial.planned
