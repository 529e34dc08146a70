"""Cells in LMDB: the embedded store. A change is one transaction, synced to disk before `update` returns.

One process writes at a time (LMDB's own lock, which a killed process lets go of); any number read, each a moment of its
own. The map grows by doubling. `file:///folder?map=64` starts with a map of 64 MiB.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, unquote

import lmdb

from engine.errors import EngineError, StoreError, UsageError
from engine.online.grouping import GroupCommit, Pending
from engine.online_contracts import Change, Get

_MAP_MIB = 1024
_READERS = 512
_LITTLE = 64 << 20
_OPEN: dict[Path, LmdbCells] = {}
_OPENING = threading.Lock()


def open_folder(url: str, name: str) -> LmdbCells:
    """Open `folder/name`, made if it is not there. LMDB must not open a file twice in a process, so it is shared."""
    address, _, query = url.removeprefix("file://").partition("?")
    asked = parse_qs(query)
    if asked.keys() - {"map"} or not all(text.isdigit() and int(text) for text in asked.get("map", ())):
        raise UsageError(f"stores.online: {query!r} is not understood", hint="allowed: ?map=MEBIBYTES")
    path = (Path(unquote(address)) / name).absolute()
    with _OPENING:
        found = _OPEN.get(path)
        if found is None:
            found = _OPEN[path] = LmdbCells(path, int(asked.get("map", [str(_MAP_MIB)])[0]) << 20)
        found.users += 1
    return found


class LmdbCells:
    """Fulfils `Cells`."""

    def __init__(self, path: Path, map_bytes: int) -> None:
        self.path = path
        self.users = 0
        self._gate = _Gate()
        self._group = GroupCommit(self._commit)
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._env = lmdb.open(str(path), map_size=map_bytes, max_readers=_READERS, max_dbs=0)
            self._env.reader_check()  # slots of processes that were killed
        except (lmdb.Error, OSError) as error:
            raise StoreError(f"the online state in {path} cannot be opened: {error}") from error

    @contextmanager
    def view(self) -> Iterator[Get]:
        """Give a reader of one moment."""
        with self._gate.shared(), self._begin() as transaction:
            yield _reader(transaction)

    def update(self, change: Change) -> None:
        """Apply a change in a transaction, together with those that wait."""
        self._group.apply(change)

    def keys(self, prefix: bytes) -> Iterator[bytes]:
        """List the keys with a prefix, as they were."""
        with self._gate.shared(), self._begin() as transaction:
            cursor = transaction.cursor()
            found: list[bytes] = []
            if cursor.set_range(prefix):
                for key in map(bytes, cursor.iternext(keys=True, values=False)):
                    if not key.startswith(prefix):
                        break
                    found.append(key)
        return iter(found)

    def clear(self) -> None:
        """Remove everything."""
        keys = list(self.keys(b""))
        self.update(lambda _: dict.fromkeys(keys))

    def durability(self) -> str | None:
        """What an acknowledged event is not safe from; nothing here."""
        return None

    def close(self) -> None:
        """Let go of the file when the last user has."""
        with _OPENING:
            self.users -= 1
            if self.users <= 0 and _OPEN.get(self.path) is self:
                del _OPEN[self.path]
                with self._gate.alone():
                    self._env.close()

    def _begin(self) -> lmdb.Transaction:
        try:
            return self._env.begin()
        except lmdb.MapResizedError:  # another process made it larger
            self._gate.leave()
            try:
                with self._gate.alone():
                    self._env.set_mapsize(0)
            finally:
                self._gate.enter()
            return self._env.begin()

    def _commit(self, batch: Sequence[Pending]) -> None:
        while True:
            try:
                with self._gate.shared(), self._env.begin(write=True) as transaction:
                    for one in batch:
                        _apply(transaction, one)
                return
            except lmdb.MapFullError:
                self._resize(self._env.info()["map_size"] * 2)
            except lmdb.MapResizedError:
                self._resize(0)
            except lmdb.Error as error:
                raise self._explained(error) from error

    def _resize(self, size: int) -> None:
        try:
            with self._gate.alone():
                self._env.set_mapsize(size)
        except lmdb.Error as error:
            raise StoreError(
                f"the online state in {self.path} cannot grow to {size >> 20} MiB: {error}",
                hint="raise the limit of address space (ulimit -v), or set online.retention and expire",
            ) from error

    def _explained(self, error: lmdb.Error) -> StoreError:
        """Say what failed. LMDB calls a write that stopped half way, as on a full disk, an input/output error."""
        text = str(error)
        free = shutil.disk_usage(self.path).free
        full = any(word in text for word in ("No space left", "quota exceeded", "File too large"))
        if full or ("Input/output error" in text and free < _LITTLE):
            return StoreError(
                f"no space left for the online state in {self.path}: nothing of this push was kept ({text})",
                hint="free some space, or move it with stores.online; then push again",
            )
        return StoreError(
            f"the online state in {self.path} could not be written: nothing of this push was kept"
            f" ({text}; {free >> 20} MiB are free there)",
            hint="look after the disk and its limits; then push again",
        )


def _reader(transaction: lmdb.Transaction) -> Get:
    def read(keys: Sequence[bytes]) -> list[bytes | None]:
        return [transaction.get(key) for key in keys]  # type: ignore[misc]  # bytes, not buffers

    return read


def _apply(transaction: lmdb.Transaction, one: Pending) -> None:
    one.error = None
    try:
        writes = one.change(_reader(transaction))
    except EngineError as error:  # this change alone is refused
        one.error = error
        return
    for key in sorted(writes):
        value = writes[key]
        if value is None:
            transaction.delete(key)
        else:
            transaction.put(key, value)


class _Gate:
    """Transactions pass together; a change of the map's size waits until none is open, and passes alone."""

    def __init__(self) -> None:
        self._inside = 0
        self._closed = False
        self._changed = threading.Condition()

    def enter(self) -> None:
        with self._changed:
            while self._closed:
                self._changed.wait()
            self._inside += 1

    def leave(self) -> None:
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()

    @contextmanager
    def shared(self) -> Iterator[None]:
        self.enter()
        try:
            yield
        finally:
            self.leave()

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._changed:
            while self._closed:
                self._changed.wait()
            self._closed = True
            while self._inside:
                self._changed.wait()
        try:
            yield
        finally:
            with self._changed:
                self._closed = False
                self._changed.notify_all()
