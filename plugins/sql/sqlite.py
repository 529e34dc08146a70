"""SQLite by the standard library: each cell has a type of its own, and is checked against the declared one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl

from engine.errors import DataError, UnavailableError

from .source import Session, one_row

_BATCH_ROWS = 100_000
_WAIT_SECONDS = 10
_TYPES: dict[str, tuple[Any, tuple[type, ...]]] = {
    "bool": (pl.Int64, (int,)), "i64": (pl.Int64, (int,)), "f64": (pl.Float64, (float, int)),
    "str": (pl.String, (str,)), "timestamp": (pl.String, (str,)),
}  # fmt: skip


class SqliteSession:
    """Fulfils `Session`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def answer(self, query: str) -> list[str | None]:
        """Give the one row of a query as text."""
        return one_row(self._connection.execute(query).fetchall(), query)

    def batches(self, query: str, columns: Mapping[str, str]) -> Iterator[pl.DataFrame]:
        """Yield a query's rows."""
        cursor = self._connection.execute(query)
        names = [item[0] for item in cursor.description or ()]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DataError(f"the query gives {', '.join(twice)} twice", hint="name each column once, with AS")
        known = [name for name in names if name in columns]
        yield pl.DataFrame(schema={name: _TYPES[columns[name]][0] for name in known} or dict.fromkeys(names, pl.Null))
        done = 0
        while rows := cursor.fetchmany(_BATCH_ROWS):
            cells = dict(zip(names, zip(*rows, strict=True), strict=True))
            yield pl.DataFrame([_column(name, cells[name], columns[name], done) for name in known])
            done += len(rows)


def _column(name: str, values: tuple[Any, ...], type_: str, before: int) -> pl.Series:
    dtype, allowed = _TYPES[type_]
    for number, value in enumerate(values, before + 1):
        if value is not None and not isinstance(value, allowed):
            raise DataError(
                f"row {number} of the query, column `{name}`: {str(value)[:80]!r} is not {type_}",
                hint=f"CAST it in the query, or declare `{name}` otherwise",
            )
    return pl.Series(name, values, dtype, strict=type_ != "f64")


@contextmanager
def connect(path: Path) -> Iterator[Session]:
    """Open a session; raises `DataError`, or `UnavailableError` when another holds the file."""
    try:
        with closing(
            sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=_WAIT_SECONDS)
        ) as connection:
            connection.isolation_level = None
            connection.execute("BEGIN")
            yield SqliteSession(connection)
    except sqlite3.OperationalError as error:
        if "locked" in str(error) or "busy" in str(error):
            raise UnavailableError(f"{path}: {error}", hint="run again when nobody writes to it") from error
        raise DataError(f"{path}: {error}", hint="correct `query` or `version`") from error
    except sqlite3.DatabaseError as error:
        raise DataError(f"{path}: {error}", hint="is it an SQLite file, and whole?") from error
