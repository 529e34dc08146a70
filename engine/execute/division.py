"""The parts of one body, side by side on this machine. Called by `link.LocalLink.divide`, and imported late.

Enters: functions of a link, one a part. Leaves: what they gave, in order, once all have ended. Children do the work; the
threads here only wait for them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from engine.execute.link import Link, PartTask
from engine.execute.wire import Failed, Finished


class LocalDivision:
    """See `link.Division`. `gate` bounds the parts of all nodes together, so that their memory is bounded too."""

    def __init__(
        self, tasks: Sequence[PartTask], link: Link, stop: Callable[[], None], gate: threading.Semaphore
    ) -> None:
        self._stop = stop
        self._gate = gate
        self._threads = ThreadPoolExecutor(len(tasks), thread_name_prefix="part")
        self._parts = [self._threads.submit(self._run, task, link) for task in tasks]

    def poll(self) -> list[Finished | Failed | None] | None:
        """What the parts gave, once all have ended; the first that fails ends the others."""
        ended = [part for part in self._parts if part.done()]
        if any(not isinstance(part.result(), Finished) for part in ended):
            self._stop()
        if len(ended) < len(self._parts):
            return None
        self._threads.shutdown()
        return [part.result() for part in self._parts]

    def cancel(self) -> None:
        """End all parts; returns when none runs any more."""
        self._stop()
        self._threads.shutdown(cancel_futures=True)

    def _run(self, task: PartTask, link: Link) -> Finished | Failed | None:
        with self._gate:
            return None if link.is_cancelled() else task(link)
