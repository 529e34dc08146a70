"""SQLite as a state database: one file in WAL mode, and its errors in words.

Enters: a path. Leaves: connections in autocommit mode. Called by `database`.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from engine.errors import ConflictError, EngineError, IntegrityError, LockedError, StoreError, UnavailableError
from engine.stores.disk import explained

_BUSY_SECONDS = 30.0
_SHARED_FILE = 32 << 10  # bytes that the index of the write-ahead log takes at once


@dataclass(frozen=True, slots=True)
class SqliteDriver:
    """How to talk to one SQLite file."""

    path: Path
    busy_seconds: float = _BUSY_SECONDS

    dialect: ClassVar[str] = "sqlite"
    errors: ClassVar[tuple[type[Exception], ...]] = (sqlite3.Error,)
    own_tables: ClassVar[str] = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"

    @property
    def label(self) -> str:
        """What to call the database in messages."""
        return str(self.path)

    def connect(self) -> sqlite3.Connection:
        """Open the file, creating it and its folder; raises `sqlite3.Error` or `StoreError`."""
        with explained("create the folder of", self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            self.path, timeout=self.busy_seconds, isolation_level=None, check_same_thread=False
        )
        try:
            self._set_up(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def prepare(self, sql: str) -> str:
        """Give the statement with this driver's placeholders."""
        return sql

    def begin(self, lock: str | None) -> tuple[str, ...]:
        """Give what starts a transaction: a writing one (alone in the whole file) for a `lock`, else a reading one."""
        return ("BEGIN",) if lock is None else ("BEGIN IMMEDIATE",)

    def prepare_schema(self) -> tuple[str, ...]:
        """Give what has to happen before the first migration."""
        return ()

    def is_lost(self, connection: sqlite3.Connection) -> bool:  # noqa: ARG002 - of the protocol
        """Say whether the connection is of no more use: a file is never lost."""
        return False

    def word(self, error: Exception) -> EngineError:
        """Say in words what a `sqlite3.Error` means and what to do."""
        code = getattr(error, "sqlite_errorcode", None)
        name = f"the state database {self.path}"
        match None if code is None else code & 0xFF:  # the low byte is the primary code
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return LockedError(
                    f"{name} is locked: another process has been writing to it for over {self.busy_seconds:g} s",
                    hint="wait for that process, or end it, and run again",
                )
            case sqlite3.SQLITE_FULL:
                return StoreError(f"{name} cannot grow: the disk is full", hint="free some space and run again")
            case sqlite3.SQLITE_IOERR if self._is_disk_full():  # what it calls a shared file that cannot grow
                return StoreError(f"{name} cannot be used: the disk is full", hint="free some space and run again")
            case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
                return StoreError(
                    f"{name} is read-only", hint="make the file and its folder writable, or set stores.state"
                )
            case sqlite3.SQLITE_CANTOPEN:
                return UnavailableError(
                    f"{name} cannot be opened",
                    hint="check that the folder is there, and that it is writable; see stores.state",
                )
            case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
                return IntegrityError(
                    f"{name} is damaged, or is not a database: {error}", hint="restore it from a copy, or move it away"
                )
            case sqlite3.SQLITE_CONSTRAINT:
                return ConflictError(f"{name} refused a change: {error}")
            case _:
                return StoreError(f"{name}: {error}", hint="check the disk, then run again")

    def _is_disk_full(self) -> bool:
        try:
            return shutil.disk_usage(self.path.parent).free < _SHARED_FILE
        except OSError:
            return False

    def _set_up(self, connection: sqlite3.Connection) -> None:
        """Write-ahead log, every commit on the disk, foreign keys; the switch to WAL may find the file busy."""
        deadline = time.monotonic() + self.busy_seconds
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL").fetchall()
                break
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
