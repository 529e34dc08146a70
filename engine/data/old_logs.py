"""Files of serving logs that are older than somebody wants to keep: predictions, and the journal of pushed events.

Enters: the state folder and an age. Leaves: what may go, as `Garbage`, and deletions. A file is as old as its last row, and
goes whole; one that a server still writes stays. Labels that came as feedback are small, and kept. Called by `garbage`.
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
    """The logs below `home`; `is_abandoned` says of an open file that nobody writes it any more."""

    home: Path
    is_abandoned: Callable[[Path], bool]

    def find(self, now: float, seconds: float) -> list[Garbage]:
        """Files whose last row is older than so many seconds."""
        found = []
        for path in self._files():
            with suppress(FileNotFoundError):
                stat = path.stat()
                if now - stat.st_mtime > seconds and (path.suffix == ".parquet" or self.is_abandoned(path)):
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
            yield from (path for path in sorted((self.home / name).rglob("*")) if path.suffix in _FILES)
