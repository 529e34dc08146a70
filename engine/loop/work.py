"""Doing what a tick decided: claim a request, run the pipeline, write down what came of it. The child that a tick launches.

Enters: a request's key. Leaves: a run, the request's outcome, a row in the ledger. Called by `engine tick --work` and, in
the same process, by simulations. The claim is a lease that a thread renews; whoever loses it (cancelled, or taken for dead)
stops, and its outcome is refused by the fence.
"""

from __future__ import annotations

import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec

from engine.clock import Clock, FixedClock, SystemClock, isoformat
from engine.errors import EngineError, ExitCode, LockedError
from engine.loop_records import LoopDecision, RunRequest
from engine.project import Project
from engine.records import RunRecord
from engine.stores.disk import owned_name
from engine.stores.loop_state import LoopState

LEASE = timedelta(seconds=60)
_RETRIED = frozenset({int(ExitCode.LOCKED), int(ExitCode.UNAVAILABLE), int(ExitCode.INTERRUPTED)})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run left: how it ended, and what it saw."""

    record: RunRecord | None
    exit_code: int
    error: str | None
    content: dict[str, str]
    quarantined: tuple[str, ...]
    labels: int | None
    notes: tuple[str, ...] = ()


RunPipeline = Callable[[Project, RunRequest, Clock], Outcome]


def do_request(project: Project, state: LoopState, key: str, run: RunPipeline) -> RunRequest | None:
    """Claim and do one request; `None` when somebody else has it or it is over. Raises `LockedError` when it was taken."""
    real = SystemClock()
    held = state.claim(key, owned_name(), real.now(), LEASE)
    if held is None:
        return None
    before, clock = _cpu_seconds(), _clock_of(held)
    with _renewed(state, held) as lost:
        try:
            outcome = run(project, held, clock)
        except EngineError as error:
            outcome = Outcome(None, int(error.exit_code), str(error), {}, (), None)
        except KeyboardInterrupt:
            if not lost.is_set():
                state.release(held)
            raise
    if lost.is_set():
        raise LockedError(f"request {key[:12]} was cancelled or taken over while it ran")
    done = _ended(held, outcome, isoformat(clock.now()), _cpu_seconds() - before)
    state.finish(held, done, _told(done))
    return done


def _ended(held: RunRequest, outcome: Outcome, at: str, cpu_seconds: float) -> RunRequest:
    record, failed = outcome.record, outcome.exit_code not in {0, 3, 4, 5}
    return msgspec.structs.replace(
        held,
        state="failed" if failed else "done",
        lease_until=None,
        run_id=record.run_id if record else None,
        verdict=record.verdict if record else None,
        exit_code=outcome.exit_code,
        error=outcome.error,
        content=outcome.content,
        quarantined=outcome.quarantined,
        labels=outcome.labels,
        notes=outcome.notes,
        cpu_seconds=cpu_seconds,
        ended_at=at,
    )


def _told(done: RunRequest) -> LoopDecision:
    words = f"run {done.run_id}" if done.run_id else "no run"
    words += f", verdict {done.verdict}" if done.verdict else ""
    words += f", exit code {done.exit_code}" if done.exit_code else ""
    words += f", quarantined: {', '.join(done.quarantined)}" if done.quarantined else ""
    words += f": {done.error.splitlines()[0]}" if done.error else ""
    words += "".join(f"; {note}" for note in done.notes)
    return LoopDecision(
        pipeline=done.pipeline, at=done.ended_at or "", action="finish", why=f"{done.kind} {done.state}: {words}",
        request=done.key, actor=done.owner or "",
    )  # fmt: skip


def _clock_of(request: RunRequest) -> Clock:
    """Give the world's clock, or the moment of a simulation."""
    return FixedClock(datetime.fromisoformat(request.as_of)) if request.as_of else SystemClock()


@contextmanager
def _renewed(state: LoopState, held: RunRequest) -> Iterator[threading.Event]:
    """Renew the lease until the block ends; when it is lost, say so and interrupt the block."""
    stop, lost = threading.Event(), threading.Event()

    def renew() -> None:
        while not stop.wait(LEASE.total_seconds() / 4):
            try:
                state.renew(held, SystemClock().now(), LEASE)
            except LockedError:
                lost.set()
                os.kill(os.getpid(), signal.SIGINT)
                return
            except EngineError:  # the database is away for a while: the lease outlasts some tries
                continue

    thread = threading.Thread(target=renew, daemon=True, name="lease")
    thread.start()
    try:
        yield lost
    finally:
        stop.set()
        thread.join()


def _cpu_seconds() -> float:
    used: Any = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return float(sum(item.ru_utime + item.ru_stime for item in used))
