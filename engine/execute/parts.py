"""A part of a node's body: one more body, run by a child wherever there is room, and tried again when its process dies.

`attempts` makes the tasks when a body asks for them; a link has them run (threads of this process, workers of a Dask
scheduler). A part has no key and no artefact: it is a piece of its node's work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from msgspec import structs

from engine.clock import Clock
from engine.errors import EngineError, ExitCode
from engine.execute.conversation import converse, trouble_of
from engine.execute.link import Division, Link, Narrator
from engine.execute.pool import Cancelled, Seat
from engine.execute.seats import share_of_cores
from engine.execute.wire import Asked, Assignment, Failed, Finished

_PAUSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Part:
    """One part; `code` is the digest of all code of the plan, `seconds` how long it may take, `tries` how often it is begun."""

    assignment: Assignment
    code: str
    seconds: float
    tries: int
    clock: Clock

    def __call__(self, link: Link) -> Finished | Failed | None:
        """Run it; `None` when it was cancelled. Never raises."""
        narrator = Narrator(link, self.clock, self.assignment.place.run_id, self.assignment.node)
        try:
            return self._run(narrator)
        except EngineError as error:
            return Failed(text=str(error), exit_code=int(error.exit_code), retry=False, trace=None)

    def _run(self, narrator: Narrator) -> Finished | Failed | None:
        threads = share_of_cores(narrator.link.slots())
        place = structs.replace(self.assignment.place, threads=threads)
        assignment = structs.replace(self.assignment, place=place)
        failed = Failed(text="was not tried", exit_code=int(ExitCode.INTERNAL), retry=False, trace=None)
        for attempt in range(1, self.tries + 1):
            outcome = converse(assignment, Seat(threads, self.code), self.seconds, narrator, _refuse)
            if isinstance(outcome, Finished):
                return outcome
            if isinstance(outcome, Cancelled):
                return None
            trouble = trouble_of(outcome, self.seconds, narrator)
            failed = Failed(text=trouble.text, exit_code=trouble.exit_code, retry=False, trace=None)
            if not trouble.retry or attempt == self.tries:
                break
            narrator.log("warning", f"a part of it: {trouble.text.splitlines()[0]}; it is done again")
            if narrator.link.wait(_PAUSE_SECONDS * attempt):
                return None
        return failed


def part_of(whole: Assignment, body: str, settings: dict[str, Any]) -> Assignment:
    """The assignment of one part of this one."""
    return structs.replace(whole, body=body, settings=settings, inputs={}, measure=False, beside=0)


def _refuse(_: Asked) -> Division:
    raise EngineError("a part of a node cannot be divided once more")
