"""The tries of one node's body: stage, run in a child, commit; again, after a pause, when it may pass by itself.

Called by `node.run_node` once a miss is certain. What a body raised deliberately is never tried again, but for
`UnavailableError`; a crash, a timeout and an absence are.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import assert_never

from engine.clock import Clock
from engine.contracts import ArtefactStore, Place
from engine.errors import EngineError, UnavailableError
from engine.execute.link import Narrator
from engine.execute.pool import POOL, Cancelled, Crashed, Ears, Outcome, Seat, TimedOut
from engine.execute.wire import Assignment, Failed, Finished, InputFiles, Whereabouts
from engine.plan.model import PlanNode, settle
from engine.records import NodeOutput

_MAX_LINES = 10_000
_LONGEST_BACKOFF = 300.0


@dataclass(frozen=True, slots=True)
class NodeTask:
    """One node to run.

    `body` is "module:function", `forced` says why although cached, `code` is the digest of all code of the plan.
    """

    node: PlanNode
    place: Place
    body: str
    code: str
    clock: Clock
    threads: int | None = None
    forced: str | None = None
    measure: bool = False


@dataclass(frozen=True, slots=True)
class Attempted:
    """What the attempts of one node came to: an output, or what went wrong."""

    output: NodeOutput | None
    attempts: int
    peak_bytes: int | None = None
    error: str | None = None
    exit_code: int = 0


@dataclass(frozen=True, slots=True)
class _Trouble:
    """Why an attempt gave nothing; `retry` says whether another may."""

    text: str
    exit_code: int
    retry: bool
    peak_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Attempts:
    """The tries of one node; `inputs` are verified folders by role."""

    task: NodeTask
    store: ArtefactStore
    narrator: Narrator
    inputs: Mapping[str, InputFiles]

    def run(self) -> Attempted:
        """Try as often as the node allows; only what may pass by itself (crash, timeout, absence) is tried again."""
        tries = self.task.node.retries + 1
        for attempt in range(1, tries + 1):
            tried = self._try()
            if isinstance(tried, Attempted):
                return replace(tried, attempts=attempt)
            if not tried.retry or attempt == tries:
                times = f" (attempt {attempt} of {tries})" if attempt > 1 else ""
                return Attempted(None, attempt, tried.peak_bytes, f"{tried.text}{times}", tried.exit_code)
            pause = self._backoff(attempt)
            first_line = tried.text.split("\n", 1)[0]
            self.narrator.log("warning", f"attempt {attempt} of {tries}: {first_line}; trying again in {pause:.1f} s")
            if self.narrator.link.wait(pause):
                break
        return Attempted(None, attempt)

    def _backoff(self, attempt: int) -> float:
        """Double the pause each time, with jitter so that many nodes do not come back at once."""
        pause = min(self.task.node.backoff_seconds * 2.0 ** (attempt - 1), _LONGEST_BACKOFF)
        return pause * random.uniform(0.5, 1.5)  # noqa: S311 - not a secret, and decides no result

    def _try(self) -> Attempted | _Trouble:
        try:
            return self._try_in(self.store.stage())
        except EngineError as error:  # the store's
            return _Trouble(str(error), int(error.exit_code), retry=isinstance(error, UnavailableError))

    def _try_in(self, staged: Path) -> Attempted | _Trouble:
        try:
            outcome = self._converse(staged)
            match outcome:
                case Finished(notes, peak_bytes):
                    return Attempted(NodeOutput(digest=self.store.commit(staged), notes=notes), 0, peak_bytes)
                case Failed():
                    if outcome.trace:
                        self.narrator.log("debug", outcome.trace)
                    return _Trouble(outcome.text, outcome.exit_code, outcome.retry)
                case Cancelled():
                    return Attempted(None, 0)
                case TimedOut():
                    return self._timed_out()
                case Crashed(status):
                    return _crashed(status)
                case _:
                    assert_never(outcome)
        finally:
            remove_staged(staged)

    def _converse(self, staged: Path) -> Outcome:
        task, link = self.task, self.narrator.link
        threads = task.threads or share_of_cores(link.slots())
        place = replace(task.place, threads=threads)
        assignment = Assignment(
            body=task.body,
            node=task.node.name,
            settings=settle(task.node, {role: item.digest for role, item in self.inputs.items()}),
            inputs=dict(self.inputs),
            out=str(staged),
            place=Whereabouts(
                str(place.root), place.snapshots, place.artefacts, place.plugins, place.threads, place.run_id
            ),
            measure=task.measure,
        )
        with link.occupy(threads):
            return self._talk(assignment, Seat(threads, task.code))

    def _talk(self, assignment: Assignment, seat: Seat) -> Outcome:
        task, link = self.task, self.narrator.link
        try:
            child = POOL.acquire(seat)
        except OSError as error:
            hint = "close other programs, or lower execute.workers"
            raise UnavailableError(f"no process can be started: {error.strerror}", hint=hint) from error
        kept = False
        try:
            ears = Ears(
                lambda told: self.narrator.progress(told.message, told.rows, told.done),
                _Lines(self.narrator),
                lambda measured: self.narrator.metric(measured.step, measured.value),
            )
            outcome = child.run(assignment, task.node.timeout_seconds, link, ears)
            kept = isinstance(outcome, Finished | Failed)
            return outcome
        finally:
            if kept:
                POOL.release(child)
            else:
                POOL.discard(child)

    def _timed_out(self) -> _Trouble:
        seconds = self.task.node.timeout_seconds
        hint = "allow more with execute.timeout, or give it less data (--sample 10%)"
        error = EngineError(f"took longer than {seconds:g} s and was stopped", hint=hint)
        return _Trouble(str(error), int(error.exit_code), retry=True)


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


def _crashed(status: int) -> _Trouble:
    hint = "its last output is in the run's events.jsonl"
    if status >= 0:
        return _Trouble(str(EngineError(f"its process ended by itself with status {status}", hint=hint)), 1, retry=True)
    name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
    if -status == signal.SIGKILL:
        hint = "the kernel does this when memory runs out: lower execute.workers, or try --sample 10%"
    return _Trouble(str(EngineError(f"its process was killed by {name}", hint=hint)), 1, retry=True)


def share_of_cores(slots: int) -> int:
    """How many threads one of so many nodes side by side may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // max(slots, 1))


def remove_staged(staged: Path) -> None:
    """Delete a staged folder and the scratch space beside it, if they are still there."""
    for path in (staged, *staged.parent.glob(f"{staged.name}.*")):
        shutil.rmtree(path, ignore_errors=True)
