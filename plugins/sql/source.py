"""From a query to a pin, and from a pin to rows, the same for every database.

A reading sees one state of the database: it asks for the version again in the transaction in which it reads, and refuses
another than the pinned one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from engine.contracts import Pin, Reading
from engine.errors import DataError
from engine.keys import Json, digest_file

if TYPE_CHECKING:
    import polars as pl

_COMPANIONS = ("", "-wal", ".wal")  # where SQLite and DuckDB keep what is committed and not yet in the file


class Session(Protocol):
    """One read-only transaction."""

    def answer(self, query: str) -> list[str | None]:
        """Give the one row of a query as text; raises `DataError` when it is not one row."""
        ...

    def batches(self, query: str, columns: Mapping[str, str]) -> Iterator[pl.DataFrame]:
        """Yield a query's rows; `columns` are those that are declared, with their types."""
        ...


def pin_query(root: Path, params: Any, dialect: str) -> Pin:
    """Identify what the query will give."""
    path = _file(root, params, dialect)
    if params.as_of is not None:
        return Pin({"as_of": params.as_of.at}, f"as of {params.as_of.at}")
    if params.version is not None:
        with _connect(root, params, dialect) as session:
            found = session.answer(params.version)
        return Pin({"version": list(found)}, f"version {', '.join(map(str, found))}")
    if path is not None:
        return Pin(_digests(path), f"{path.name}, {path.stat().st_size:,} bytes")
    return Pin(None, "a query without `version` or `as_of`")


def read_query(reading: Reading, params: Any, dialect: str) -> Iterator[pl.DataFrame]:
    """Yield the declared columns of the query's rows; raises `DataError` when they are no longer what was pinned."""
    path = _file(reading.root, params, dialect)
    by_file = path is not None and params.version is None and params.as_of is None
    _refuse_changed(path, reading, by_file=by_file)
    with _connect(reading.root, params, dialect) as session:
        if params.version is not None and {"version": list(session.answer(params.version))} != reading.pin.identity:
            raise DataError(
                "the database's version changed between planning and reading", hint="run again: it is pinned anew"
            )
        for frame in session.batches(_limited(params, dialect), reading.columns):
            _check(frame, reading)
            yield frame.select(list(reading.columns))
    _refuse_changed(path, reading, by_file=by_file)


def _limited(params: Any, dialect: str) -> str:
    query = str(params.query).strip().rstrip(";")
    if params.as_of is None:
        return query
    column = '"' + params.as_of.column.replace('"', '""') + '"'
    at = "'" + params.as_of.at.replace("'", "''") + "'"
    moment = {"postgres": f"CAST({at} AS timestamptz)", "duckdb": f"CAST({at} AS timestamp)"}.get(dialect, at)
    return f"SELECT * FROM ({query}\n) AS rows_as_of WHERE {column} <= {moment}"  # noqa: S608 - the user's own query


def _connect(root: Path, params: Any, dialect: str) -> AbstractContextManager[Session]:
    match dialect:
        case "postgres":
            from .postgres import connect  # noqa: PLC0415 - an extra

            return connect(params.dsn)
        case "sqlite":
            from .sqlite import connect as connect_sqlite  # noqa: PLC0415 - start-up time

            return connect_sqlite(root / params.path)
        case _:
            from .duck import connect as connect_duck  # noqa: PLC0415 - an extra

            return connect_duck(root / params.path)


def _file(root: Path, params: Any, dialect: str) -> Path | None:
    if dialect == "postgres":
        return None
    path: Path = root / params.path
    if not path.is_file():
        raise DataError(f"there is no database file {path}", hint="correct `path`, or put the file there")
    return path


def _digests(path: Path) -> Json:
    found = {suffix: path.with_name(path.name + suffix) for suffix in _COMPANIONS}
    try:
        return {
            f"sha256{suffix}": digest_file(file)
            for suffix, file in found.items()
            if file.is_file() and file.stat().st_size
        }
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", hint="check the file's permissions") from error


def _refuse_changed(path: Path | None, reading: Reading, *, by_file: bool) -> None:
    if by_file and path is not None and _digests(path) != reading.pin.identity:
        raise DataError(f"{path} changed between planning and reading", hint="run again when nobody writes to it")


def _check(frame: pl.DataFrame, reading: Reading) -> None:
    for name in reading.columns:
        if name not in frame.columns:
            near = get_close_matches(name, frame.columns, 1)
            meant = f" (did you mean `{near[0]}`?)" if near else ""
            raise DataError(f"the query gives no column `{name}`{meant}", hint=f"it gives: {', '.join(frame.columns)}")


def one_row(rows: list[Any], query: str) -> list[str | None]:
    """Take the one row of a version query as text."""
    if len(rows) != 1:
        raise DataError(
            f"`version` gives {len(rows)} rows: {query}", hint="ask for one row, as in SELECT max(updated_at)"
        )
    return [None if value is None else str(value) for value in rows[0]]
