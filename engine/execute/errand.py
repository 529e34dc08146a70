"""One body that a child runs, as its owner sees it: what the child still has to be told, and the parts that run elsewhere.

`pool.Child.run` makes one for each assignment, and looks after it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from engine.errors import ExitCode
from engine.execute.link import Division
from engine.execute.wire import Answered, Assignment, Declined, Failed, Finished, encode

_PARTS_SECONDS = 0.02  # how often parts are asked whether they have ended


class Errand:
    """`outgoing`: bytes for the child; `division`: the parts that it waits for. `patience`: seconds between two looks."""

    def __init__(self, assignment: Assignment, seconds: float, patience: float) -> None:
        self._deadline = time.monotonic() + seconds
        self.outgoing = memoryview(encode(assignment))
        self.division: Division | None = None
        self._patience = patience

    def wait(self) -> float:
        """How long to wait for the child before looking at something else; not above 0 when its time is up."""
        patience = self._patience if self.division is None else _PARTS_SECONDS
        return min(self._deadline - time.monotonic(), patience)

    def has_reply(self) -> bool:
        """Say whether the parts have ended; what they gave then waits to be told."""
        found = self.division.poll() if self.division is not None else None
        if found is None:
            return False
        self.division = None
        self.outgoing = memoryview(encode(_reply(found)))
        return True

    def abandon(self) -> None:
        """End what still runs of the parts."""
        if self.division is not None:
            self.division.cancel()


def _reply(found: Sequence[Finished | Failed | None]) -> Answered | Declined:
    """What the asking body is told."""
    failed = next((part for part in found if isinstance(part, Failed)), None)
    if failed is not None:
        return Declined(failed.text, failed.exit_code)
    notes = [part.notes for part in found if isinstance(part, Finished)]
    if len(notes) < len(found):
        return Declined("interrupted", int(ExitCode.INTERRUPTED))
    return Answered(tuple(notes))
