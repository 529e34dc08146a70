"""How many threads the nodes of one execution may use together, and which of its nodes are to end before their time.

Called by the links of nodes; a sweep decides both. Standard library only.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LOOK_SECONDS = 0.2  # how often a wait looks whether it is still wanted


class Seats:
    """The threads of this machine, handed out to nodes: wide ones wait until enough are free, then hold them all."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._free = count
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, threads: int, is_cancelled: Callable[[], bool]) -> Iterator[None]:
        """Hold so many (at most all); a cancelled wait goes on without them, as its caller ends at once."""
        wanted = min(threads, self._count)
        with self._changed:
            while self._free < wanted and not is_cancelled():
                self._changed.wait(_LOOK_SECONDS)
            self._free -= wanted
        try:
            yield
        finally:
            with self._changed:
                self._free += wanted
                self._changed.notify_all()


def share_of_cores(slots: int) -> int:
    """How many threads one of so many nodes side by side may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // max(slots, 1))


class Stops:
    """Nodes that are to end before their time, each with the reason: what a sweep prunes."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}

    def stop(self, node: str, reason: str) -> None:
        """Stop a node; it ends as `cancelled`, for this reason."""
        self._reasons.setdefault(node, reason)

    def reason(self, node: str) -> str | None:
        """Say why a node is stopped, if it is."""
        return self._reasons.get(node)
