"""Ctrl-C and SIGTERM while a plan runs: the first one cancels, further ones change nothing; old handlers come back.

Cancelling wakes every waiting thread, which kill their children; the graph then ends by itself with results to record.
Only where the engine waits for somebody else (a scheduler, an effect) is `KeyboardInterrupt` raised, once.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from engine.execute.link import Cancellation

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Signal handlers for the time of one execution; nothing outside the main thread, where no signal arrives."""

    def __init__(self, cancellation: Cancellation) -> None:
        self._cancellation = cancellation
        self._raising = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    @contextmanager
    def raising(self) -> Iterator[None]:
        """Raise `KeyboardInterrupt` inside this block, at the first signal only: what cleans up is left in peace."""
        self._raising = True
        try:
            yield
        finally:
            self._raising = False

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self._cancellation.cancel()
        if self._raising:
            self._raising = False
            raise KeyboardInterrupt
