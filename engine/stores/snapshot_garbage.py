"""Objects of the embedded store that nothing needs: no branch, tag or pinned commit, no digest kept, nothing staged.

Enters: a store, and what is pinned from outside (runs, models, cached results). Leaves: a list of idle objects, and their
deletion. An object is young again whenever somebody puts it, so whatever is on its way into a commit is spared by its
age; what is staged is spared by name. Git's own objects are small, and git collects them itself.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pygit2

from engine.contracts import SnapshotStore
from engine.errors import UsageError
from engine.stores.disk import explained, hold_lock, owned_name, remove_tree
from engine.stores.git_snapshots import GitSnapshotStore
from engine.stores.large_files import LargeFiles, parse_pointer
from engine.stores.staging import StagingArea


@dataclass(frozen=True, slots=True)
class Pins:
    """What is needed beyond the branches and tags of a repository: commits, and objects by digest.

    `history_seconds`: of the commits behind branches, those older than that need not keep their objects (`None`: all do).
    The newest commit of a branch, and a tag's, always keep theirs.
    """

    commits: Collection[str] = ()
    digests: Collection[str] = ()
    history_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class IdleObject:
    """An object that nothing needs, its size in bytes, and for how many seconds nobody put it."""

    digest: str
    bytes: int
    idle_seconds: float


@dataclass(slots=True)
class _Marked:
    """Digests that are needed; trees and blobs that were looked at are not looked at again."""

    digests: set[str] = field(default_factory=set)
    seen: set[pygit2.Oid] = field(default_factory=set)

    def add_tree(self, tree: pygit2.Tree) -> None:
        """Mark the objects of a tree and all below."""
        if tree.id in self.seen:
            return
        self.seen.add(tree.id)
        for entry in tree:
            if isinstance(entry, pygit2.Tree):
                self.add_tree(entry)
            elif entry.id not in self.seen and isinstance(entry, pygit2.Blob):
                self.seen.add(entry.id)
                file = parse_pointer(entry.data)
                if file is not None:
                    self.digests.add(file.digest)


def is_collectable(store: SnapshotStore) -> bool:
    """Say whether this store's objects are the engine's to collect; a server collects its own."""
    return isinstance(store, GitSnapshotStore)


def find_objects(store: SnapshotStore, repository: str, pins: Pins, older_than: float) -> list[IdleObject]:
    """List objects that nothing needs and nobody put for `older_than` seconds; raises `UsageError` for a server's store."""
    path = _path(store, repository)
    with explained("look for garbage in", path):
        needed = _mark(path, pins)
        return [item for item in _objects(path) if item.digest not in needed and item.idle_seconds > older_than]


def delete_objects(store: SnapshotStore, repository: str, pins: Pins, found: Collection[IdleObject]) -> int:
    """Delete objects that `find_objects` gave, as far as nothing needs them by now; gives how many."""
    path = _path(store, repository)
    files = LargeFiles(path / "lfs")
    deleted = 0
    with explained("collect garbage in", path), hold_lock(files.root / "lock"):  # no put is under way
        needed = _mark(path, pins)
        for item in found:
            object_path = files.path_of(item.digest)
            if item.digest in needed or _idle(object_path) < item.idle_seconds:
                continue
            trash = files.root / "tmp" / owned_name()
            with suppress(FileNotFoundError):
                object_path.rename(trash)
                deleted += 1
            remove_tree(trash)
    return deleted


def _mark(path: Path, pins: Pins) -> set[str]:
    marked = _Marked(set(pins.digests))
    git = pygit2.Repository(str(path))
    try:
        heads = [git.references[full].peel(pygit2.Commit) for full in git.references]
        for commit in heads:
            marked.add_tree(commit.tree)
        for commit in _history(git, heads, pins.history_seconds):
            marked.add_tree(commit.tree)
        for name in pins.commits:
            with suppress(
                KeyError, ValueError, pygit2.GitError
            ):  # of another repository, or of a branch that was dropped
                marked.add_tree(git[name].peel(pygit2.Commit).tree)
    finally:
        git.free()
    return marked.digests | _staged(path)


def _history(git: pygit2.Repository, heads: list[pygit2.Commit], seconds: float | None) -> Iterator[pygit2.Commit]:
    """Give the commits behind the heads that are young enough to keep their objects."""
    oldest = 0.0 if seconds is None else time.time() - seconds
    walker = git.walk(None)
    for head in heads:
        walker.push(head.id)
    return (commit for commit in walker if commit.commit_time >= oldest)


def _staged(path: Path) -> set[str]:
    """Give the objects that are staged on any branch, or on their way into a commit."""
    found: set[str] = set()
    for folder in (path / "staging").glob("*/"):
        area = StagingArea(folder)
        with area.hold():
            changes = [area.read(), *(area.read(name) for name in folder.glob("committing.*"))]
        found |= {file.digest for change in changes for file in change.values() if file is not None}
    return found


def _objects(path: Path) -> Iterator[IdleObject]:
    for file in (path / "lfs" / "objects").glob("??/??/*"):
        with suppress(FileNotFoundError):
            yield IdleObject(file.name, file.stat().st_size, _idle(file))


def _idle(file: Path) -> float:
    try:
        return time.time() - os.stat(file).st_mtime  # noqa: PTH116 - one call an object
    except FileNotFoundError:
        return -1.0


def _path(store: SnapshotStore, repository: str) -> Path:
    if not isinstance(store, GitSnapshotStore):
        raise UsageError(
            "the objects of this snapshot store are its server's to collect",
            hint="set its garbage collection rules there; `engine gc` collects artefacts",
        )
    return store.root / f"{repository}.git"
