"""Files of serving logs that are older than somebody wants to keep: predictions, and the journal of pushed events.

Enters: the state folder, an age or a size. Leaves: what may go, as `Garbage`, and deletions. A file is as old as its last row,
and goes whole; one that a server still writes stays. Labels that came as feedback are small, and kept. Called by `garbage`, and
by `engine features materialize` with what the pipeline declares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from engine.data_records import Garbage

_FOLDERS = ("predictions", "events")
_FILES = frozenset({".wal", ".parquet"})


@dataclass(frozen=True, slots=True)
class OldLogs:
    """The logs below `home`, of one model or of all; `is_abandoned` says of an open file that nobody writes it any more."""

    home: Path
    is_abandoned: Callable[[Path], bool]
    model: str = ""

    def find(self, now: float, seconds: float) -> list[Garbage]:
        """Files whose last row is older than so many seconds."""
        return [item for item in self._closed(now) if item.idle_seconds > seconds]

    def beyond(self, now: float, size: int) -> list[Garbage]:
        """The oldest closed files, as few as leave `size` bytes at most, with those that are being written."""
        closed = sorted(self._closed(now), key=lambda item: -item.idle_seconds)
        surplus = sum(_size(path) for path in self._files()) - size
        found = []
        for item in closed:
            if surplus <= 0:
                break
            found.append(item)
            surplus -= item.bytes
        return found

    def _closed(self, now: float) -> list[Garbage]:
        found = []
        for path in self._files():
            with suppress(FileNotFoundError):
                stat = path.stat()
                if path.suffix == ".parquet" or self.is_abandoned(path):
                    name = str(path.relative_to(self.home))
                    found.append(Garbage(store="logs", name=name, bytes=stat.st_size, idle_seconds=now - stat.st_mtime))
        return found

    def delete(self, found: list[Garbage]) -> int:
        """Delete what `find` found; gives how many files went."""
        gone = 0
        for item in found:
            with suppress(FileNotFoundError):
                (self.home / item.name).unlink()
                gone += 1
        return gone

    def _files(self) -> Iterator[Path]:
        for name in _FOLDERS:
            yield from (path for path in sorted((self.home / name / self.model).rglob("*")) if path.suffix in _FILES)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
