"""The state database: SQLite and PostgreSQL through one class, migrations, and errors in words."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from engine.errors import (
    ConflictError,
    EngineError,
    IntegrityError,
    LockedError,
    StoreError,
    UnavailableError,
    UsageError,
)
from engine.stores import database as database_module
from engine.stores.database import Database, open_database
from engine.stores.migrations import MIGRATIONS, Migration
from engine.stores.sqlite_driver import SqliteDriver

COUNT = "SELECT COUNT(*) AS n FROM counters"


def insert(database: Database, names: Iterable[str], then: Exception | None = None) -> None:
    with database.transaction("x") as transaction:
        for name in names:
            transaction.execute("INSERT INTO counters VALUES (?, 1)", (name,))
        if then is not None:
            raise then


def test_a_transaction_is_whole_or_nothing(database: Database) -> None:
    with database.transaction("x") as transaction:
        assert transaction.execute("INSERT INTO counters VALUES (?, ?)", ("a ? % é", 1)) == 1
    with pytest.raises(RuntimeError, match="midway"):
        insert(database, ["b"], then=RuntimeError("midway"))
    found = database.query("SELECT name, value FROM counters WHERE name LIKE '%a%' AND value = ?", (1,))
    assert found == [{"name": "a ? % é", "value": 1}]
    assert database.query(COUNT) == [{"n": 1}]


def test_a_broken_rule_is_a_conflict_and_the_database_goes_on(database: Database) -> None:
    with pytest.raises(ConflictError), database.transaction("x") as transaction:
        transaction.execute("INSERT INTO aliases VALUES ('m', 'champion', 1)")
    with pytest.raises(StoreError):
        database.query("SELECT nonsense FROM nowhere")
    assert database.query(COUNT) == [{"n": 0}]


def test_the_ledger_cannot_be_changed_in_place(database: Database) -> None:
    row = ("m", 1, "t", "", "register", None, 1, "a", "r", None, "{}", "p", "d")
    with database.transaction("x") as transaction:
        transaction.execute(f"INSERT INTO ledger VALUES ({', '.join('?' * len(row))})", row)
    for statement in ("UPDATE ledger SET reason = 'other'", "DELETE FROM ledger"):
        with pytest.raises(ConflictError, match="append-only"), database.transaction("x") as transaction:
            transaction.execute(statement)
    assert len(database.query("SELECT * FROM ledger")) == 1


def test_threads_take_turns(database: Database) -> None:
    def add(name: str) -> None:
        for _ in range(10):
            with database.transaction("x") as transaction:
                transaction.execute(
                    "INSERT INTO counters VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET value = counters.value + 1",
                    (name,),
                )

    threads = [threading.Thread(target=add, args=(name,)) for name in "aabb"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert database.query("SELECT value FROM counters") == [{"value": 20}, {"value": 20}]


def test_it_opens_again_after_closing(database: Database) -> None:
    database.query(COUNT)
    database.close()
    assert database.query(COUNT) == [{"n": 0}]


def test_later_migrations_are_applied_and_newer_databases_refused(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = len(MIGRATIONS)
    numbered = [{"number": number, "name": item.name} for number, item in enumerate(MIGRATIONS, 1)]
    assert database.query("SELECT number, name FROM schema_migrations ORDER BY number") == numbered
    database.close()
    with monkeypatch.context() as patched:
        patched.setattr(
            database_module, "MIGRATIONS", (*MIGRATIONS, Migration("leases", ("CREATE TABLE leases (name TEXT)",)))
        )
        newer = open_database(database_url)
        assert newer.query("SELECT * FROM leases") == []
        assert newer.query("SELECT MAX(number) AS last FROM schema_migrations") == [{"last": known + 1}]
        newer.close()
    with pytest.raises(
        StoreError, match=rf"newer engine \(schema {known + 1}; this one knows up to {known}\)"
    ) as caught:
        database.query(COUNT)
    assert "upgrade" in str(caught.value.hint)


def test_a_schema_that_was_made_by_other_steps_is_refused_in_words(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A development version had its steps in another order: the step that came next here had been taken there."""
    with monkeypatch.context() as patched:
        patched.setattr(database_module, "MIGRATIONS", (*MIGRATIONS[:2], MIGRATIONS[3]))
        other = open_database(database_url)
        assert other.query("SELECT COUNT(*) AS n FROM monitor_readings") == [{"n": 0}]
        other.close()
    with pytest.raises(StoreError, match="another: step 3 there is `readings of monitors, alerts, messages`") as caught:
        database.query(COUNT)
    assert "already exists" not in str(caught.value)


def test_processes_that_open_a_new_database_at_once_all_find_its_tables(
    database_url: str,
    start: Callable[..., subprocess.Popen[str]],
    finish: Callable[[list[subprocess.Popen[str]]], list[str]],
) -> None:
    script = (
        "import sys\nfrom engine.stores.database import open_database\ndatabase = open_database(sys.argv[1])\n"
        "print('ready', flush=True)\nsys.stdin.readline()\n"
        "print(database.query('SELECT COUNT(*) AS n FROM monitor_readings')[0]['n'])"
    )
    children = [start(script, database_url) for _ in range(6)]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:  # all at the same moment, as near as may be
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    assert [text.strip() for text in finish(children)] == ["0"] * 6


