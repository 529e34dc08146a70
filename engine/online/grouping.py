"""Group commit: changes that arrive while one is being made durable are made durable together by the next.

A sync to disk, or a round trip to a server, costs the same for one event as for a thousand. Whoever comes while a commit
runs waits, and one of those waiting commits for all. Used by the stores.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.errors import EngineError
from engine.online_contracts import Change


@dataclass(slots=True)
class Pending:
    """One change on its way. Whoever commits sets `error` when this change alone must fail."""

    change: Change
    done: bool = False
    error: BaseException | None = None


class GroupCommit:
    """`commit` gets one or more changes, applies them in order and atomically, and returns when they are durable."""

    def __init__(self, commit: Callable[[Sequence[Pending]], None]) -> None:
        self._commit = commit
        self._waiting: list[Pending] = []
        self._queue = threading.Lock()
        self._committing = threading.Lock()

    def apply(self, change: Change) -> None:
        """Apply one change, perhaps with others; raises what the change, or the commit of all, raised."""
        mine = Pending(change)
        with self._queue:
            self._waiting.append(mine)
        with self._committing:
            if not mine.done:
                with self._queue:
                    batch, self._waiting = self._waiting, []
                self._apply(batch)
        if mine.error is not None:
            raise mine.error

    def _apply(self, batch: Sequence[Pending]) -> None:
        try:
            self._commit(batch)
        except EngineError as error:
            for one in batch:
                one.error = error
        except BaseException as error:
            for one in batch:
                one.error = error
            raise
        finally:
            for one in batch:
                one.done = True
