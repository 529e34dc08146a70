"""Cells in memory: for tests, gates and cases; nothing outlives the process."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from engine.online_contracts import Change, Get

_NAMED: dict[str, MemoryCells] = {}


def named(name: str) -> MemoryCells:
    """The cells of this name in this process, made when first asked for."""
    return _NAMED.setdefault(name, MemoryCells())


class MemoryCells:
    """A dictionary behind a lock."""

    def __init__(self) -> None:
        self._cells: dict[bytes, bytes] = {}
        self._lock = threading.RLock()

    @contextmanager
    def view(self) -> Iterator[Get]:
        """Give a reader; writers wait."""
        with self._lock:
            yield self._get

    def update(self, change: Change) -> None:
        """Apply a change whole."""
        with self._lock:
            for key, value in change(self._get).items():
                if value is None:
                    self._cells.pop(key, None)
                else:
                    self._cells[key] = value

    def keys(self, prefix: bytes) -> Iterator[bytes]:
        """List the keys with a prefix, as they were."""
        with self._lock:
            found = [key for key in self._cells if key.startswith(prefix)]
        return iter(found)

    def clear(self) -> None:
        """Remove everything."""
        with self._lock:
            self._cells.clear()

    def durability(self) -> str | None:
        """What an acknowledged event is not safe from."""
        return "the online state is in memory: it ends with the process"

    def close(self) -> None:
        """Nothing is held."""

    def _get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self._cells.get(key) for key in keys]
