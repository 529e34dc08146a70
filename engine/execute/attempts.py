"""The tries of one node's body: stage, run in a child, commit; again, after a pause, when it may pass by itself.

Called by `node.run_node` once a miss is certain. What a body raised deliberately is never tried again, but for
`UnavailableError`; a crash, a timeout and an absence are.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import assert_never

from engine.clock import Clock
from engine.contracts import ArtefactStore, Place
from engine.errors import EngineError, UnavailableError
from engine.execute.conversation import Trouble, converse, trouble_of
from engine.execute.link import Division, Narrator
from engine.execute.parts import Part, part_of
from engine.execute.pool import Cancelled, Crashed, Outcome, Seat, TimedOut
from engine.execute.seats import share_of_cores
from engine.execute.wire import Asked, Assignment, Failed, Finished, InputFiles, Whereabouts
from engine.plan.model import PlanNode, settle
from engine.records import NodeOutput

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

    def _try(self) -> Attempted | Trouble:
        try:
            return self._try_in(self.store.stage())
        except EngineError as error:  # the store's
            return Trouble(str(error), int(error.exit_code), retry=isinstance(error, UnavailableError))

    def _try_in(self, staged: Path) -> Attempted | Trouble:
        try:
            outcome = self._converse(staged)
            match outcome:
                case Finished(notes, peak_bytes):
                    return Attempted(NodeOutput(digest=self.store.commit(staged), notes=notes), 0, peak_bytes)
                case Cancelled():
                    return Attempted(None, 0)
                case Failed() | TimedOut() | Crashed():
                    return trouble_of(outcome, self.task.node.timeout_seconds, self.narrator)
                case _:
                    assert_never(outcome)
        finally:
            self.store.discard(staged)

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
                str(place.root),
                place.snapshots,
                place.artefacts,
                place.plugins,
                place.threads,
                place.run_id,
                place.cluster,
            ),
            measure=task.measure,
            beside=link.beside(),
        )
        seconds = task.node.timeout_seconds
        with link.occupy(threads):
            divide = partial(self._divide, assignment=assignment)
            return converse(assignment, Seat(threads, task.code), seconds, self.narrator, divide)

    def _divide(self, asked: Asked, assignment: Assignment) -> Division:
        """Have the parts run that the body asks for, where this node's link has room."""
        task = self.task
        tries = task.node.retries + 1
        parts = [
            Part(part_of(assignment, asked.body, settings), task.code, task.node.timeout_seconds, tries, task.clock)
            for settings in asked.parts
        ]
        return self.narrator.link.divide(parts)
