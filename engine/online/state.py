"""The online state of one feature program over any store of cells: push, read, expire. The door of this package.

Enters: a program, cells, events, spine rows. Leaves: the history that `compute` takes. Called by serving, `engine
features materialize`, the parity node and the parity monitor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
import polars as pl

from engine.errors import DataError
from engine.features.frames import conform
from engine.features.steps import EVENT_TIME, FeatureProgram
from engine.online.blocks import pack
from engine.online.buckets import Editor, read_directory
from engine.online.indexes import Held, Index, indexes_of
from engine.online.reading import Finder, StaleError, rounds_of
from engine.online.writing import Progressed, Writer, old_ids, read_progress, source_key
from engine.online_contracts import Cells, Get, Pushed, Watermark

_TRIES = 20
_PART = 10_000


class EventState:
    """Fulfils `OnlineState`. Safe for threads and processes as far as its cells are."""

    def __init__(self, program: FeatureProgram, cells: Cells) -> None:
        self.program = program
        self.cells = cells
        self.indexes = indexes_of(program)
        self._rounds = rounds_of(self.indexes)

    @property
    def program_digest(self) -> str:
        """The digest of the program that this state is for."""
        return self.program.digest

    def push(self, source: str, events: pl.DataFrame, token: str | None = None) -> Pushed:
        """Add events; see `OnlineState.push`."""
        held = self._held(source)
        rows = self._rows(held, events)
        outcome = Pushed()

        def change(get: Get) -> Mapping[bytes, bytes | None]:
            nonlocal outcome
            writes, outcome = Writer(held, get).push(rows, pack(held.layout, rows), token)
            return writes

        self.cells.update(change)
        return Pushed(outcome.accepted, outcome.repeated, events.height - rows.height, outcome.expired)

    def retract(self, source: str, events: pl.DataFrame, token: str | None = None) -> int:
        """Remove events; see `OnlineState.retract`."""
        held = self._held(source)
        rows = self._rows(held, events)
        removed = 0

        def change(get: Get) -> Mapping[bytes, bytes | None]:
            nonlocal removed
            writes, removed = Writer(held, get).retract(rows, pack(held.layout, rows), token)
            return writes

        self.cells.update(change)
        return removed

    def read(self, spine: pl.DataFrame, as_of: int | None = None) -> Mapping[str, pl.DataFrame]:
        """Find what the program needs; see `OnlineState.read`."""
        frame = conform(spine, {EVENT_TIME: "timestamp", **self.program.spine.request}, "spine")
        for _ in range(_TRIES):
            try:
                with self.cells.view() as get:
                    return Finder(self.indexes, self._rounds, get, as_of).find(frame)
            except StaleError:
                continue
        raise StaleError("a bucket changed every time that it was read", hint="push in larger batches")

    def watermark(self, source: str) -> Watermark:
        """Say how far a source is; see `OnlineState.watermark`."""
        held = self._held(source)
        with self.cells.view() as get:
            found = read_progress(held, get)
        return Watermark(
            source, found.commit, found.events, found.time, found.available, found.expired_before, found.target
        )

    def aim(self, source: str, commit: str) -> None:
        """Record that a snapshot is being materialised."""
        self._note(self._held(source), lambda found: msgspec.structs.replace(found, target=commit))

    def mark(self, source: str, commit: str) -> None:
        """Record that a snapshot has been materialised whole."""
        self._note(self._held(source), lambda found: msgspec.structs.replace(found, commit=commit, target=None))

    def expire(self, before: int) -> int:
        """Forget what no request at `before` or later can reach; see `OnlineState.expire`."""
        return sum(self._expire(held, before) for held in self.indexes.sources.values() if not held.timeless)

    def close(self) -> None:
        """Let go of the store."""
        self.cells.close()

    def _expire(self, held: Held, before: int) -> int:
        """One source. First it notes from when on; so what comes late and is older is not taken in again."""
        self._note(held, lambda found: msgspec.structs.replace(
            found, expired_before=max(before, found.expired_before or before)))  # fmt: skip
        dropped = 0
        for index in held.indexes:
            if not index.latest:
                gone = self._expire_index(held, index, before - index.reach)
                dropped += gone if index is held.indexes[0] else 0
        if not any(index.latest for index in held.indexes):
            self._expire_ids(held, before - max(index.reach for index in held.indexes))
        self._note(held, lambda found: msgspec.structs.replace(found, events=found.events - dropped))
        return dropped

    def _expire_ids(self, held: Held, oldest: int) -> None:
        keys = list(self.cells.keys(b"i" + held.number.to_bytes(2, "big")))
        for start in range(0, len(keys), _PART):
            part = keys[start : start + _PART]
            self.cells.update(lambda get, part=part: old_ids(part, get, oldest))  # type: ignore[misc]

    def _note(self, held: Held, changed: Callable[[Progressed], Progressed]) -> None:
        """Change a source's own cell."""
        self.cells.update(lambda get: {source_key(held): msgspec.json.encode(changed(read_progress(held, get)))})

    def _expire_index(self, held: Held, index: Index, oldest: int) -> int:
        dropped = 0
        for key in self.cells.keys(index.prefix()):

            def change(get: Get, key: bytes = key) -> Mapping[bytes, bytes | None]:
                nonlocal dropped
                (data,) = get([key])
                editor = Editor(held, key, get, read_directory(held, data))
                dropped += editor.forget(oldest)
                return editor.writes()

            self.cells.update(change)
        return dropped

    def _held(self, source: str) -> Held:
        found = self.indexes.sources.get(source)
        if found is None:
            raise DataError(
                f"the features read no source `{source}`; they read: {', '.join(self.indexes.sources) or 'none'}"
            )
        return found

    def _rows(self, held: Held, events: pl.DataFrame) -> pl.DataFrame:
        """Events as the program reads them, without those that can never be known."""
        rows = conform(events, held.layout.columns, f"events of source `{held.program.name}`")
        if held.timeless:
            return rows
        return rows.drop_nulls([str(held.program.time), held.program.available_column or str(held.program.time)])
