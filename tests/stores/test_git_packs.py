"""Packs of blobs are what git itself would accept: its own tools verify them, and every program reads them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pygit2
import pytest

from engine.stores.git_packs import write_blobs
from engine.stores.snapshots import open_snapshots

SIZES = (0, 1, 15, 16, 127, 128, 2047, 2048, 70_000)  # around each length that an entry's header takes


@pytest.fixture
def repository(tmp_path: Path) -> pygit2.Repository:
    return pygit2.init_repository(str(tmp_path / "some.git"), bare=True)


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True)
    return done.stdout + done.stderr


def test_git_verifies_a_pack_and_reads_every_blob(repository: pygit2.Repository) -> None:
    contents = [bytes([number % 256]) * size for number in range(60) for size in SIZES]
    ids = write_blobs(repository, contents)
    assert [repository[found].data for found in ids] == contents
    assert [str(found) for found in ids] == [str(pygit2.hash(content)) for content in contents]
    root = Path(repository.path)
    (index,) = (root / "objects" / "pack").glob("pack-*.idx")
    assert "non delta" in git(root, "verify-pack", "-s", str(index))
    assert "error" not in git(root, "fsck", "--full", "--strict")
    assert not list((root / "objects" / "pack").glob("tmp_*"))


def test_the_same_blobs_again_are_the_same_pack(repository: pygit2.Repository) -> None:
    contents = [b"%d" % number for number in range(100)]
    assert write_blobs(repository, contents) == write_blobs(repository, [*contents[::-1], *contents])[-100:]
    assert write_blobs(repository, contents) == write_blobs(repository, contents)
    assert len(list((Path(repository.path) / "objects" / "pack").glob("pack-*.pack"))) == 2


def test_a_few_blobs_make_no_pack(repository: pygit2.Repository) -> None:
    assert repository[write_blobs(repository, [b"one"])[0]].data == b"one"
    assert not list((Path(repository.path) / "objects" / "pack").glob("*.pack"))


def test_a_large_commit_is_one_pack_that_a_clone_has_too(tmp_path: Path) -> None:
    store = open_snapshots(str(tmp_path / "snapshots"))
    store.ensure_repository("data")
    files = {}
    for number in range(80):
        files[f"t/{number % 7}/{number}.txt"] = tmp_path / str(number)
        (tmp_path / str(number)).write_text(str(number % 70))  # some twice
    store.put_many("data", "main", files)
    commit = store.commit("data", "main", "many", {})
    root = tmp_path / "snapshots" / "data.git"
    assert "error" not in git(root, "fsck", "--full", "--strict")
    assert len(list((root / "objects" / "pack").glob("*.pack"))) == 1
    clone = tmp_path / "clone.git"
    git(tmp_path, "clone", "--bare", "--no-local", str(root), str(clone))
    assert len(git(clone, "ls-tree", "-r", "--name-only", commit.id).split()) == 81  # with .gitattributes
    assert [item.path for item in store.list("data", "main")] == sorted(files)
