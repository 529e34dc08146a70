"""The run's journal: `events.jsonl`, one event a line, appended as things happen; also the run's structured log.

A line is one write, and how a node ended is on the disk before anybody is told. Written through `Journal`, an `Observer`;
read by `read_events`, which takes a file whose last line was torn by a crash for what it is.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import msgspec

from engine.errors import IntegrityError, NotFoundError, StoreError
from engine.execute.request import Observer
from engine.records import Event

_DURABLE_STATES = frozenset({"ran", "failed", "cancelled", "executed", "interrupted"})


class Journal:
    """Appends events to a file; open it with `with`. Raises `StoreError` when it cannot write."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1
        self._encoder = msgspec.json.Encoder()

    def __enter__(self) -> Journal:
        try:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            self._end_torn_line()
        except OSError as error:
            raise self._failure(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)
        self._descriptor = -1

    def on_event(self, event: Event) -> None:
        """Append one event; waits for the disk when a node or the run has ended."""
        line = memoryview(self._encoder.encode(event) + b"\n")
        try:
            while line:
                line = line[os.write(self._descriptor, line) :]
            if event.state in _DURABLE_STATES:
                os.fdatasync(self._descriptor)
        except OSError as error:
            raise self._failure(error) from error

    def _end_torn_line(self) -> None:
        size = os.fstat(self._descriptor).st_size
        if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
            os.write(self._descriptor, b"\n")

    def _failure(self, error: OSError) -> StoreError:
        hint = "free some space, or make the run folder writable; finished nodes are kept"
        return StoreError(f"cannot write the journal {self.path}: {error.strerror or error}", hint=hint)


class Fanout:
    """Tells several observers, in order."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def on_event(self, event: Event) -> None:
        """Tell each."""
        for observer in self._observers:
            observer.on_event(event)


def read_events(path: Path) -> Sequence[Event]:
    """Read a journal; a torn last line is left out. Raises `NotFoundError`, and `IntegrityError` for damage elsewhere."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        raise NotFoundError(f"{path} is missing", hint="the run was never started, or its folder was cleaned") from None
    decoder = msgspec.json.Decoder(Event)
    events: list[Event] = []
    for number, line in enumerate(lines, 1):
        try:
            if line:
                events.append(decoder.decode(line))
        except msgspec.DecodeError as error:
            # a line that ends in nothing was being written when its process died; a later run may have gone on below it
            if not line.endswith(b"}") or number == len(lines):
                continue
            raise IntegrityError(f"{path}:{number}: not an event: {error}") from error
    return events