def test_a_migration_that_fails_leaves_nothing(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.query(COUNT)
    database.close()
    with monkeypatch.context() as patched:
        broken = Migration("broken", ("CREATE TABLE half (name TEXT)", "NONSENSE"))
        patched.setattr(database_module, "MIGRATIONS", (*MIGRATIONS, broken))
        failing = open_database(database_url)
        with pytest.raises(StoreError):
            failing.query(COUNT)
        failing.close()
    assert database.query(COUNT) == [{"n": 0}]
    with pytest.raises(StoreError):
        database.query("SELECT * FROM half")


def test_processes_that_create_it_at_once_agree(
    database_url: str, start: Callable[..., subprocess.Popen[str]], finish: Callable[..., list[str]]
) -> None:
    script = (
        "import sys; from engine.stores.database import open_database; d = open_database(sys.argv[1]); sys.stdin.readline();"
        "print(d.query('SELECT number FROM schema_migrations')); d.close()"
    )
    children = [start(script, database_url) for _ in range(4)]
    for child in children:
        assert child.stdin
        child.stdin.write("go\n")
        child.stdin.flush()
    assert set(finish(children)) == {f"{[{'number': number} for number in range(1, len(MIGRATIONS) + 1)]}\n"}


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE songs (name TEXT)")
    connection.close()
    with pytest.raises(StoreError, match="another program's database: it holds songs"):
        open_database(str(tmp_path / "other.db")).query(COUNT)


def test_a_damaged_file_is_an_integrity_error(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"this is no database at all" * 100)
    with pytest.raises(IntegrityError, match="damaged, or is not a database"):
        open_database(str(path)).query(COUNT)


def test_places_that_cannot_hold_a_database(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="create the folder"):
        open_database(str(tmp_path / "file" / "state.db")).query(COUNT)
    with pytest.raises(UnavailableError, match="cannot be opened"):
        open_database(str(tmp_path)).query(COUNT)


def test_a_busy_database_is_locked(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    holder = open_database(str(path))
    waiting = Database(SqliteDriver(path, busy_seconds=0.05))
    waiting.query(COUNT)
    with holder.transaction("x"), pytest.raises(LockedError, match="writing to it for over"), waiting.transaction("x"):
        pass
    with waiting.transaction("x") as transaction:
        transaction.execute("INSERT INTO counters VALUES ('a', 1)")
    holder.close()
    waiting.close()


def test_a_full_disk_undoes_the_transaction(tmp_path: Path) -> None:
    database = open_database(str(tmp_path / "state.db"))
    pages = database.query("PRAGMA page_count")[0]["page_count"]
    database.query(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StoreError, match="disk is full"):
        insert(database, (f"{number:0100d}" for number in range(10_000)))
    assert database.query(COUNT) == [{"n": 0}]
    database.close()


def test_a_really_full_disk(small_disk: Path | None, tmp_path: Path) -> None:
    if small_disk is None:  # nothing may be mounted here: the limit on pages stands in for the disk
        test_a_full_disk_undoes_the_transaction(tmp_path)
        return
    database = open_database(str(small_disk / "state.db"))
    with pytest.raises(StoreError, match=r"disk is full"):
        insert(database, (f"{number:0100d}" for number in range(10_000)))
    assert database.query(COUNT) == [{"n": 0}]
    database.close()


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (sqlite3.SQLITE_READONLY, StoreError, "read-only"),
        (sqlite3.SQLITE_READONLY_DBMOVED, StoreError, "read-only"),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, LockedError, "locked"),
        (sqlite3.SQLITE_CANTOPEN, UnavailableError, "opened"),
        (sqlite3.SQLITE_CORRUPT, IntegrityError, "damaged"),
        (sqlite3.SQLITE_IOERR, StoreError, "odd"),
        (None, StoreError, "odd"),
    ],
)
def test_every_error_has_words_and_a_next_step(code: int | None, kind: type[EngineError], words: str) -> None:
    error = sqlite3.OperationalError("odd")
    if code is not None:
        error.sqlite_errorcode = code
    found = SqliteDriver(Path("state.db")).word(error)
    assert type(found) is kind
    assert words in found.message
    assert found.hint


def test_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for url in ("mysql://host/x", "", "sqlite://"):
        with pytest.raises(UsageError) as caught:
            open_database(url)
        assert "postgresql://" in str(caught.value.hint)
    database = open_database(f"sqlite://{tmp_path}/new/state.db")
    assert not (tmp_path / "new").exists()
    database.query(COUNT)
    database.close()
    assert (tmp_path / "new" / "state.db").exists()
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.delitem(sys.modules, "engine.stores.postgres_driver", raising=False)
    with pytest.raises(UnavailableError, match="driver cannot be loaded") as missing:
        open_database("postgresql://host/x")
    assert "psycopg" in str(missing.value.hint)


def test_a_server_that_is_not_there_is_unavailable_and_its_password_stays_secret(tmp_path: Path) -> None:
    psycopg = pytest.importorskip("psycopg") if "postgresql" in _known() else None
    if psycopg is None:
        return
    with pytest.raises(UnavailableError, match="does not answer") as caught:
        open_database(f"postgresql://me:hush@/x?host={tmp_path}&password=hush").query(COUNT)
    assert "hush" not in str(caught.value)


def _known() -> list[str]:
    from importlib.util import find_spec

    return ["sqlite", *(["postgresql"] if find_spec("psycopg") else [])]


def test_opening_and_one_read_is_quick(tmp_path: Path) -> None:
    open_database(str(tmp_path / "state.db")).query(COUNT)
    seconds = []
    for _ in range(10):
        begun = time.perf_counter()
        database = open_database(str(tmp_path / "state.db"))
        database.query(COUNT)
        seconds.append(time.perf_counter() - begun)
        database.close()
    assert min(seconds) < 0.010
