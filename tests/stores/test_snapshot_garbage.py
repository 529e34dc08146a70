"""Garbage collection of snapshots takes what nothing needs, and never anything that a commit, a pin or a put holds."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.errors import UsageError
from engine.stores.git_snapshots import GitSnapshotStore
from engine.stores.snapshot_garbage import Pins, delete_objects, find_objects

REPO = "data"


@pytest.fixture
def store(tmp_path: Path) -> GitSnapshotStore:
    found = GitSnapshotStore(tmp_path / "snapshots")
    found.ensure_repository(REPO)
    return found


@pytest.fixture
def put(store: GitSnapshotStore, tmp_path: Path) -> Callable[[str, str, bytes], str]:
    def stage(branch: str, path: str, content: bytes) -> str:
        file = tmp_path / "file"
        file.write_bytes(content)
        return store.put(REPO, branch, path, file).digest

    return stage


def age(store: GitSnapshotStore, seconds: float = 1e6) -> None:
    """Make every object old."""
    for path in (store.root / f"{REPO}.git" / "lfs" / "objects").glob("??/??/*"):
        os.utime(path, (time.time() - seconds,) * 2)


def garbage(store: GitSnapshotStore, pins: Pins | None = None, older_than: float = 3600) -> set[str]:
    return {item.digest for item in find_objects(store, REPO, pins or Pins(), older_than)}


def test_what_branches_tags_history_and_stages_hold_is_kept(store: GitSnapshotStore, put: Callable[..., str]) -> None:
    old = put("main", "a", b"first")
    store.commit(REPO, "main", "one", {})
    new = put("main", "a", b"second")
    store.commit(REPO, "main", "two", {})
    store.create_branch(REPO, "side", "main")
    side = put("side", "b", b"on a branch")
    store.commit(REPO, "side", "three", {})
    staged = put("main", "c", b"staged")
    age(store)
    assert garbage(store) == set()
    store.delete_branch(REPO, "side")
    assert garbage(store) == {side}
    assert garbage(store, Pins(digests={side})) == set()
    assert {old, new, staged}.isdisjoint(garbage(store))


def test_pinned_commits_and_tags_outlive_history(store: GitSnapshotStore, put: Callable[..., str]) -> None:
    digests, commits = [], []
    for number in range(4):
        digests.append(put("main", "a", b"%d" % number))
        commits.append(store.commit(REPO, "main", "x", {}).id)
    store.tag(REPO, "kept", commits[1])
    age(store)
    assert garbage(store, Pins({commits[0], "f" * 40}, history_seconds=-1)) == {digests[2]}
    assert garbage(store, Pins(history_seconds=3600)) == set()


def test_only_what_was_found_and_nobody_put_since_is_deleted(store: GitSnapshotStore, put: Callable[..., str]) -> None:
    store.create_branch(REPO, "side", "main")
    digests = [put("side", name, name.encode()) for name in "abc"]
    store.commit(REPO, "side", "x", {})
    store.delete_branch(REPO, "side")
    age(store)
    found = find_objects(store, REPO, Pins(), 3600)
    assert {item.digest for item in found} == set(digests)
    assert {item.bytes for item in found} == {1}
    put("main", "b", b"b")  # somebody wants one of them again
    assert delete_objects(store, REPO, Pins(), found) == 2
    store.commit(REPO, "main", "b", {})
    assert store.fetch(REPO, "main", "b").read_bytes() == b"b"
    assert delete_objects(store, REPO, Pins(), found) == 0
    assert list((store.root / f"{REPO}.git" / "lfs" / "tmp").iterdir()) == []


def test_the_young_are_spared(store: GitSnapshotStore, put: Callable[..., str]) -> None:
    store.create_branch(REPO, "side", "main")
    put("side", "a", b"a")
    store.commit(REPO, "side", "x", {})
    store.delete_branch(REPO, "side")
    assert garbage(store) == set()
    assert len(garbage(store, older_than=-1)) == 1


def test_a_read_only_file_is_linked_and_survives_its_first_name(store: GitSnapshotStore, tmp_path: Path) -> None:
    sealed, open_ = tmp_path / "sealed", tmp_path / "open"
    for path in (sealed, open_):
        path.write_bytes(path.name.encode())
    sealed.chmod(0o444)
    stats = {path: store.put(REPO, "main", path.name, path) for path in (sealed, open_)}
    store.commit(REPO, "main", "x", {})
    fetched = {path: store.fetch(REPO, "main", path.name) for path in stats}
    assert fetched[sealed].samefile(sealed)
    assert not fetched[open_].samefile(open_)
    sealed.unlink()
    assert fetched[sealed].read_bytes() == b"sealed"


def test_tags_and_repositories_are_listed(store: GitSnapshotStore, put: Callable[..., str]) -> None:
    put("main", "a", b"a")
    head = store.commit(REPO, "main", "x", {}).id
    store.create_branch(REPO, "v1", "main~1")
    store.tag(REPO, "v1", head)  # a branch may have the same name
    assert store.tags(REPO) == {"v1": head}
    store.ensure_repository("other")
    assert store.repositories() == ["data", "other"]
    assert GitSnapshotStore(store.root / "nowhere").repositories() == []


def test_a_servers_objects_are_its_own() -> None:
    with pytest.raises(UsageError, match="its server's to collect"):
        find_objects(object(), REPO, Pins(), 0)  # type: ignore[arg-type]
