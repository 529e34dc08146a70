"""The contract of `SnapshotStore`, for every implementation; a new one joins by a parameter of `url` in conftest.py.

For lakeFS the tests speak to a real server when `LAKEFS_ENDPOINT` is set (the key pair by environment too), and else to a
recording of one: tests/stores/cassettes/, whose header tells the server's version. docs/lakefs.md says how to record anew.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.contracts import Change, Commit, SnapshotStore
from engine.errors import ConflictError, NotFoundError, StoreError, UsageError
from engine.stores.snapshots import open_snapshots, tree_digest
from tests.stores.conftest import REPO

Save = Callable[[str, dict[str, bytes]], Commit]


def contents(store: SnapshotStore, ref: str, prefix: str = "") -> dict[str, bytes]:
    return {item.path: store.fetch(REPO, ref, item.path).read_bytes() for item in store.list(REPO, ref, prefix)}


def test_a_new_repository_has_one_empty_commit_on_main(store: SnapshotStore) -> None:
    store.ensure_repository(REPO)
    assert store.branches(REPO) == ["main"]
    assert store.list(REPO, "main") == []
    (first,) = store.log(REPO, "main", 10)
    assert first.id == store.resolve(REPO, "main")
    assert first.parents == ()


def test_what_is_committed_comes_back(store: SnapshotStore, put: Callable[..., None]) -> None:
    files = {"a/1.parquet": b"one", "a/2.parquet": b"", "b": b"\x00\xff" * 1000, "ü/日本 x.parquet": b"u"}
    before = store.resolve(REPO, "main")
    put("main", files)
    assert store.list(REPO, "main") == []
    metadata = {"rows": "3", "": "", "odd é\u2028\n\t": '"\\\n'}
    made = store.commit(REPO, "main", "two lines\nof é", metadata)
    assert made.parents == (before,)
    assert (made.message, dict(made.metadata)) == ("two lines\nof é", metadata)
    assert made.at.endswith("Z")
    assert store.log(REPO, "main", 1) == [made]
    assert store.resolve(REPO, "main") == made.id
    assert contents(store, "main") == files
    assert contents(store, "main", "a/") == {"a/1.parquet": b"one", "a/2.parquet": b""}
    assert contents(store, "main", "a/1") == {"a/1.parquet": b"one"}
    assert [item.path for item in store.list(REPO, "main")] == sorted(files)
    assert contents(store, before) == {}


def test_removing_and_changing(store: SnapshotStore, put: Callable[..., None], save: Save) -> None:
    first = save("main", {"a/x": b"1", "a/y": b"2", "b": b"3"})
    put("main", {"a/y": b"changed", "c": b"new"})
    store.remove(REPO, "main", "a/x")
    put("main", {"gone": b"0"})
    store.remove(REPO, "main", "gone")
    second = store.commit(REPO, "main", "change", {})
    assert contents(store, "main") == {"a/y": b"changed", "b": b"3", "c": b"new"}
    wanted = [Change("a/x", "removed"), Change("a/y", "changed"), Change("c", "added")]
    assert store.diff(REPO, first.id, second.id) == wanted
    assert store.diff(REPO, "main", "main") == []
    assert [change.kind for change in store.diff(REPO, "main", "main~1")] == ["added", "changed", "removed"]
    assert [change.kind for change in store.diff(REPO, "main~2", "main")] == ["added"] * 3


def test_refs(store: SnapshotStore, save: Save) -> None:
    first, second = save("main", {"a": b"1"}), save("main", {"a": b"2"})
    store.tag(REPO, "v1", first.id)
    assert store.resolve(REPO, "v1") == store.resolve(REPO, "main~1") == store.resolve(REPO, "main~") == first.id
    assert (
        store.resolve(REPO, f"{second.id}~1")
        == store.resolve(REPO, first.id)
        == store.resolve(REPO, "v1~0")
        == first.id
    )
    assert store.resolve(REPO, second.id[:12]) == second.id
    with pytest.raises(ConflictError):
        store.tag(REPO, "v1", second.id)
    for ref in ("nope", "main~9", "0" * 40, "v1~7", "nope~1"):
        with pytest.raises(NotFoundError):
            store.resolve(REPO, ref)
    with pytest.raises(NotFoundError, match="nowhere"):
        store.resolve("nowhere", "main")
    with pytest.raises(NotFoundError):
        store.fetch(REPO, "main", "nothing/here")


def test_branches(store: SnapshotStore, put: Callable[..., None], save: Save) -> None:
    save("main", {"a": b"1"})
    store.create_branch(REPO, "ingest-x", "main")
    with pytest.raises(ConflictError):
        store.create_branch(REPO, "ingest-x", "main")
    save("ingest-x", {"b": b"2"})
    assert contents(store, "main") == {"a": b"1"}
    assert contents(store, "ingest-x") == {"a": b"1", "b": b"2"}
    put("ingest-x", {"never": b"committed"})
    store.delete_branch(REPO, "ingest-x")
    assert store.branches(REPO) == ["main"]
    with pytest.raises(NotFoundError):
        store.delete_branch(REPO, "ingest-x")
    store.create_branch(REPO, "ingest-x", "main")
    with pytest.raises(StoreError, match="nothing is staged"):
        store.commit(REPO, "ingest-x", "empty", {})
    with pytest.raises(UsageError):
        store.delete_branch(REPO, "main")


def test_merging(store: SnapshotStore, put: Callable[..., None], save: Save) -> None:
    save("main", {"both": b"0", "mine": b"0", "theirs": b"0", "same": b"0", "drop": b"0"})
    store.create_branch(REPO, "work", "main")
    put("work", {"theirs": b"1", "same": b"1", "dir/new": b"1"})
    store.remove(REPO, "work", "drop")
    work = store.commit(REPO, "work", "work", {})
    head = save("main", {"mine": b"1", "same": b"1"})
    merged = store.merge(REPO, "work", "main", "bring in", {"k": "v"})
    assert merged.parents == (head.id, work.id)
    assert (merged.message, dict(merged.metadata)) == ("bring in", {"k": "v"})
    assert contents(store, "main") == {"both": b"0", "mine": b"1", "theirs": b"1", "same": b"1", "dir/new": b"1"}
    assert store.merge(REPO, "work", "main", "again", {}).id == store.resolve(REPO, "main") == merged.id
    assert {commit.id for commit in store.log(REPO, "main", 99)} >= {work.id, head.id}


def test_merging_two_versions_of_a_path_names_it_and_changes_nothing(
    store: SnapshotStore, save: Save, put: Callable[..., None]
) -> None:
    save("main", {"a": b"0", "b": b"0", "c": b"0"})
    store.create_branch(REPO, "work", "main")
    put("work", {"a": b"theirs", "new": b"theirs"})
    store.remove(REPO, "work", "b")
    store.commit(REPO, "work", "work", {})
    head = save("main", {"a": b"ours", "b": b"ours", "c": b"ours", "new": b"ours"})
    with pytest.raises(ConflictError, match=r"3 path\(s\).*a, b, new"):
        store.merge(REPO, "work", "main", "merge", {})
    assert store.resolve(REPO, "main") == head.id


@pytest.mark.parametrize("empty_url", ["embedded"], indirect=True)  # lakeFS has no folders: there both may be
def test_an_object_and_a_folder_of_one_name_are_a_conflict(
    store: SnapshotStore, save: Save, put: Callable[..., None]
) -> None:
    save("main", {"a": b"0"})
    store.create_branch(REPO, "work", "main")
    put("main", {"a/b": b"1"})
    with pytest.raises(ConflictError, match="`a`"):
        store.commit(REPO, "main", "both", {})
    store.remove(REPO, "main", "a")
    store.commit(REPO, "main", "instead", {})
    assert contents(store, "main") == {"a/b": b"1"}
    put("main", {"a": b"2"})
    store.remove(REPO, "main", "a/b")
    store.commit(REPO, "main", "back", {})
    assert contents(store, "main") == {"a": b"2"}


def test_reverting(store: SnapshotStore, save: Save, put: Callable[..., None]) -> None:
    first = save("main", {"a": b"1", "b": b"1"})
    second = save("main", {"a": b"2", "c": b"2"})
    save("main", {"d": b"3"})
    undone = store.revert(REPO, "main", second.id)
    assert contents(store, "main") == {"a": b"1", "b": b"1", "d": b"3"}
    assert undone.metadata["plumbline.reverts"] == second.id
    store.revert(REPO, "main", "main")
    assert contents(store, "main") == {"a": b"2", "b": b"1", "c": b"2", "d": b"3"}
    save("main", {"b": b"later"})
    with pytest.raises(ConflictError, match="b"):
        store.revert(REPO, "main", first.id)
    store.create_branch(REPO, "work", "main")
    save("work", {"e": b"4"})
    merged = store.merge(REPO, "work", "main", "merge", {})
    store.revert(REPO, "main", merged.id)
    assert "e" not in contents(store, "main")


def test_errors_name_what_is_wrong(store: SnapshotStore, save: Save, tmp_path: Path) -> None:
    save("main", {"a": b"1"})
    with pytest.raises(StoreError, match="nothing is staged on plumbline-contract@main"):
        store.commit(REPO, "main", "nothing", {})
    with pytest.raises(NotFoundError, match="mian") as caught:
        store.commit(REPO, "mian", "typo", {})
    assert "main" in str(caught.value.hint)
    with pytest.raises(NotFoundError, match="b"):
        store.remove(REPO, "main", "b")
    with pytest.raises(NotFoundError):
        store.put(REPO, "nope", "a", tmp_path / "source")
    with pytest.raises(StoreError, match="missing-file"):
        store.put(REPO, "main", "a", tmp_path / "missing-file")
    for path in ("", "/a", "a//b", "../a", "a/./b", "a/", ".git/config", "a/.GitAttributes", "x\0y", "x\ny"):
        with pytest.raises(UsageError):
            store.put(REPO, "main", path, tmp_path / "source")
    for branch in ("", "a b", "..", "x~1", "-x", "a\nb"):
        with pytest.raises(UsageError):
            store.create_branch(REPO, branch, "main")
    for repository in ("", "../x", "a/b", ".hidden", "x" * 101):
        with pytest.raises(UsageError):
            store.ensure_repository(repository)


def test_the_digest_of_a_prefix_ignores_other_commits(store: SnapshotStore, save: Save) -> None:
    save("main", {"flights/a": b"1", "weather/a": b"1"})
    before = tree_digest(store, REPO, "main", "flights/")
    save("main", {"weather/a": b"2"})
    assert tree_digest(store, REPO, "main", "flights/") == before
    save("main", {"flights/a": b"2"})
    assert tree_digest(store, REPO, "main", "flights/") != before == tree_digest(store, REPO, "main~1", "flights/")


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_random_histories_match_a_model(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Two branches of random puts, removals and merges, against dictionaries."""
    folder = tmp_path_factory.mktemp("history")
    store = open_snapshots(str(folder / "snapshots"))
    store.ensure_repository(REPO)
    store.create_branch(REPO, "work", "main")
    state: dict[str, dict[str, bytes]] = {"main": {}, "work": {}}
    base: dict[str, bytes] = {}
    paths = st.sampled_from(["a/1", "a/2", "b/c/3", "d"])
    for step in range(data.draw(st.integers(1, 6))):
        branch = data.draw(st.sampled_from(["main", "work"]))
        if data.draw(st.booleans()):
            before = dict(state[branch])
            for path in data.draw(st.lists(paths, min_size=1, max_size=3, unique=True)):
                if path in state[branch] and data.draw(st.booleans()):
                    store.remove(REPO, branch, path)
                    del state[branch][path]
                else:
                    state[branch][path] = data.draw(st.sampled_from([b"x", b"y", b"z"]))
                    (folder / "source").write_bytes(state[branch][path])
                    store.put(REPO, branch, path, folder / "source")
            if state[branch] == before:
                with pytest.raises(StoreError, match="nothing is staged"):
                    store.commit(REPO, branch, f"step {step}", {})
                continue
            store.commit(REPO, branch, f"step {step}", {})
            changed = {
                path for path in before.keys() | state[branch].keys() if before.get(path) != state[branch].get(path)
            }
            assert {change.path for change in store.diff(REPO, f"{branch}~1", branch)} == changed
        else:
            other = "work" if branch == "main" else "main"
            ours, theirs = state[branch], state[other]
            merged, conflicts = {}, set()
            for path in base.keys() | ours.keys() | theirs.keys():
                was, mine, their = base.get(path), ours.get(path), theirs.get(path)
                conflicts |= {path} if len({was, mine, their}) == 3 else set()
                value = their if was == mine else mine
                merged |= {path: value} if value is not None else {}
            if conflicts:
                with pytest.raises(ConflictError, match=min(conflicts)):
                    store.merge(REPO, other, branch, "merge", {})
            else:
                store.merge(REPO, other, branch, "merge", {})
                state[branch], base = merged, dict(theirs)
        assert contents(store, branch) == state[branch]


