"""The contract of `SnapshotStore`, continued: many objects, odd paths, what is staged, what both refs stand on, and scans."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from engine.contracts import Change, Commit, ObjectStat, SnapshotStore
from engine.errors import ConflictError, NotFoundError, StoreError
from engine.nodes.frames import scan_objects
from engine.stores.snapshots import open_snapshots
from tests.stores.conftest import CASSETTES, REPO
from tests.stores.lakefs_relay import Relay

ROWS = CASSETTES / "rows.parquet"  # written once: its bytes are in the recording, so that any Polars may read them
MANY = int(os.environ.get("PLUMBLINE_OBJECTS", "10000"))
Put = Callable[[str, dict[str, bytes]], None]
Save = Callable[[str, dict[str, bytes]], Commit]


def test_repositories_are_listed(store: SnapshotStore) -> None:
    assert REPO in store.repositories()


def test_one_object_is_asked_for_by_name(store: SnapshotStore, save: Save) -> None:
    save("main", {"a/b": b"123"})
    assert store.stat(REPO, "main", "a/b") == ObjectStat("a/b", hashlib.sha256(b"123").hexdigest(), 3)
    for ref, path in (("main", "a"), ("main", "a/c"), ("main~1", "a/b"), ("nope", "a/b")):
        with pytest.raises(NotFoundError):
            store.stat(REPO, ref, path)


def test_what_is_staged_is_told_and_forgotten(store: SnapshotStore, put: Put, save: Save) -> None:
    save("main", {"a": b"1", "b": b"1"})
    assert store.uncommitted(REPO, "main") == []
    put("main", {"b": b"2", "c": b"3"})
    store.remove(REPO, "main", "a")
    wanted = [Change("a", "removed"), Change("b", "changed"), Change("c", "added")]
    assert store.uncommitted(REPO, "main") == wanted
    store.reset(REPO, "main")
    assert store.uncommitted(REPO, "main") == []
    with pytest.raises(StoreError, match="nothing is staged"):
        store.commit(REPO, "main", "nothing", {})
    with pytest.raises(NotFoundError):
        store.uncommitted(REPO, "nope")


def test_staging_what_is_there_already_is_nothing_to_commit(store: SnapshotStore, put: Put, save: Save) -> None:
    head = save("main", {"a": b"1"})
    put("main", {"a": b"1"})
    with pytest.raises(StoreError, match="nothing is staged"):
        store.commit(REPO, "main", "the same", {})
    assert store.resolve(REPO, "main") == head.id


def test_a_diff_since_the_merge_base_is_what_a_branch_did(store: SnapshotStore, save: Save) -> None:
    base = save("main", {"a": b"1"})
    store.create_branch(REPO, "work", "main")
    save("work", {"b": b"2"})
    save("main", {"c": b"3"})
    assert store.merge_base(REPO, "main", "work") == store.merge_base(REPO, "work", "main") == base.id
    assert store.diff(REPO, store.merge_base(REPO, "main", "work"), "work") == [Change("b", "added")]
    assert store.diff(REPO, "main", "work") == [Change("b", "added"), Change("c", "removed")]
    store.merge(REPO, "work", "main", "merge", {})
    assert store.merge_base(REPO, "main", "work") == store.resolve(REPO, "work")


def test_paths_may_be_long_and_in_any_script(store: SnapshotStore, save: Save) -> None:
    paths = [
        "/".join(["ein-langer-ordner"] * 40) + "/ü.parquet", "日本/データ 1.parquet", "a b/c+d&e=f?g#h%20.parquet",
        "é/é/ ", "Ω/'\"\\.bin", "UPPER/lower", "upper/lower",
    ]  # fmt: skip
    save("main", {path: path.encode() for path in paths})
    assert [item.path for item in store.list(REPO, "main")] == sorted(paths)
    assert all(store.fetch(REPO, "main", path).read_bytes() == path.encode() for path in paths)
    assert [change.path for change in store.diff(REPO, "main~1", "main")] == sorted(paths)
    for path in paths:
        store.remove(REPO, "main", path)
    store.commit(REPO, "main", "remove", {})
    assert store.list(REPO, "main") == []


def _write(folder: Path, count: int, words: str = "") -> dict[str, Path]:
    files = {}
    for number in range(count):
        file = folder / f"{words}{number}"
        file.write_text(f"{words}{number}")
        files[f"part={number % 7}/{words}{number:06d}"] = file
    return files


def _commit_many(store: SnapshotStore, folder: Path, count: int) -> None:
    told: list[int] = []
    files = _write(folder, count)
    staged = store.put_many(REPO, "main", files, told.append)
    assert [item.path for item in staged] == list(files)
    assert told == list(range(1, count + 1))
    store.commit(REPO, "main", f"{count} objects", {})
    assert [item.path for item in store.list(REPO, "main")] == sorted(files)
    assert len(store.diff(REPO, "main~1", "main")) == count
    assert len(store.list(REPO, "main", "part=3/")) == len([path for path in files if path.startswith("part=3/")])
    assert store.fetch(REPO, "main", "part=5/000005").read_text() == "5"


def test_listings_do_not_end_with_a_page(store: SnapshotStore, tmp_path: Path) -> None:
    _commit_many(store, tmp_path, 1050)
    store.create_branch(REPO, "work", "main")
    store.put_many(REPO, "work", _write(tmp_path, 3, "more"))
    store.commit(REPO, "work", "more", {})
    store.merge(REPO, "work", "main", "merge", {})
    assert len(store.list(REPO, "main")) == 1053


@pytest.mark.live
def test_ten_thousand_objects_in_a_commit(store: SnapshotStore, tmp_path: Path) -> None:
    _commit_many(store, tmp_path, MANY)


@pytest.mark.live
def test_log_goes_back_past_a_page(store: SnapshotStore, save: Save) -> None:
    made = [save("main", {"a": str(number).encode()}).id for number in range(1005)]
    assert [commit.id for commit in store.log(REPO, "main", 2000)][:-1] == made[::-1]
    assert len(store.log(REPO, "main", 7)) == 7
    assert store.resolve(REPO, "main~1004") == made[0]


@pytest.fixture
def table(store: SnapshotStore) -> str:
    """A commit with a table in three objects."""
    paths = ["rows/1.parquet", "rows/2 ü.parquet", "rows/3.parquet"]
    store.put_many(REPO, "main", dict.fromkeys([*paths, "other/1.parquet"], ROWS))
    return store.commit(REPO, "main", "rows", {}).id


def test_a_scan_names_every_object_and_what_logs_in(store: SnapshotStore, table: str) -> None:
    found = store.scan(REPO, table, "rows/")
    assert [item.path for item in found.objects] == ["rows/1.parquet", "rows/2 ü.parquet", "rows/3.parquet"]
    assert len(found.locations) == 3
    key = os.environ.get("LAKEFS_SECRET_ACCESS_KEY", "nothing to find")
    assert key not in repr(found)
    assert store.scan(REPO, table, "nothing/").locations == ()


def test_polars_reads_in_place_what_a_query_needs(
    store: SnapshotStore, table: str, request: pytest.FixtureRequest
) -> None:
    rows = scan_objects(store, (REPO, table), ["rows/1.parquet", "rows/2 ü.parquet", "rows/3.parquet"])
    query = rows.filter(pl.col("id") >= 2000).select("id", "word")
    plan = query.explain()
    assert "PROJECT" in plan
    assert "SELECTION" in plan
    local = pl.read_parquet(ROWS)
    wanted = local.filter(pl.col("id") >= 2000).select("id", "word")
    assert query.collect().equals(pl.concat([wanted] * 3))
    if store.scan(REPO, table, "rows/").options:
        assert 1 <= _row_groups(request.getfixturevalue("lakefs")) <= 3  # of each file the one of eight with such rows
    assert rows.collect().equals(pl.concat([local] * 3))
    if store.scan(REPO, table, "rows/").options:
        assert _row_groups(request.getfixturevalue("lakefs")) >= 8


def _row_groups(relay: Relay) -> int:
    """Count the byte ranges beside the footers."""
    spans = [item.headers.get("range", "") for item in relay.seen if ".parquet" in item.path]
    return len([span for span in spans if span and not span.startswith("bytes=-")])


READER = """
import json, sys
import polars as pl
from engine.nodes.frames import scan_objects
from engine.stores.snapshots import open_snapshots
store = open_snapshots(sys.argv[1])
rows = scan_objects(store, (sys.argv[2], sys.argv[3]), ["rows/1.parquet", "rows/3.parquet"])
print(json.dumps(rows.select(pl.col("id").sum(), pl.col("word").n_unique()).collect().to_dicts()))
"""


def test_many_workers_read_at_once(
    store: SnapshotStore,
    url: str,
    table: str,
    start: Callable[..., subprocess.Popen[str]],
    finish: Callable[..., list[str]],
) -> None:
    assert store.resolve(REPO, table) == table
    answers = finish([start(READER, url, REPO, table) for _ in range(3)])
    assert [json.loads(answer) for answer in answers] == [[{"id": 2 * sum(range(2048)), "word": 3}]] * 3


def test_a_merge_may_be_asked_for_again(store: SnapshotStore, save: Save, put: Put) -> None:
    save("main", {"a": b"1"})
    store.create_branch(REPO, "work", "main")
    work = save("work", {"b": b"1"})
    made = store.merge(REPO, "work", "main", "merge", {})
    assert store.merge(REPO, work.id, "main", "merge", {}).id == made.id == store.resolve(REPO, "main")
    put("main", {"c": b"staged"})
    store.create_branch(REPO, "more", "work")
    save("more", {"d": b"1"})
    if not isinstance(open_snapshots("/nowhere"), type(store)):  # lakeFS has no merge into a branch with changes
        with pytest.raises(ConflictError, match="staged"):
            store.merge(REPO, "more", "main", "merge", {})
        store.reset(REPO, "main")
    store.merge(REPO, "more", "main", "merge", {})
