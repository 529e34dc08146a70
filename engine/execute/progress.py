"""How a run is shown while it goes on: plain lines for CI, events as JSON for machines, a live table on a terminal.

Each is an `Observer` with `close()`, which the caller calls when the run has ended; `choose_progress` picks one. People's
output goes to standard error, so that standard output stays the answer.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Protocol, TextIO

import msgspec

from engine.execute.request import Observer
from engine.records import Event

_SHOWN_LEVELS = frozenset({"warning", "error"})
_QUIET_STATES = frozenset({"pending"})
_MAX_CACHED_LINES = 20  # the rest is in the summary
_MIN_COLUMNS = 50  # a table narrower than this is worse than lines


class Display(Observer, Protocol):
    """An observer with an end."""

    def close(self) -> None:
        """Show the last state and give the terminal back; any number of times."""
        ...


class SilentProgress:
    """Shows nothing."""

    def on_event(self, event: Event) -> None:
        """Hear and say nothing."""

    def close(self) -> None:
        """Nothing to give back."""


class NdjsonProgress:
    """Writes each event as a line of JSON. When the reader leaves, the run goes on: its journal has everything."""

    def __init__(self, stream: TextIO) -> None:
        self._stream: TextIO | None = stream

    def on_event(self, event: Event) -> None:
        """Write one line."""
        self._write(msgspec.json.encode(event).decode() + "\n")

    def close(self) -> None:
        """Nothing to give back: every line is flushed."""

    def _write(self, text: str) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except (BrokenPipeError, ValueError):  # ValueError: the stream was closed
            self._stream = None


class PlainProgress:
    """Writes a line when a node starts, ends, is retried or warns, and a summary."""

    def __init__(self, stream: TextIO) -> None:
        self._stream: TextIO | None = stream
        self._tally = Tally()

    def on_event(self, event: Event) -> None:
        """Write a line if this is worth one."""
        self._tally.count(event)
        line = self._word(event)
        if line is not None:
            self._write(line)

    def close(self) -> None:
        """Write the summary, once."""
        summary = self._tally.take()
        if summary:
            self._write(summary)

    def _word(self, event: Event) -> str | None:
        match event.event:
            case "node" if event.state == "cached" and self._tally.counts()["cached"] > _MAX_CACHED_LINES:
                return None
            case "node" if event.state not in _QUIET_STATES:
                return word_node(event)
            case "log" if event.level in _SHOWN_LEVELS:
                return f"{event.level}: {f'{event.node}: ' if event.node else ''}{event.message}"
            case "log" if event.message.startswith("waiting for another run"):
                return f"{event.node}: {event.message}"
            case _:
                return None

    def _write(self, line: str) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (BrokenPipeError, ValueError):
            self._stream = None


class Tally:
    """Counts how many nodes are in which state."""

    def __init__(self) -> None:
        self._states: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        self._told = False

    def count(self, event: Event) -> None:
        """Note a node's state."""
        if event.event == "node" and event.node is not None and event.state is not None:
            before = self._states.get(event.node)
            if before is not None:
                self._counts[before] -= 1
            self._states[event.node] = event.state
            self._counts[event.state] = self._counts.get(event.state, 0) + 1

    def counts(self) -> Mapping[str, int]:
        """How many nodes are in each state that any is in."""
        return {state: count for state, count in self._counts.items() if count}

    def take(self) -> str:
        """Give the summary line the first time, then nothing."""
        if self._told or not self._states:
            return ""
        self._told = True
        return f"{len(self._states)} nodes: " + ", ".join(f"{n} {state}" for state, n in sorted(self.counts().items()))


def word_node(event: Event) -> str:
    """Say in one line how a node stands.

    >>> word_node(Event(at="", run_id="1", event="node", node="train", state="ran", rows=1200, seconds=1.26))
    'train: ran, 1,200 rows, 1.3 s'
    """
    parts = [f"{event.node}: {event.state}"]
    if event.rows is not None:
        parts.append(f"{event.rows:,} rows")
    if event.seconds is not None and event.state != "cached":
        parts.append(f"{event.seconds:.1f} s")
    line = ", ".join(parts)
    if event.message and event.state not in {"ran", "cached"}:
        line += f" ({event.message})" if "\n" not in event.message else f"\n  {event.message}"
    return line


def choose_progress(*, quiet: bool, ndjson: TextIO | None, log_format: str) -> Display:
    """Pick what suits: events on `ndjson` if given, nothing if quiet, JSON lines on standard error for `json`, else people's.

    The live table needs a terminal that is wide enough and can move its cursor; `NO_COLOR` takes its colours away.
    """
    if ndjson is not None:
        return NdjsonProgress(ndjson)
    if quiet:
        return SilentProgress()
    if log_format == "json":
        return NdjsonProgress(sys.stderr)
    if is_capable(sys.stderr):
        from engine.execute.live import LiveProgress  # noqa: PLC0415 - rich costs start-up time, and CI needs none of it

        return LiveProgress(sys.stderr)
    return PlainProgress(sys.stderr)


def is_capable(stream: TextIO, columns: int = _MIN_COLUMNS) -> bool:
    """Say whether a stream is a terminal that a table can be kept up to date on."""
    if not stream.isatty() or os.environ.get("TERM") in {"dumb", ""} or os.environ.get("CI"):
        return False
    try:
        return os.get_terminal_size(stream.fileno()).columns >= columns
    except (OSError, ValueError):
        return False
