"""The Protocol that snapshot stores fulfil, and the values that it gives. Re-exported by `contracts`; costs nothing to import."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ObjectStat:
    """One object at a ref."""

    path: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Commit:
    """An immutable version of a repository; `at` is RFC 3339, `metadata` maps text to text."""

    id: str
    parents: tuple[str, ...]
    message: str
    metadata: Mapping[str, str]
    at: str


@dataclass(frozen=True, slots=True)
class Change:
    """One path that differs between two refs."""

    path: str
    kind: str  # added | removed | changed


@dataclass(frozen=True, slots=True)
class Scan:
    """Where Polars reads objects of a commit in place: one location an object, and the options of their storage.

    `options` hold credentials: hand them to the scan and to nothing else. `objects` are those that were listed; there are none
    where the caller named the paths.
    """

    objects: tuple[ObjectStat, ...]
    locations: tuple[str, ...]
    options: Mapping[str, str] = field(default_factory=dict, repr=False)


class SnapshotStore(Protocol):
    """Versioned data, lakeFS-shaped. A ref is a branch, a tag, a commit id, or one of those with `~n`."""

    def repositories(self) -> Sequence[str]:
        """List repositories by name."""
        ...

    def ensure_repository(self, repository: str) -> None:
        """Create a repository with an empty commit on `main`, unless it exists."""
        ...

    def resolve(self, repository: str, ref: str) -> str:
        """Give the commit id; raises `NotFoundError`."""
        ...

    def create_branch(self, repository: str, branch: str, start: str) -> None:
        """Create a branch at a ref; raises `ConflictError` when it exists."""
        ...

    def branches(self, repository: str) -> Sequence[str]:
        """List branches."""
        ...

    def delete_branch(self, repository: str, branch: str) -> None:
        """Delete a branch; raises `NotFoundError`."""
        ...

    def put(self, repository: str, branch: str, path: str, content: Path) -> ObjectStat:
        """Stage a file's bytes at a path of a branch. A read-only file may be linked instead of copied: nobody changes it."""
        ...

    def put_many(
        self, repository: str, branch: str, files: Mapping[str, Path], told: Callable[[int], None] | None = None
    ) -> Sequence[ObjectStat]:
        """Stage many files at once, by path, as fast as the store can; `told(n)` hears how many are done."""
        ...

    def remove(self, repository: str, branch: str, path: str) -> None:
        """Stage a removal."""
        ...

    def uncommitted(self, repository: str, branch: str) -> Sequence[Change]:
        """List what is staged on a branch, sorted by path."""
        ...

    def reset(self, repository: str, branch: str) -> None:
        """Forget everything staged on a branch."""
        ...

    def commit(self, repository: str, branch: str, message: str, metadata: Mapping[str, str]) -> Commit:
        """Commit what is staged on a branch; raises `ConflictError` when the branch moved, `StoreError` when nothing is staged.

        Once, even when the answer is lost on its way: a store behind a network looks before it tries again.
        """
        ...

    def merge(self, repository: str, source: str, into: str, message: str, metadata: Mapping[str, str]) -> Commit:
        """Merge a ref into a branch, once as `commit` does; raises `ConflictError` naming the paths.

        What is merged already gives the branch's newest commit, so a merge may be repeated.
        """
        ...

    def revert(self, repository: str, branch: str, ref: str) -> Commit:
        """Undo one commit on a branch by a new commit."""
        ...

    def tag(self, repository: str, name: str, ref: str) -> None:
        """Name a commit for good; raises `ConflictError` when the name is taken."""
        ...

    def tags(self, repository: str) -> Mapping[str, str]:
        """Give the commit id of every tag, by name."""
        ...

    def log(self, repository: str, ref: str, limit: int) -> Sequence[Commit]:
        """List commits from a ref back, newest first."""
        ...

    def list(self, repository: str, ref: str, prefix: str = "") -> Sequence[ObjectStat]:
        """List objects at a ref under a prefix, sorted by path."""
        ...

    def stat(self, repository: str, ref: str, path: str) -> ObjectStat:
        """Give one object's digest and size; raises `NotFoundError`."""
        ...

    def diff(self, repository: str, left: str, right: str) -> Sequence[Change]:
        """List the paths that differ from `left` to `right`, sorted."""
        ...

    def merge_base(self, repository: str, left: str, right: str) -> str:
        """Give the newest commit that both stand on; `diff` from there to `right` is what `right` did since."""
        ...

    def fetch(self, repository: str, ref: str, path: str) -> Path:
        """Give a local, verified file with an object's bytes; raises `NotFoundError` or `IntegrityError`."""
        ...

    def scan(self, repository: str, ref: str, prefix: str = "") -> Scan:
        """Give the objects under a prefix for a lazy read in place, by any number of workers, sorted by path.

        Only what a query needs is read, so whole objects are not hashed: their sizes are checked. `fetch` verifies bytes.
        """
        ...

    def locate(self, repository: str, ref: str, paths: Sequence[str]) -> Scan:
        """Give the places of these objects, in this order, for a lazy read in place; lists nothing.

        Objects on this machine are verified first (once a process), and one that is missing raises `NotFoundError`. A store behind
        a network is not asked when `ref` is a commit id: what it does not have, reading tells.
        """
        ...
