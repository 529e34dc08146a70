"""How a backtest is shown while it goes on: one bar on a terminal, a line for each tenth elsewhere. On standard error.

Enters: events of nodes. A backtest has a hundred nodes and more, so a line for each would tell nothing.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Mapping
from typing import TextIO

from engine.execute.link import FINAL_STATES
from engine.records import Event

_WIDTH = 28
_WORDS: Mapping[str, str] = {
    "cut": "cutting rows known at",
    "train": "training",
    "baseline": "training the baseline of",
}


def choose_bar(*, quiet: bool) -> Bar:
    """Give the display that fits standard error."""
    return Bar(sys.stderr, live=sys.stderr.isatty(), quiet=quiet)


class Bar:
    """Counts nodes as they end; warnings and errors are told as they come."""

    def __init__(self, stream: TextIO, *, live: bool, quiet: bool = False) -> None:
        self._stream, self._live, self._quiet = stream, live, quiet
        self._states: dict[str, str] = {}
        self._running: dict[str, str] = {}
        self._told = 0
        self._drawn = False
        self._lock = threading.Lock()

    def on_event(self, event: Event) -> None:
        """Hear one event."""
        with self._lock:
            self._hear(event)

    def close(self) -> None:
        """Leave the bar as it is, and go to a line of its own."""
        with self._lock:
            if self._drawn:
                self._write("\n")
                self._drawn = False

    def _hear(self, event: Event) -> None:
        if event.event == "log" and event.level in {"warning", "error"} and not self._quiet:
            self._write(f"{self._clear()}{event.level}: {event.node or 'backtest'}: {event.message}\n")
        if event.node is None or self._quiet:
            return
        if event.event == "progress":
            self._running[event.node] = event.message or ""
        elif event.state is not None:
            self._states[event.node] = event.state
            self._running.pop(event.node, None)
            if event.state == "running":
                self._running[event.node] = ""
        self._show()

    def _show(self) -> None:
        done, whole = sum(state in FINAL_STATES for state in self._states.values()), len(self._states)
        if self._live:
            filled = _WIDTH * done // max(whole, 1)
            self._write(f"\r[{'█' * filled}{'·' * (_WIDTH - filled)}] {done}/{whole}  {self._now()}"[:100] + "\x1b[K")
            self._drawn = True
            return
        tenth = 10 * done // max(whole, 1)
        if tenth > self._told and whole > 10:
            self._told = tenth
            counts = Counter(state for state in self._states.values() if state in FINAL_STATES)
            said = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
            self._write(f"{done} of {whole} nodes: {said}; {self._now() or 'waiting'}\n")

    def _now(self) -> str:
        shown = []
        for node, message in list(self._running.items())[:2]:
            kind, _, moment = node.partition("@")
            replayed = node.removeprefix("replay.")
            words = f"replaying {replayed}" if replayed != node else f"{_WORDS.get(kind, kind)} {moment}".strip()
            shown.append(f"{words} ({message})" if message and replayed != node else words)
        return " · ".join(shown)

    def _clear(self) -> str:
        return "\r\x1b[K" if self._drawn else ""

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # the reader left: the backtest goes on
            self._live, self._quiet = False, True
