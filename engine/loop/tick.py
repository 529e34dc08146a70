"""One tick: look at every pipeline that has triggers, decide, write it down, launch. Short, idempotent, safe twice at once.

Enters: a project, the clock, and who launches. Leaves: a `TickReport`, rows in the ledger, requests for runs. Called by
`engine tick` and by `backtest` with a clock of its own. Each decision is committed before anything is launched; what a dead
process left undone is adopted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

import msgspec

from engine.clock import FixedClock, SystemClock, isoformat, stopwatch
from engine.errors import EngineError, ExitCode, IntegrityError, LockedError
from engine.locations import Stores
from engine.loop.asking import ask_to_diagnose, ask_to_observe, ask_to_run, subject
from engine.loop.declarations import Declaration, read_declarations
from engine.loop.gather import Known, gather
from engine.loop.judging import Judged, judge
from engine.loop.readings import ReadReadings, read_readings
from engine.loop.taking_back import Mistake, find_mistake, take_back
from engine.loop_contracts import Opinion
from engine.loop_records import (
    LoopAction,
    LoopDecision,
    RunRequest,
    TickedPipeline,
    TickReport,
    TriggerMemory,
    TriggerOpinion,
)
from engine.project import Project
from engine.spec import SettingsSpec, StoresSpec
from engine.stores.disk import is_abandoned
from engine.stores.loop_state import OPEN, LoopState, remembered

Launch: TypeAlias = Callable[[RunRequest, Stores], None]
_ACTIONS: Mapping[str, LoopAction] = {"observe": "observe", "diagnose": "diagnose"}


@dataclass(frozen=True, slots=True)
class Around:
    """What a tick gets from outside. `simulated` gives runs the tick's moment as their `as_of`."""

    now: datetime
    launch: Launch
    read: ReadReadings = read_readings
    dry_run: bool = False
    simulated: bool = False
    only: tuple[str, ...] = ()


@dataclass
class _Tick:
    """What one tick has done so far."""

    project: Project
    around: Around
    ticked: list[TickedPipeline] = field(default_factory=list)
    launched: list[str] = field(default_factory=list)
    adopted: list[str] = field(default_factory=list)
    stores: dict[StoresSpec, Stores] = field(default_factory=dict)
    memories: dict[StoresSpec, Mapping[str, TriggerMemory | IntegrityError]] = field(default_factory=dict)
    broken: dict[StoresSpec, EngineError] = field(default_factory=dict)

    def open(self, spec: StoresSpec) -> tuple[Stores, LoopState]:
        """Open the stores that a pipeline's settings name; most share one set, and all memories of it are read at once.

        A database that is locked or gone makes one pipeline wait for it, not each of them.
        """
        if spec in self.broken:
            raise self.broken[spec]
        clock = FixedClock(self.around.now) if self.around.simulated else SystemClock()
        stores = self.stores.setdefault(spec, Stores(self.project, SettingsSpec(stores=spec), clock))
        try:
            state = LoopState(stores.database)
            if spec not in self.memories:
                self.memories[spec] = state.memories()
        except EngineError as error:
            self.broken[spec] = error
            raise
        return stores, state


def tick(project: Project, around: Around) -> TickReport:
    """Evaluate every pipeline once; an error in one is told, and the others still tick."""
    begun = stopwatch()
    work = _Tick(project, around)
    for pipeline, found in read_declarations(project):
        if around.only and pipeline not in around.only:
            continue
        if isinstance(found, EngineError):
            work.ticked.append(_failed(pipeline, found))
        elif found is not None:
            try:
                work.ticked.append(_tick_one(work, found))
            except EngineError as error:
                work.ticked.append(_failed(pipeline, error))
                if isinstance(error, LockedError):
                    work.broken[found.declared.stores] = error
    if not around.dry_run:
        _adopt(work)
    return TickReport(
        at=isoformat(around.now),
        dry_run=around.dry_run,
        pipelines=tuple(work.ticked),
        launched=tuple(work.launched),
        adopted=tuple(work.adopted),
        seconds=stopwatch() - begun,
    )


def exit_code_of(report: TickReport) -> int:
    """Give the worst of the pipelines' exit codes: 0 when all ticked."""
    return max((item.exit_code for item in report.pipelines), default=int(ExitCode.OK))


def _tick_one(work: _Tick, declaration: Declaration) -> TickedPipeline:
    """Evaluate one pipeline; of several ticks at once the first to commit decides."""
    spec, around = declaration.declared.stores, work.around
    stores, state = work.open(spec)
    memory = remembered(work.memories[spec], declaration.pipeline)
    known = gather(declaration, memory, stores, around.now, around.read)
    for ask in (ask_to_diagnose, ask_to_observe):
        asked = ask(known, simulated=around.simulated)
        if asked is not None:
            request, after = asked
            decision = LoopDecision(
                pipeline=declaration.pipeline, at=isoformat(around.now), action=_ACTIONS[request.kind],
                why="; ".join(request.reasons.values()), request=request.key, quiet=memory.quiet,
            )  # fmt: skip
            return _commit(work, state, (memory, after), decision, request)
    mistake = None if memory.paused else find_mistake(declaration, stores, around.now)
    if mistake is not None:
        return _take_back(work, (state, known, stores), mistake)
    return _settle(work, state, known, judge(known, lambda: subject(known, simulated=around.simulated)))


