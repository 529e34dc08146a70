"""Databases as sources: every check goes to a real PostgreSQL server, an SQLite file and a DuckDB file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from engine.components import load_catalogue
from engine.contracts import Reading
from engine.errors import DataError, EngineError, UnavailableError

KINDS = ("postgres", "sqlite", "duckdb")
COLUMNS = {"id": "str", "n": "i64", "x": "f64", "ok": "bool", "moment": "timestamp"}
TABLE = "CREATE TABLE rides (id text, n bigint, x double precision, ok {bool}, moment {time})"
ROWS = [
    "('a', 1, 0.5, {true}, '2024-01-01T00:00:00Z')",
    "('b', NULL, NULL, NULL, NULL)",
    "('c', 3, 1e300, {false}, '2024-01-03T00:00:00Z')",
]
QUERY = "SELECT * FROM rides ORDER BY id"
CATALOGUE = load_catalogue(Path("/"), ("sql",))


@dataclass
class Database:
    """One database with the table `rides`."""

    kind: str
    root: Path
    where: dict[str, str]
    run: Callable[[str], None]

    def source(self, query: str = QUERY, **params: Any) -> Any:
        component = CATALOGUE.get("source", self.kind)
        return component.build(msgspec.convert({**self.where, "query": query, **params}, component.params))

    def read(self, source: Any, columns: dict[str, str] = COLUMNS) -> pl.DataFrame:
        return pl.concat(list(source.read(Reading(self.root, source.pin(self.root), columns))))


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """A fresh database of every kind."""
    kind = request.param
    if kind == "postgres":
        import psycopg

        folder = request.getfixturevalue("postgres_folder")
        dsn = f"postgresql://plumbline@/postgres?host={folder}"

        def run(sql: str) -> None:
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute(sql)  # type: ignore[call-overload]

        where, types = {"dsn": dsn}, {"bool": "boolean", "time": "timestamptz"}
        run("DROP TABLE IF EXISTS rides")
    else:
        path = tmp_path / "rides.db"

        def run(sql: str) -> None:
            if kind == "sqlite":
                with closing(sqlite3.connect(path)) as connection, connection:
                    connection.execute(sql)
            else:
                import duckdb

                with duckdb.connect(str(path)) as connection:
                    connection.execute(sql)

        where = {"path": "rides.db"}
        types = {"bool": "integer", "time": "text"} if kind == "sqlite" else {"bool": "boolean", "time": "timestamp"}
    run(TABLE.format(**types))
    words = {"true": "1", "false": "0"} if kind == "sqlite" else {"true": "true", "false": "false"}
    run(f"INSERT INTO rides VALUES {', '.join(ROWS).format(**words)}")
    return Database(kind, tmp_path, where, run)


def test_rows_come_typed_and_in_order(database: Database) -> None:
    rows = database.read(database.source())
    assert rows["id"].to_list() == ["a", "b", "c"]
    assert rows["n"].to_list() == [1, None, 3]
    assert rows["n"].dtype == pl.Int64
    assert rows["x"].to_list() == [0.5, None, 1e300]
    assert rows["ok"].cast(pl.Boolean).to_list() == [True, None, False]
    assert [str(value)[:10] for value in rows["moment"].to_list()] == ["2024-01-01", "None", "2024-01-03"]
    assert rows.columns == list(COLUMNS)


def test_many_rows_come_in_batches(database: Database) -> None:
    numbers = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 250000) SELECT n FROM t"
    database.run(
        f"CREATE TABLE numbers AS {numbers}" if database.kind != "postgres" else "DROP TABLE IF EXISTS numbers"
    )
    if database.kind == "postgres":
        database.run("CREATE TABLE numbers AS SELECT generate_series(1, 250000) AS n")
    source = database.source("SELECT n FROM numbers ORDER BY n")
    frames = list(source.read(Reading(database.root, source.pin(database.root), {"n": "i64"})))
    assert len(frames) > 1  # the first says which columns there are
    whole = pl.concat([frame.cast(pl.Int64) for frame in frames])
    assert whole["n"].equals(pl.Series("n", range(1, 250001)))


def test_no_rows_still_have_columns(database: Database) -> None:
    rows = database.read(database.source("SELECT * FROM rides WHERE id = 'z'"))
    assert (rows.height, rows.columns) == (0, list(COLUMNS))


def test_a_version_query_is_the_pin(database: Database) -> None:
    source = database.source(version="SELECT count(*), max(n) FROM rides")
    pin = source.pin(database.root)
    assert pin.identity == {"version": ["3", "3"]}
    assert source.pin(database.root) == pin
    database.run("INSERT INTO rides (id, n) VALUES ('d', 9)")
    assert source.pin(database.root).identity == {"version": ["4", "9"]}
    with pytest.raises(DataError, match="version changed between planning and reading"):
        list(source.read(Reading(database.root, pin, COLUMNS)))


def test_a_moment_is_the_pin(database: Database) -> None:
    source = database.source(as_of={"column": "moment", "at": "2024-01-02T00:00:00Z"})
    pin = source.pin(database.root)
    database.run("INSERT INTO rides (id, moment) VALUES ('d', '2024-01-05T00:00:00Z')")
    assert source.pin(database.root) == pin
    assert database.read(source)["id"].to_list() == ["a"]


def test_without_either_a_file_is_pinned_by_content_and_a_server_not_at_all(database: Database) -> None:
    source = database.source()
    pin = source.pin(database.root)
    assert (pin.identity is None) == (database.kind == "postgres")
    database.run("INSERT INTO rides (id) VALUES ('d')")
    if database.kind == "postgres":
        return
    assert source.pin(database.root).identity != pin.identity
    with pytest.raises(DataError, match="changed between planning and reading"):
        list(source.read(Reading(database.root, pin, COLUMNS)))


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELEC 1", "SELEC"),
        ("SELECT * FROM no_such_table", "no_such_table"),
        ("SELECT id, n AS okay FROM rides", "no column `n`"),
    ],
)
def test_a_query_that_does_not_fit(query: str, words: str, database: Database) -> None:
    with pytest.raises(DataError) as caught:
        database.read(database.source(query))
    assert words in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("version", ["SELECT id FROM rides", "SELECT id FROM rides WHERE id = 'z'", "SELECT nothing"])
def test_a_version_is_one_row(version: str, database: Database) -> None:
    with pytest.raises(DataError):
        database.source(version=version).pin(database.root)


def test_nothing_is_written(database: Database) -> None:
    with pytest.raises(EngineError):
        database.read(database.source("DELETE FROM rides"))
    assert database.read(database.source()).height == 3


def test_two_pins_are_refused(database: Database) -> None:
    with pytest.raises(msgspec.ValidationError, match="not both"):
        database.source(version="SELECT 1", as_of={"column": "at", "at": "2024-01-01"})


@pytest.mark.parametrize("kind", ["sqlite", "duckdb"])
def test_a_file_that_is_none(kind: str, tmp_path: Path) -> None:
    source = Database(kind, tmp_path, {"path": "gone.db"}, print).source()
    with pytest.raises(DataError, match="there is no database file"):
        source.pin(tmp_path)
    (tmp_path / "gone.db").write_bytes(b"not a database" * 999)
    with pytest.raises(DataError, match=r"gone\.db"):
        list(source.read(Reading(tmp_path, source.pin(tmp_path), COLUMNS)))


def test_a_cell_of_another_type_in_sqlite_is_named(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "rides.db")) as connection, connection:
        connection.execute("CREATE TABLE rides (id, n bigint)")
        connection.execute("INSERT INTO rides VALUES ('a', 1), ('b', 'two'), ('c', 3)")
    database = Database("sqlite", tmp_path, {"path": "rides.db"}, print)
    with pytest.raises(DataError, match="row 2 of the query, column `n`: 'two' is not i64"):
        database.read(database.source(), {"id": "str", "n": "i64"})


def test_a_server_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD_OF_TEST", "hunter2")
    where = {"dsn": f"postgresql://me:${{secret:PASSWORD_OF_TEST}}@/none?host={tmp_path}"}
    source = Database("postgres", tmp_path, where, print).source(version="SELECT 1")
    with pytest.raises(UnavailableError) as caught:
        source.pin(tmp_path)
    assert "hunter2" not in str(caught.value)
    assert "${secret:PASSWORD_OF_TEST}" in caught.value.message
    monkeypatch.delenv("PASSWORD_OF_TEST")
    with pytest.raises(UnavailableError, match="PASSWORD_OF_TEST is not set"):
        source.pin(tmp_path)


@pytest.mark.parametrize("dsn", ["postgresql://me:hunter2@host/x", "host=x password=hunter2"])
def test_a_password_that_is_written_out_is_refused(dsn: str, tmp_path: Path) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"\$\{secret:NAME\}"):
        Database("postgres", tmp_path, {"dsn": dsn}, print).source()
