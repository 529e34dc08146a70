"""Databases as sources: `postgres` over ADBC, `sqlite` by the standard library, `duckdb` over Arrow; a query gives the rows.

ADBC hands over PostgreSQL's binary rows as Arrow batches. SQLite's cells have types of their own, whatever the column says:
they are checked one by one, which no Arrow driver does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from engine.components import Component, Params
from engine.contracts import Pin, Reading

if TYPE_CHECKING:
    import polars as pl

Dialect = Literal["postgres", "sqlite", "duckdb"]
_LOGIN = re.compile(r"^[a-z]+://[^/@]*:[^/@]+@|password\s*=", re.IGNORECASE)


class AsOf(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Only rows whose `column` is not after the moment `at` (RFC 3339), and that are never changed once written."""

    column: str
    at: str


class QueryParams(Params, frozen=True, kw_only=True):
    """`query` is one SELECT. What pins it: `version`, a query whose answer changes when the rows do; or `as_of`.

    Without either, a database in a file is pinned by the file's content, and one on a server is read anew by every run.
    """

    query: str
    version: str | None = None
    as_of: AsOf | None = None

    def __post_init__(self) -> None:
        """Refuse two pins."""
        if self.version is not None and self.as_of is not None:
            raise ValueError("say `version` or `as_of`, not both")


class ServerParams(QueryParams, frozen=True, kw_only=True):
    """`dsn` as in `postgresql://app:${secret:PG_PASSWORD}@host:5432/name`."""

    dsn: str

    def __post_init__(self) -> None:
        """Refuse a password that is written out."""
        QueryParams.__post_init__(self)
        if _LOGIN.search(self.dsn) and "${secret:" not in self.dsn:
            raise ValueError("a password in `dsn` is written ${secret:NAME}")


class DatabaseFileParams(QueryParams, frozen=True, kw_only=True):
    """`path` of a database file, from the project's root."""

    path: str


@dataclass(frozen=True)
class QuerySource:
    """Fulfils `engine.contracts.Source`."""

    params: QueryParams
    dialect: Dialect

    def pin(self, root: Path) -> Pin:
        """Identify the rows by version, moment or file; raises `DataError` or `UnavailableError`."""
        from .source import pin_query  # noqa: PLC0415 - start-up time

        return pin_query(root, self.params, self.dialect)

    def read(self, reading: Reading) -> Iterator[pl.DataFrame]:
        """Yield the rows in batches, all from one state of the database."""
        from .source import read_query  # noqa: PLC0415 - start-up time

        yield from read_query(reading, self.params, self.dialect)


def _component(dialect: Dialect, params: type[Params], libraries: tuple[str, ...], doc: str) -> Component:
    return Component("source", dialect, params, lambda params: QuerySource(params, dialect), libraries, doc)


def components() -> tuple[Component, ...]:
    """The kinds of sources that ask a database."""
    adbc = ("polars", "adbc-driver-postgresql")
    return (
        _component("postgres", ServerParams, adbc, "A query to PostgreSQL"),
        _component("sqlite", DatabaseFileParams, ("polars",), "A query to an SQLite file"),
        _component("duckdb", DatabaseFileParams, ("polars", "duckdb"), "A query to a DuckDB file"),
    )


__all__ = ["DatabaseFileParams", "QueryParams", "QuerySource", "ServerParams", "components"]