def _take_back(work: _Tick, where: tuple[LoopState, Known, Stores], mistake: Mistake) -> TickedPipeline:
    """Write down that a promotion is taken back, then do it: who dies in between leaves both to the next tick."""
    state, known, stores = where
    memory, around = known.memory, work.around
    decision = LoopDecision(
        pipeline=memory.pipeline,
        at=isoformat(around.now),
        action="rollback",
        why=mistake.why,
        quiet=memory.quiet,
        since=mistake.reading.start,
    )
    after = msgspec.structs.replace(memory, last_action="rollback", quiet=0)
    shown = _commit(work, state, (memory, after), decision, None)
    if around.dry_run or shown.action != "rollback":
        return shown
    if not take_back(work.project, known.declaration, stores, mistake, around.now):
        return msgspec.structs.replace(shown, action="nothing", why="somebody moved the alias at the same time")
    return shown


def _settle(work: _Tick, state: LoopState, known: Known, judged: Judged) -> TickedPipeline:
    """Write a decision with its memory and request; an evaluation that changes nothing is only counted."""
    memory, now, made, after = known.memory, isoformat(known.now), judged.decision, judged.memory
    same = msgspec.structs.replace(after, version=memory.version, quiet=memory.quiet) == memory
    decision = LoopDecision(
        pipeline=memory.pipeline,
        at=now,
        action=made.action,
        why=made.why,
        opinions=tuple(_told(name, item) for name, item in judged.opinions.items()),
        checks=made.checks,
        request=made.key,
        quiet=memory.quiet,
    )
    request = ask_to_run(known, made, judged.subject, simulated=work.around.simulated)
    if request is None and (same or made.action == "nothing"):
        if not work.around.dry_run and not same:
            state.commit(memory, msgspec.structs.replace(after, quiet=memory.quiet + 1), None, None)
        return _shown(decision)
    if made.action == "replace" and not work.around.dry_run:
        for item in known.requests:
            if item.state in OPEN and item.kind != "observe":
                state.cancel(item.key, now)
    return _commit(work, state, (memory, after), decision, request)


def _commit(
    work: _Tick,
    state: LoopState,
    change: tuple[TriggerMemory, TriggerMemory],
    decision: LoopDecision,
    request: RunRequest | None,
) -> TickedPipeline:
    if work.around.dry_run:
        return _shown(decision)
    if not state.commit(*change, decision, request):
        return _shown(msgspec.structs.replace(decision, action="nothing", why="another tick decided at the same time"))
    return _shown(decision)


def _adopt(work: _Tick) -> None:
    """Launch every request that nobody works on: this tick's own, and those that a dead process had left."""
    for spec, stores in work.stores.items():
        if spec in work.broken:
            continue
        state = LoopState(stores.database)
        for request in state.open_requests():
            if work.around.only and request.pipeline not in work.around.only:
                continue
            try:
                _adopt_one(work, state, stores, request)
            except EngineError as error:  # it stays asked for, and the others are launched
                work.ticked.append(_failed(request.pipeline, error))


def _adopt_one(work: _Tick, state: LoopState, stores: Stores, request: RunRequest) -> None:
    now = isoformat(SystemClock().now())  # leases are of this world, whatever the tick's clock says
    if request.state == "running":
        if (request.lease_until or "") > now and not is_abandoned(Path(request.owner or "")):
            return
        state.expire(request, now)
    work.around.launch(request, stores)
    mine = {item.request for item in work.ticked if item.request}
    (work.launched if request.key in mine else work.adopted).append(request.key)


def _told(name: str, opinion: Opinion) -> TriggerOpinion:
    since = isoformat(opinion.since) if opinion.fired and opinion.since is not None else None
    return TriggerOpinion(trigger=name, fired=opinion.fired, why=opinion.why, since=since)


def _shown(decision: LoopDecision) -> TickedPipeline:
    return TickedPipeline(
        pipeline=decision.pipeline,
        action=decision.action,
        why=decision.why,
        opinions=decision.opinions,
        checks=decision.checks,
        request=decision.request,
    )


def _failed(pipeline: str, error: EngineError) -> TickedPipeline:
    return TickedPipeline(
        pipeline=pipeline,
        action="error",
        why=error.message.splitlines()[0],
        error=str(error),
        exit_code=int(error.exit_code),
    )
