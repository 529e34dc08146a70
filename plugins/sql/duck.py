"""DuckDB over Arrow. A query sees the one file only, since nothing else is pinned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from engine.errors import DataError, UnavailableError

from .source import Session, one_row

_BATCH_ROWS = 100_000


class DuckSession:
    """Fulfils `Session`."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def answer(self, query: str) -> list[str | None]:
        """Give the one row of a query as text."""
        return one_row(self._connection.execute(query).fetchall(), query)

    def batches(self, query: str, columns: Mapping[str, str]) -> Iterator[pl.DataFrame]:  # noqa: ARG002 - Arrow has types
        """Yield a query's rows."""
        rows = self._connection.sql(query)
        if rows is None:
            raise DataError("the query gives no rows: it is no SELECT", hint="correct `query`")
        reader = rows.to_arrow_reader(_BATCH_ROWS)
        yield pl.DataFrame(pl.from_arrow(reader.schema.empty_table()))
        for batch in reader:
            yield pl.DataFrame(pl.from_arrow(batch))


@contextmanager
def connect(path: Path) -> Iterator[Session]:
    """Open a session; raises `DataError`, or `UnavailableError` when another process holds the file."""
    try:
        import duckdb  # noqa: PLC0415 - an extra
        import pyarrow  # noqa: F401, ICN001, PLC0415 - rows are handed over through it
    except ImportError as error:
        hint = "pip install 'plumbline[sql]'"
        raise UnavailableError("reading DuckDB needs the library duckdb", hint=hint) from error
    try:
        with duckdb.connect(str(path), read_only=True, config={"enable_external_access": "false"}) as connection:
            connection.execute("BEGIN")
            yield DuckSession(connection)
    except duckdb.Error as error:
        words = " ".join(str(error).split())[:300]
        if isinstance(error, duckdb.IOException) and "lock" in words:
            raise UnavailableError(f"{path}: {words}", hint="run again when nobody writes to it") from error
        raise DataError(f"{path}: {words}", hint="correct `query` or `version`; is it a DuckDB file?") from error