WRITER = """
import sys
from pathlib import Path
from engine.errors import StoreError
from engine.stores.snapshots import open_snapshots
url, writer, count, source = sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])
store = open_snapshots(url)
sys.stdin.readline()
for number in range(count):
    source.write_text(f"{writer} {number}")
    store.put("plumbline-contract", "main", f"{writer}/{number}", source)
    try:
        store.commit("plumbline-contract", "main", f"{writer} {number}", {"writer": writer})
    except StoreError as error:
        if "nothing is staged" not in str(error):  # another writer's commit took it along
            raise
    print(number, flush=True)
"""


@pytest.mark.live
def test_four_processes_committing_to_one_branch_lose_nothing(
    store: SnapshotStore,
    url: str,
    tmp_path: Path,
    start: Callable[..., subprocess.Popen[str]],
    finish: Callable[..., list[str]],
) -> None:
    count = 25 if url.startswith("/") else 8
    children = [start(WRITER, url, f"w{number}", count, tmp_path / f"source-{number}") for number in range(4)]
    for child in children:
        assert child.stdin
        child.stdin.write("go\n")
        child.stdin.flush()
    finish(children)
    wanted = {f"w{writer}/{number}": f"w{writer} {number}".encode() for writer in range(4) for number in range(count)}
    assert contents(store, "main") == wanted
    log = store.log(REPO, "main", 1000)
    assert all(commit.parents == (before.id,) for commit, before in pairwise(log))


def test_unknown_stores_are_refused_with_what_is_supported() -> None:
    for url in ("s3://bucket", "ftp://host/x", ""):
        with pytest.raises(UsageError) as caught:
            open_snapshots(url)
        assert "file://" in str(caught.value.hint)
