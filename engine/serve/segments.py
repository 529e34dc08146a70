"""An append-only log in files: what was appended survives `kill -9` at once, and the loss of power after the next sync.

    <folder>/<start>-<pid>-<n>.wal       frames as they come; the process that writes it holds a lock on it
    <folder>/<start>-<pid>-<n>.parquet   the same rows, sealed when the file was full or its writer gone

`append` is one `write` to the page cache, some microseconds; a thread of the writer syncs in groups. When syncing does not
keep up, or the disk is full, frames are dropped and counted instead of making an answer wait. Called by `prediction_log`
and `feedback`, which say what a frame holds.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from engine.errors import StoreError

_HEAD = struct.Struct("<II")  # length of the payload, its CRC-32


@dataclass(frozen=True, slots=True)
class SegmentLimits:
    """`size` bytes or `age` seconds seal a file; `unsynced` bytes, or a sync of `stalled` seconds, make frames be dropped."""

    size: int = 64 << 20
    age: float = 3600.0
    unsynced: int = 256 << 20
    stalled: float = 5.0
    sync_every: float = 0.05


@dataclass(slots=True)
class SegmentCounts:
    """What became of frames and rows; `failure` is why the last one was dropped."""

    rows: int = 0
    dropped: int = 0
    syncs: int = 0
    failure: str | None = None


class SegmentWriter:
    """One writer of a folder; several, of several processes, may write to one folder, each its own file.

    Safe for threads. `full(path)` is told of every file that was closed.
    """

    def __init__(self, folder: Path, header: bytes, limits: SegmentLimits, full: Callable[[Path], None]) -> None:
        self.counts = SegmentCounts()
        self._folder, self._header, self._limits, self._full = folder, header, limits, full
        self._lock = threading.Condition()
        self._appending = threading.Lock()
        self._fd = -1
        self._path = folder
        self._size = self._written = self._synced = self._number = 0
        self._opened = 0.0
        self._syncing_since: float | None = None
        self._closed = False
        self._open()
        self._thread = threading.Thread(target=self._sync_groups, name="segment-sync", daemon=True)
        self._thread.start()

    @property
    def unsynced(self) -> int:
        """Bytes that are written and not yet synced."""
        return self._written - self._synced

    def append(self, payload: bytes, rows: int) -> bool:
        """Write a frame; false when it was dropped, which is counted."""
        since = self._syncing_since
        if self.unsynced > self._limits.unsynced or (since is not None and monotonic() - since > self._limits.stalled):
            return self._drop(rows, "syncing to disk does not keep up")
        frame = _HEAD.pack(len(payload), zlib.crc32(payload)) + payload
        with self._appending:
            if self._closed:
                return self._drop(rows, "the log was closed")
            try:
                if self._size + len(frame) > self._limits.size or monotonic() - self._opened > self._limits.age:
                    self._rotate()
                self._write(frame)
            except OSError as error:
                return self._drop(rows, str(error))
            self.counts.rows += rows
        return True

    def wait_synced(self) -> None:
        """Wait until everything that was appended is on the disk; raises `StoreError` when the writer was closed."""
        with self._lock:
            target = self._written
            self._lock.notify_all()
            while self._synced < target:
                if self._closed:
                    raise StoreError(f"{self._folder}: the log was closed before it was synced")
                self._lock.wait(1.0)

    def close(self) -> None:
        """Sync, close, and hand the last file on."""
        with self._appending, self._lock:
            if self._closed:
                return
            self._closed = True
            self._lock.notify_all()
        self._thread.join()
        with suppress(OSError):
            os.fsync(self._fd)
        self._synced = self._written
        os.close(self._fd)
        self._full(self._path)

    def _drop(self, rows: int, why: str) -> bool:
        self.counts.dropped += rows
        self.counts.failure = why
        return False

    def _open(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._number += 1
        self._path = self._folder / f"{_now_name()}-{os.getpid()}-{self._number}.wal"
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        self._size, self._opened = 0, monotonic()
        self._write(_HEAD.pack(len(self._header), zlib.crc32(self._header)) + self._header)

    def _write(self, frame: bytes) -> None:
        """Write whole or not at all: a torn frame would hide those after it."""
        done = os.write(self._fd, frame)
        if done != len(frame):
            os.ftruncate(self._fd, self._size)
            raise OSError(28, f"only {done} of {len(frame)} bytes could be written to {self._path}")
        self._size += done
        self._written += done

    def _rotate(self) -> None:
        before, path = self._fd, self._path
        with self._lock:
            self._open()
        os.fsync(before)
        os.close(before)
        self._full(path)

    def _sync_groups(self) -> None:
        """Sync what came since the last sync, over and over; one sync serves all who wait."""
        while True:
            with self._lock:
                if not self._closed:
                    self._lock.wait(self._limits.sync_every)
                target, fd, stop = self._written, self._fd, self._closed
                if target > self._synced:
                    fd = os.dup(fd)  # the file may be rotated away meanwhile
                elif stop:
                    return
                else:
                    continue
            self._syncing_since = monotonic()
            try:
                os.fdatasync(fd)
                self.counts.syncs += 1
            except OSError as error:
                self.counts.failure = str(error)
            finally:
                os.close(fd)
                self._syncing_since = None
            with self._lock:
                self._synced = max(self._synced, target)
                self._lock.notify_all()


def _now_name() -> str:
    from engine.clock import SystemClock, to_microseconds  # noqa: PLC0415 - names files, decides nothing

    return f"{to_microseconds(SystemClock().now()):016d}"


def read_frames(path: Path) -> Iterator[bytes]:
    """The payloads of a file, the header first, up to the first that is not whole: what a killed writer left of one."""
    with path.open("rb") as file:
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            length, check = _HEAD.unpack(head)
            payload = file.read(length)
            if len(payload) != length or zlib.crc32(payload) != check:
                return
            yield payload


def is_abandoned(path: Path) -> bool:
    """Whether no process writes this file any more."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(fd)


def segment_files(folder: Path) -> list[Path]:
    """The files that hold the log, oldest first: each sealed one, and each open one that has no sealed twin."""
    sealed = {path.stem for path in folder.glob("*.parquet")}
    files = [path for path in folder.iterdir() if path.suffix in {".parquet", ".wal"}] if folder.is_dir() else []
    return sorted(
        (path for path in files if path.suffix == ".parquet" or path.stem not in sealed), key=lambda p: p.stem
    )
