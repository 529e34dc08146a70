"""PostgreSQL as a state database, through psycopg (an optional package), and its errors in words.

Enters: a URL. Leaves: connections in autocommit mode, whose tables lie in the schema `plumbline`. Called by `database`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar

import psycopg
from psycopg import errors

from engine.errors import ConflictError, EngineError, LockedError, StoreError, UnavailableError
from engine.keys import digest_bytes

_CONNECT_SECONDS = 10
_LOCK_SECONDS = 30


@dataclass(frozen=True, slots=True)
class PostgresDriver:
    """How to talk to one PostgreSQL database."""

    url: str

    dialect: ClassVar[str] = "postgresql"
    errors: ClassVar[tuple[type[Exception], ...]] = (psycopg.Error,)
    own_tables: ClassVar[str] = "SELECT tablename AS name FROM pg_tables WHERE schemaname = 'plumbline'"

    @property
    def label(self) -> str:
        """What to call the database in messages: never with its password."""
        return re.sub(r"(?<=password=)[^&]*", "…", re.sub(r"//([^/@:]*):[^/@]*@", r"//\1:…@", self.url))

    def connect(self) -> psycopg.Connection[Any]:
        """Connect; raises `psycopg.Error`."""
        connection = psycopg.connect(self.url, autocommit=True, connect_timeout=_CONNECT_SECONDS)
        try:
            connection.execute("SET search_path TO plumbline")
            connection.execute(f"SET lock_timeout = '{_LOCK_SECONDS}s'")
        except BaseException:
            connection.close()
            raise
        return connection

    def prepare(self, sql: str) -> str:
        """Give the statement with this driver's placeholders."""
        return sql.replace("%", "%%").replace("?", "%s")

    def begin(self, lock: str | None) -> tuple[str, ...]:
        """Give what starts a transaction: a writing one, alone among those with this `lock`, else a reading one."""
        if lock is None:
            return ("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",)
        number = int(digest_bytes(lock.encode())[:15], 16)
        return ("BEGIN", f"SELECT pg_advisory_xact_lock({number})")

    def prepare_schema(self) -> tuple[str, ...]:
        """Give what has to happen before the first migration."""
        return ("CREATE SCHEMA IF NOT EXISTS plumbline",)

    def is_lost(self, connection: psycopg.Connection[Any]) -> bool:
        """Say whether the connection is of no more use."""
        return bool(connection.closed)

    def word(self, error: Exception) -> EngineError:
        """Say in words what a `psycopg.Error` means and what to do."""
        name = f"the state database {self.label}"
        match error:
            case errors.LockNotAvailable() | errors.DeadlockDetected() | errors.SerializationFailure():
                return LockedError(
                    f"{name} is locked by another process: {_first_line(error)}", hint="wait, and run again"
                )
            case errors.DiskFull():
                return StoreError(f"{name}: the server's disk is full", hint="free some space there and run again")
            case errors.ReadOnlySqlTransaction() | errors.InsufficientPrivilege():
                return StoreError(
                    f"{name} cannot be written to: {_first_line(error)}",
                    hint="use a primary server, and a user that may create the schema `plumbline`",
                )
            case errors.IntegrityError() | errors.RaiseException():
                return ConflictError(f"{name} refused a change: {_first_line(error)}")
            case psycopg.OperationalError():
                return UnavailableError(
                    f"{name} does not answer: {_first_line(error)}", hint="check that the server runs, and stores.state"
                )
            case _:
                return StoreError(f"{name}: {_first_line(error)}", hint="see the server's log")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
