"""The state of a served model: pushed events go in, once and durably, and another program's state can be caught up.

    <root>/<model>/<start>-<pid>-<n>.wal      every pushed event as it came, in order of receipt
    <root>/<model>/<program>.mark             up to which receipt a program's state has them

Enters: an `OnlineState` and typed events. Leaves: counts, and how far the state is. Called by the service and by whoever
opens a lane. A snapshot does not have the events of the last hours; the journal does, so a new champion with other features
starts from both. Replaying is idempotent: events are told apart by id, or by the token of their push.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec

from engine.errors import EngineError, UnavailableError
from engine.keys import canonical_json
from engine.online_contracts import OnlineState
from engine.serve.events import Events, type_events
from engine.serve.mistakes import RefusedError
from engine.serve.package import Served
from engine.serve.segments import SegmentLimits, SegmentWriter, read_frames, segment_files

_FRESH_SECONDS = 1.0


class JournalEntry(msgspec.Struct, frozen=True, array_like=True):
    """Events as they were pushed."""

    received_at: int
    source: str
    token: str
    events: list[dict[str, Any]]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(JournalEntry)


class EventJournal:
    """The pushed events of one model. Safe for threads; several processes write each its own file."""

    def __init__(self, root: Path, model: str) -> None:
        self.folder = root / model
        header = _encoder.encode({"model": model, "version": 1})
        self._writer = SegmentWriter(self.folder, header, SegmentLimits(), lambda _: None)

    def append(self, entry: JournalEntry) -> None:
        """Write events; on the disk when this returns. Raises `UnavailableError`."""
        if not self._writer.append(_encoder.encode(entry), len(entry.events)):
            raise UnavailableError(f"events cannot be written: {self._writer.counts.failure}")
        self._writer.wait_synced()

    def since(self, moment: int) -> Iterator[JournalEntry]:
        """Every entry received at a moment or later."""
        for path in segment_files(self.folder):
            with suppress(FileNotFoundError):
                frames = read_frames(path)
                next(frames, None)
                yield from (entry for entry in map(_decoder.decode, frames) if entry.received_at >= moment)

    def marked(self, program: str) -> int:
        """Up to which receipt a program's state has the events; 0 when it was never caught up."""
        try:
            return int((self.folder / f"{program[:16]}.mark").read_text("ascii"))
        except (FileNotFoundError, ValueError):
            return 0

    def mark(self, program: str, received_at: int) -> None:
        """Remember that a program's state has every event received by then."""
        path = self.folder / f"{program[:16]}.mark"
        made = path.with_suffix(".tmp")
        made.write_text(str(received_at), "ascii")
        made.replace(path)

    def close(self) -> None:
        """Sync and close."""
        self._writer.close()


@dataclass
class Door:
    """The writing side of one lane's state."""

    served: Served
    state: OnlineState
    _mark: str = field(default="{}", init=False)
    _marked: float = field(default=float("-inf"), init=False)

    def push_events(self, events: Events) -> Mapping[str, int]:
        """Add typed events; durable when this returns."""
        columns = self.served.program.source_columns(events.source)
        pushed = self.state.push(events.source, events.rows.select(columns), events.token)
        return {"accepted": pushed.accepted, "repeated": pushed.repeated,
                "unknowable": pushed.unknowable, "expired": pushed.expired}  # fmt: skip

    def mark(self) -> str:
        """Say how far the state is, in canonical JSON by source; at most a second old."""
        if monotonic() - self._marked > _FRESH_SECONDS:
            self._marked = monotonic()
            with suppress(EngineError):
                self._mark = canonical_json(dict(self._sources())).decode()
        return self._mark

    def _sources(self) -> Iterator[tuple[str, dict[str, int | str | None]]]:
        for name in self.served.program.feature_sources:
            found = self.state.watermark(name)
            yield (
                name,
                {"commit": found.commit, "events": found.events, "time": found.time, "available": found.available},
            )

    def catch_up(self, journal: EventJournal, now: int) -> int:
        """Push what was received since this program's state was last caught up; gives how many events."""
        program, count = self.served.program, 0
        for entry in journal.since(journal.marked(program.digest)):
            source = self.served.sources.get(entry.source)
            if source is None or entry.source not in program.feature_sources:
                continue
            with suppress(RefusedError):  # this program's source has other columns: what does not fit was never its own
                count += self.push_events(type_events(source, entry.events, entry.token))["accepted"]
        journal.mark(program.digest, now)
        return count
