"""The state database: SQLite by path, PostgreSQL by URL, through the DB-API and plain SQL that both understand.

Enters: SQL with `?` for parameters, and for nothing else. Leaves: rows as dicts, and errors of the engine. Called by the
registry and the run index. Plain SQL instead of a toolkit, since a run with nothing to do must not pay 0.4 s for an import.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from engine.clock import isoformat
from engine.errors import EngineError, StoreError, UnavailableError, UsageError
from engine.stores.migrations import MIGRATIONS

Row: TypeAlias = dict[str, Any]
Parameters: TypeAlias = Sequence[str | int | float | None]
_SUPPORTED = "a file (`/data/state.db`), `sqlite:///data/state.db`, or `postgresql://user@host/database`"


class Driver(Protocol):
    """What differs between databases; connections follow the DB-API, in autocommit mode."""

    @property
    def dialect(self) -> str:
        """Which statements of a migration apply."""
        ...

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What its library raises."""
        ...

    @property
    def own_tables(self) -> str:
        """A query for the names of the tables that are there."""
        ...

    @property
    def label(self) -> str:
        """What to call the database in messages, without secrets."""
        ...

    def connect(self) -> Any:
        """Open a connection."""
        ...

    def prepare(self, sql: str) -> str:
        """Translate placeholders."""
        ...

    def begin(self, lock: str | None) -> tuple[str, ...]:
        """Start a transaction that writes (one at a time for each `lock`), or reads (`None`)."""
        ...

    def prepare_schema(self) -> tuple[str, ...]:
        """Give what precedes the first migration."""
        ...

    def is_lost(self, connection: Any) -> bool:
        """Say whether to connect anew."""
        ...

    def word(self, error: Exception) -> EngineError:
        """Put an error of the library into words."""
        ...


class Transaction:
    """An open transaction; it ends with the block that it was opened for."""

    def __init__(self, connection: Any, driver: Driver) -> None:
        self._connection = connection
        self._driver = driver

    def query(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """Give the rows of a SELECT, or of a statement with RETURNING."""
        cursor = self._connection.execute(self._driver.prepare(sql), tuple(parameters))
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def execute(self, sql: str, parameters: Parameters = ()) -> int:
        """Run a statement; gives how many rows it changed."""
        return int(self._connection.execute(self._driver.prepare(sql), tuple(parameters)).rowcount)


class Database:
    """One database, connected to when first used, migrated then. Threads take turns; other processes are no matter."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._turn = threading.RLock()
        self._connection: Any = None
        self._owner = 0

    def query(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """Give the rows of one SELECT."""
        with self._turn, self._explained():
            return Transaction(self._connected(), self._driver).query(sql, parameters)

    @contextmanager
    def transaction(self, lock: str | None) -> Iterator[Transaction]:
        """Run a block in one transaction: with a `lock`, one that writes, one at a time; with `None`, one that reads.

        Raises `LockedError` when the lock is not to be had, `UnavailableError`, `StoreError` or `IntegrityError`.
        """
        with self._turn, self._explained():
            connection = self._connected()
            with _transaction(connection, self._driver, lock) as transaction:
                yield transaction

    def close(self) -> None:
        """Close the connection; the next use opens another."""
        with self._turn:
            if self._connection is not None and self._owner == os.getpid():
                self._connection.close()
            self._connection = None

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except self._driver.errors as error:
            if self._connection is not None and self._driver.is_lost(self._connection):
                self._connection = None
            raise self._driver.word(error) from error

    def _connected(self) -> Any:
        if self._connection is None or self._owner != os.getpid():  # a connection does not survive a fork
            connection = self._driver.connect()
            weakref.finalize(self, _close, connection, os.getpid())
            _migrate(connection, self._driver)
            self._connection, self._owner = connection, os.getpid()
        return self._connection


def open_database(url: str) -> Database:
    """Give the database behind a path or URL, without connecting yet.

    Raises `UsageError` for an unknown scheme, `UnavailableError` when PostgreSQL's driver is not installed.
    """
    scheme, separator, rest = url.partition("://")
    if not url or (separator and not rest):
        raise UsageError(f"stores.state: {url!r} names no database", hint=f"supported: {_SUPPORTED}")
    if not separator or scheme in {"sqlite", "file"}:
        from engine.stores.sqlite_driver import SqliteDriver  # noqa: PLC0415 - only one of the two is needed

        return Database(SqliteDriver(Path(rest if separator else url)))
    if scheme not in {"postgresql", "postgres"}:
        raise UsageError(f"stores.state: {scheme}:// is not supported", hint=f"supported: {_SUPPORTED}")
    try:
        from engine.stores.postgres_driver import PostgresDriver  # noqa: PLC0415 - an optional package
    except ImportError as error:
        raise UnavailableError(
            f"stores.state names a PostgreSQL database, and its driver cannot be loaded: {error}",
            hint="pip install 'psycopg[binary]'",
        ) from error
    return Database(PostgresDriver(url))


@contextmanager
def _transaction(connection: Any, driver: Driver, lock: str | None) -> Iterator[Transaction]:
    try:
        for statement in driver.begin(lock):
            connection.execute(statement)
        yield Transaction(connection, driver)
        connection.execute("COMMIT")
    except BaseException:
        with suppress(*driver.errors):  # a lost connection has no transaction left to undo
            connection.execute("ROLLBACK")
        raise


def _migrate(connection: Any, driver: Driver) -> None:
    """Bring the schema up to date; several processes may try at once."""
    if _version(connection, driver) == len(MIGRATIONS):
        return
    with _transaction(connection, driver, "migrate") as transaction:
        for statement in driver.prepare_schema():
            transaction.execute(statement)
        done = _version(connection, driver)
        _check_steps(transaction, driver, done)
        if done == 0:
            transaction.execute(
                "CREATE TABLE schema_migrations (number INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at TEXT NOT NULL)"
            )
        for number, migration in enumerate(MIGRATIONS[done:], start=done + 1):
            for statement in migration.statements(driver.dialect):
                transaction.execute(statement)
            applied = isoformat(datetime.now(UTC))
            transaction.execute("INSERT INTO schema_migrations VALUES (?, ?, ?)", (number, migration.name, applied))


def _check_steps(transaction: Transaction, driver: Driver, done: int) -> None:
    """Refuse to add to a schema that was made by other steps: what they left may be what comes next here."""
    if done == 0:
        return
    rows = transaction.query("SELECT number, name FROM schema_migrations ORDER BY number")
    for row, known in zip(rows, MIGRATIONS, strict=False):  # those that are done
        if row["name"] != known.name:
            raise StoreError(
                f"{driver.label} was made by an engine whose schema was another: step {row['number']} there is `{row['name']}`, "
                f"here `{known.name}`",
                hint="use the engine that made it, or set stores.state to another database",
            )


def _version(connection: Any, driver: Driver) -> int:
    """Give the number of the last migration; raises `StoreError` for a newer schema, and for another program's database."""
    reading = Transaction(connection, driver)
    tables = {row["name"] for row in reading.query(driver.own_tables)}
    if not tables:
        return 0
    if "schema_migrations" not in tables:
        raise StoreError(
            f"{driver.label} is another program's database: it holds {', '.join(sorted(tables)[:3])}",
            hint="set stores.state to a database of its own",
        )
    found = int(reading.query("SELECT COALESCE(MAX(number), 0) AS number FROM schema_migrations")[0]["number"])
    if found > len(MIGRATIONS):
        raise StoreError(
            f"{driver.label} was written by a newer engine (schema {found}; this one knows up to {len(MIGRATIONS)})",
            hint="upgrade the engine, or set stores.state to another database",
        )
    return found


def _close(connection: Any, owner: int) -> None:
    if owner == os.getpid():
        connection.close()
