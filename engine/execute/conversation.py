"""One conversation with a child: borrow it, have it run a body, give it back; and what went wrong, in words.

Called by `attempts` for a node and by `parts` for a part of one.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass

from engine.errors import EngineError, UnavailableError
from engine.execute.link import Division, Narrator
from engine.execute.pool import POOL, Crashed, Ears, Outcome, Seat, TimedOut
from engine.execute.wire import Asked, Assignment, Failed, Finished

_MAX_LINES = 10_000


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a try gave nothing; `retry` says whether another may."""

    text: str
    exit_code: int
    retry: bool
    peak_bytes: int | None = None


def converse(
    assignment: Assignment, seat: Seat, seconds: float, narrator: Narrator, divide: Callable[[Asked], Division]
) -> Outcome:
    """Have a child run a body; raises `UnavailableError` when no process can be started."""
    try:
        child = POOL.acquire(seat)
    except OSError as error:
        hint = "close other programs, or lower execute.workers"
        raise UnavailableError(f"no process can be started: {error.strerror}", hint=hint) from error
    kept = False
    try:
        ears = Ears(
            lambda told: narrator.progress(told.message, told.rows, told.done),
            _Lines(narrator),
            lambda measured: narrator.metric(measured.step, measured.value),
            divide,
        )
        outcome = child.run(assignment, seconds, narrator.link, ears)
        kept = isinstance(outcome, Finished | Failed)
        return outcome
    finally:
        if kept:
            POOL.release(child)
        else:
            POOL.discard(child)


class _Lines:
    """Passes a body's output on, up to a limit: a loop that prints must not fill the disk."""

    def __init__(self, narrator: Narrator) -> None:
        self._narrator = narrator
        self._count = 0

    def __call__(self, line: str) -> None:
        self._count += 1
        if line and self._count <= _MAX_LINES:
            self._narrator.log("info", line)
        elif self._count == _MAX_LINES + 1:
            self._narrator.log("warning", f"printed more than {_MAX_LINES} lines; the rest is dropped")


def trouble_of(outcome: Failed | TimedOut | Crashed, seconds: float, narrator: Narrator) -> Trouble:
    """Word what went wrong; the trace goes to the log."""
    match outcome:
        case Failed():
            if outcome.trace:
                narrator.log("debug", outcome.trace)
            return Trouble(outcome.text, outcome.exit_code, outcome.retry)
        case TimedOut():
            hint = "allow more with execute.timeout, or give it less data (--sample 10%)"
            error = EngineError(f"took longer than {seconds:g} s and was stopped", hint=hint)
            return Trouble(str(error), int(error.exit_code), retry=True)
        case Crashed(status):
            return _crashed(status)


def _crashed(status: int) -> Trouble:
    hint = "its last output is in the run's events.jsonl"
    if status >= 0:
        return Trouble(str(EngineError(f"its process ended by itself with status {status}", hint=hint)), 1, retry=True)
    name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
    if -status == signal.SIGKILL:
        hint = "the kernel does this when memory runs out: lower execute.workers, or try --sample 10%"
    return Trouble(str(EngineError(f"its process was killed by {name}", hint=hint)), 1, retry=True)
