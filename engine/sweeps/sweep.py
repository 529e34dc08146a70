"""One sweep, from its first batch to the promotion of its best trial; killed anywhere, the same command goes on with it.

Enters: batches of overrides, from whatever proposes them (Hydra's sweeper, Optuna). Leaves: a run a trial,
`runs/sweep-<n>/` with journal, `sweep.json` and `sweep.html`, and perhaps a new champion. Called by `engine run -m`.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec

from engine.clock import isoformat, stopwatch
from engine.errors import EngineError, ExitCode, UsageError
from engine.keys import digest
from engine.locations import Stores
from engine.plan.model import declared_identity
from engine.project import Project
from engine.records import Event, NodeResult, RunRecord
from engine.running import Around, RunOptions, carry_out, describe_start
from engine.runs import RunFolder, open_folder
from engine.spec import SettingsSpec
from engine.stores.sweeps_index import SweepRow, TrialRow
from engine.sweep_records import SweepRecord, TrialRecord
from engine.sweeps.batch import BatchRequest, Pruner, run_batch
from engine.sweeps.importance import importances
from engine.sweeps.planning import Objective, Trial, TrialPlanner
from engine.sweeps.ranking import pareto_front, rank_trials
from engine.trackers.posting import start_sender

_ENDED = frozenset({"succeeded", "pruned"})


class Board(Protocol):
    """Who shows a sweep to people."""

    def on_event(self, event: Event) -> None:
        """Hear an event of a node."""
        ...

    def on_trial(self, trial: TrialRecord) -> None:
        """Hear that a trial began or ended."""
        ...


@dataclass(frozen=True, slots=True)
class SweepRequest:
    """What a sweep is asked: the words that identify it, which keys it sweeps (empty: all), the study if any."""

    project: Project
    identity: Any
    fixed: frozenset[str]
    options: RunOptions
    sample: float | None = None


@dataclass
class Sweep:
    """The state of a sweep; made before the first batch is known."""

    request: SweepRequest
    around: Around
    board: Board
    planner: TrialPlanner = field(init=False)
    trials: dict[int, TrialRecord] = field(default_factory=dict)
    resumed: int = 0
    executed: int = 0
    distinct: int = 0
    study: str | None = None
    swept: frozenset[str] = frozenset()
    _plans: dict[int, Trial] = field(default_factory=dict)
    _row: SweepRow | None = None
    _known: dict[int, TrialRow] = field(default_factory=dict)
    _watch: Callable[[], float] = field(default=lambda: 0.0)
    _since: float = 0.0
    _hold: Any = None
    _settings: SettingsSpec | None = None

    def __post_init__(self) -> None:
        self.planner = TrialPlanner(self.request.project, self.request.sample)
        self._since = stopwatch()

    @property
    def row(self) -> SweepRow:
        """The sweep's row; raises `EngineError` before the first batch."""
        if self._row is None:
            raise EngineError("the sweep has no trial yet")
        return self._row

    @property
    def folder(self) -> RunFolder:
        """The sweep's own folder."""
        return RunFolder(Path(self.row.folder))

    def begin(self, overrides: Sequence[str], swept: frozenset[str]) -> tuple[tuple[Objective, ...], str]:
        """Begin before the first batch is proposed: gives objectives and the pipeline's name; raises what planning raises."""
        self.swept = swept
        first = self.planner.plan(-1, overrides, {})
        if first.planned is None:
            raise first.error or EngineError("it could not be planned")
        self._begin(first)
        return first.objectives, first.planned.plan.pipeline

    def name_study(self, name: str) -> None:
        """Note which study proposes the trials."""
        self.study = name

    @property
    def is_remote(self) -> bool:
        """Say whether nodes run on an existing scheduler, where a single one cannot be stopped."""
        return self._settings is not None and self._settings.dask.address is not None

    @property
    def workers(self) -> int:
        """How many trials run side by side."""
        if self._settings is None:
            raise EngineError("the sweep has no trial yet")
        settings = self._settings
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return settings.sweep.workers or max(settings.execute.workers, cores // (settings.execute.threads or 1), 1)

    def run(self, jobs: Sequence[Sequence[str]], first: int, pruner: Pruner | None = None) -> list[TrialRecord]:
        """Run a batch, leaving out what had ended before the sweep was killed; gives its trials in order.

        Raises the error of the trials when none can be planned, and `KeyboardInterrupt` after an interruption.
        """
        if not jobs:
            raise UsageError("there is nothing to try", hint="give a swept key at least one value")
        plans = [self.planner.plan(first + index, job, self._params(job)) for index, job in enumerate(jobs)]
        if all(plan.error is not None for plan in plans) and not self.trials:
            raise next(plan.error for plan in plans if plan.error is not None)
        self._plans |= {plan.number: plan for plan in plans}
        ready = next(plan for plan in self._plans.values() if plan.planned is not None)
        self._begin(ready)
        kept = {plan.number: found for plan in plans if (found := self._ended_before(plan)) is not None}
        for record in kept.values():
            self.trials[record.number] = record
            self.resumed += 1
            self.board.on_trial(record)
        todo = [plan for plan in plans if plan.number not in kept]
        if todo:
            result = run_batch(todo, self._batch(ready, pruner, len(todo)))
            self.executed += result.executed
            self.distinct += result.distinct
            if result.interrupted:
                self._write(ready, "stopped")
                raise KeyboardInterrupt
        return [self.trials[plan.number] for plan in plans]

    def conclude(self) -> SweepRecord:
        """Judge and promote the best trial, and write the sweep down."""
        ready = next((plan for plan in self._plans.values() if plan.planned is not None), None)
        if ready is None:
            raise EngineError("no trial was planned")
        judged: dict[str, Any] = {}
        ranked = self._ranked()
        best = ranked[0] if ranked and ranked[0].rank == 1 else None
        if best is not None:
            record = self._judge(self._plans[best.number], best)
            judged = {
                "best": best.number,
                "best_run": best.run_id,
                "verdict": record.verdict,
                "model": record.model,
                "promoted": record.promoted,
                "exit_code": record.exit_code,
            }
        return self._write(ready, "finished", **judged)

    def close(self) -> None:
        """Let go of the sweep's lock."""
        if self._hold is not None:
            os.close(self._hold)
            self._hold = None

    def _params(self, job: Sequence[str]) -> dict[str, str]:
        """Give what was swept of a trial's overrides."""
        found: dict[str, str] = {}
        for text in job:
            key, _, value = text.lstrip("+").partition("=")
            if key in self.swept or (not self.swept and key not in self.request.fixed):
                found[key] = value
        return found

    def _begin(self, ready: Trial) -> None:
        """Find the sweep to go on with, or start one."""
        if self._row is not None or ready.planned is None:
            return
        stores = ready.planned.stores
        self._settings = ready.planned.declared.settings
        declared: Any = [declared_identity(node) for node in ready.planned.plan.nodes if node.kind not in _JUDGING]
        identity = digest({"asked": self.request.identity, "nodes": declared, "sample": self.request.sample})
        for row in stores.sweeps.unfinished(identity):
            held = _hold(Path(row.folder))
            if held is not None:
                self._row, self._hold = row, held
                self._known = {trial.number: trial for trial in stores.sweeps.trials(row.sweep)}
                return
        at = isoformat(self.around.clock.now())
        self._row = stores.sweeps.start(identity, at, str(stores.runs_root / "sweep-{sweep}"))
        Path(self._row.folder).mkdir(parents=True, exist_ok=True)
        self._hold = _hold(Path(self._row.folder))

    def _ended_before(self, plan: Trial) -> TrialRecord | None:
        """Give a trial that had ended when the sweep was killed, if its run is still there."""
        known = self._known.get(plan.number)
        if known is None or known.state not in _ENDED or known.overrides != plan.overrides or plan.planned is None:
            return None
        record: TrialRecord = msgspec.convert(known.outcome, TrialRecord)
        folder = plan.planned.stores.runs_root / str(record.run_id) / "run.json"
        return record if folder.exists() else None

    def _batch(self, ready: Trial, pruner: Pruner | None, count: int) -> BatchRequest:
        if ready.planned is None:
            raise EngineError("no plan")
        settings = ready.planned.declared.settings
        runs = {
            number: str(row.run_id) for number, row in self._known.items() if row.run_id and self._is_there(ready, row)
        }
        return BatchRequest(
            sweep=self.row.sweep,
            folder=self.folder,
            options=self.request.options,
            around=Around(self.board, self.around.clock, self.around.git),
            workers=min(self.workers, count),
            judge_all=settings.sweep.judge == "all",
            told=lambda record: self._tell(ready, record),
            pruner=pruner,
            known=runs,
        )

    def _is_there(self, ready: Trial, row: TrialRow) -> bool:
        stores = _stores(ready)
        return (stores.runs_root / str(row.run_id) / "run.json").exists()

    def _tell(self, ready: Trial, record: TrialRecord) -> None:
        self.trials[record.number] = record
        ended = record.state != "planned"
        outcome = msgspec.to_builtins(record, str_keys=True) if ended else None
        row = TrialRow(record.number, record.overrides, record.run_id, record.state, outcome)
        _stores(ready).sweeps.record_trial(self.row.sweep, row)
        self.board.on_trial(record)

    def _judge(self, plan: Trial, best: TrialRecord) -> RunRecord:
        """Take the best trial through the rest of its plan, in its own run; its promotion is the sweep's."""
        if plan.planned is None or best.run_id is None:
            raise EngineError("the best trial has no plan")
        stores = plan.planned.stores
        folder = open_folder(stores.runs_root, best.run_id)
        before = folder.read_record()
        if before.finished_at and before.verdict is not None and before.report:
            return before
        with folder.hold():
            started = describe_start(plan.planned, self.request.options, self.around.clock, best.run_id)
            started = msgspec.structs.replace(
                started,
                started_at=before.started_at,
                sweep=before.sweep,
                trial=before.trial,
                overrides=before.overrides,
                tuned=before.tuned,
            )
            around = Around(self.board, self.around.clock, self.around.git)
            record = carry_out(plan.planned, self.request.options, around, folder, started)
            nodes = tuple(_first_result(before, node) for node in record.nodes)
            record = msgspec.structs.replace(record, nodes=nodes, seconds=before.seconds + record.seconds)
            folder.write_record(record)
            stores.index.record_run(record, str(folder.path))
        return record

    def _ranked(self) -> tuple[TrialRecord, ...]:
        return rank_trials(list(self.trials.values()))

    def _write(self, ready: Trial, status: str, **judged: Any) -> SweepRecord:
        stores, now = _stores(ready), isoformat(self.around.clock.now())
        ranked = self._ranked()
        codes = [trial.exit_code for trial in ranked if trial.state == "failed"]
        pipelines = "+".join(dict.fromkeys(trial.pipeline for trial in ranked if trial.pipeline))
        record = SweepRecord(
            sweep=self.row.sweep,
            pipeline=pipelines,
            status="finished" if status == "finished" else "stopped",
            started_at=self.row.started_at,
            finished_at=now,
            seconds=stopwatch() - self._since,
            command=self.request.options.command,
            objectives=tuple(objective.name for objective in ready.objectives),
            study=self.study,
            trials=ranked,
            pareto=pareto_front(ranked) if len(ready.objectives) > 1 else (),
            resumed=self.resumed,
            executed=self.executed,
            distinct=self.distinct,
            report=str(self.folder.path / "sweep.html"),
            folder=str(self.folder.path),
        )
        exit_code = max([int(judged.pop("exit_code", ExitCode.OK)), *codes])
        if status == "finished" and "best" not in judged:
            exit_code = max(exit_code, int(ExitCode.INCONCLUSIVE))
        record = msgspec.structs.replace(record, exit_code=exit_code, **judged)
        self.folder.write("sweep.json", msgspec.json.format(msgspec.json.encode(record)) + b"\n")
        from engine.report.sweeps import render_sweep  # noqa: PLC0415 - start-up time

        found = importances(ranked, record.objectives[0]) if record.objectives else {}

        self.folder.write("sweep.html", render_sweep(record, found).encode())
        stores.sweeps.end(self.row.sweep, status, now)
        if stores.outbox.due():
            start_sender(stores)
        return record


_JUDGING = frozenset({"evaluate", "gate", "package", "promote"})


def _first_result(before: RunRecord, node: NodeResult) -> NodeResult:
    """Keep how a node first ended in this run: judging found it in the cache."""
    found = next((item for item in before.nodes if item.name == node.name and item.key == node.key), None)
    return found if found is not None and node.state == "cached" and found.output == node.output else node


def _stores(ready: Trial) -> Stores:
    if ready.planned is None:
        raise EngineError("no plan")
    return ready.planned.stores


def _hold(folder: Path) -> int | None:
    """Take the sweep's lock, which goes with the process; `None` when another process has it."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / ".alive", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle
