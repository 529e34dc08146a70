"""PostgreSQL over ADBC: binary rows as Arrow batches, in one repeatable-read, read-only transaction."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import polars as pl

from engine.errors import DataError, EngineError, UnavailableError

from .source import Session, one_row

_AWAY = ("08", "53", "57")  # SQLSTATE classes: connection, resources, operator intervention
_CONNECT_SECONDS = 10


class PostgresSession:
    """Fulfils `Session`."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def answer(self, query: str) -> list[str | None]:
        """Give the one row of a query as text."""
        with self._connection.cursor() as cursor:
            cursor.execute(query)
            return one_row(cursor.fetchall(), query)

    def batches(self, query: str, columns: Mapping[str, str]) -> Iterator[pl.DataFrame]:  # noqa: ARG002 - Arrow has types
        """Yield a query's rows, a batch of the driver's size at a time."""
        with self._connection.cursor() as cursor:
            cursor.execute(query)
            reader = cursor.fetch_record_batch()
            yield pl.DataFrame(pl.from_arrow(reader.schema.empty_table()))
            for batch in reader:
                yield pl.DataFrame(pl.from_arrow(batch))


@contextmanager
def connect(dsn: str) -> Iterator[Session]:
    """Open a session; raises `UnavailableError` for a server that is away, and `DataError` for what it cannot answer."""
    try:
        import adbc_driver_postgresql.dbapi as driver  # noqa: PLC0415 - an extra
        import pyarrow  # noqa: F401, ICN001, PLC0415 - the driver hands rows over through it
    except ImportError as error:
        hint = "pip install 'plumbline[sql]'"
        raise UnavailableError("reading PostgreSQL needs the library adbc-driver-postgresql", hint=hint) from error
    address = _resolved(dsn)
    patient = address if "connect_timeout" in address else _with_timeout(address)
    try:
        connection = driver.connect(patient)
    except driver.Error as error:
        words = _plain(error, dsn, address)
        raise UnavailableError(f"{dsn}: no connection: {words}", hint="is the server up, and `dsn` right?") from None
    try:
        with connection:
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                cursor.execute("SET LOCAL TIME ZONE 'UTC'")
            yield PostgresSession(connection)
            connection.rollback()
    except driver.Error as error:
        raise _refusal(error, _plain(error, dsn, address), dsn) from None


def _refusal(error: Any, words: str, dsn: str) -> EngineError:
    state = getattr(error, "sqlstate", None)
    if state is None or state[:2] in _AWAY:
        return UnavailableError(f"{dsn}: {words}", hint="run again when the server is well")
    return DataError(f"{dsn}: {words}", hint="correct `query` or `version`")


def _with_timeout(address: str) -> str:
    if "://" not in address:
        return f"{address} connect_timeout={_CONNECT_SECONDS}"
    return f"{address}{'&' if '?' in address else '?'}connect_timeout={_CONNECT_SECONDS}"


def _resolved(dsn: str) -> str:
    if "${" not in dsn:
        return dsn
    from engine.config.secrets import resolve_secret  # noqa: PLC0415 - start-up time

    return resolve_secret(dsn)


def _plain(error: Exception, dsn: str, address: str) -> str:
    """Give the driver's words without what a secret stands for."""
    words = " ".join(str(error).split())[:400].replace(address, dsn)
    pattern = "(.+)".join(re.escape(part) for part in re.split(r"\$\{[^}]*\}", dsn))
    found = re.fullmatch(pattern, address, re.DOTALL)
    for secret in found.groups() if found else ():
        words = words.replace(secret, "***")
    return words
