"""Branches and tags of a bare repository: names, resolution, and moving a branch only from where it was expected.

Enters: an open repository and names as the user wrote them. Leaves: commit objects, moved references. Called by
`git_snapshots`, which holds the branch's lock around every change; git's own locks keep other git programs out.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pygit2

from engine.errors import ConflictError, LockedError, NotFoundError
from engine.stores.snapshot_names import bad_name, missing, split_ref

_COMMIT = re.compile(r"[0-9a-f]{7,40}")
_STALE_SECONDS = 3.0  # git holds a reference's lock file for milliseconds; an older one lost its process
_PATIENCE_SECONDS = 10.0
_fsync_setting = threading.Lock()  # the setting is one for the whole process


def branch_name(branch: str) -> str:
    """Give a branch's full reference name; raises `UsageError` for what git does not allow."""
    return _full_name("heads", branch)


def tag_name(tag: str) -> str:
    """Give a tag's full reference name; raises `UsageError` for what git does not allow."""
    return _full_name("tags", tag)


def _full_name(kind: str, name: str) -> str:
    full = f"refs/{kind}/{name}"
    if not name.isprintable() or name.startswith("-") or not pygit2.reference_is_valid_name(full):
        raise bad_name(name)
    return full


def find_commit(repository: pygit2.Repository, ref: str) -> pygit2.Commit:
    """Find the commit of a branch, a tag, a commit id (7 digits or more), or `~n` of one; raises `NotFoundError`."""
    name, steps = split_ref(ref)
    commit = _named_commit(repository, name)
    for done in range(steps):
        if not commit.parent_ids:
            raise NotFoundError(f"{ref}: `{name}` has only {done} commit(s) before it")
        commit = commit.parents[0]
    return commit


def _named_commit(repository: pygit2.Repository, name: str) -> pygit2.Commit:
    for kind in ("heads", "tags"):
        full = f"refs/{kind}/{name}"
        if pygit2.reference_is_valid_name(full) and (found := repository.references.get(full)) is not None:
            return found.peel(pygit2.Commit)
    if _COMMIT.fullmatch(name):
        try:
            return repository[name].peel(pygit2.Commit)
        except (KeyError, ValueError, pygit2.GitError):  # unknown, shared by several, or not a commit
            pass
    known = [full.split("/", 2)[2] for full in repository.references if full.startswith(("refs/heads/", "refs/tags/"))]
    raise missing("branch, tag or commit", name, known)


def head_of(repository: pygit2.Repository, branch: str) -> pygit2.Commit:
    """Find the newest commit of a branch; raises `NotFoundError`."""
    found = repository.references.get(branch_name(branch))
    if found is None:
        raise missing("branch", branch, list_branches(repository))
    return found.peel(pygit2.Commit)


def list_branches(repository: pygit2.Repository) -> list[str]:
    """List the branches by name."""
    return sorted(full.removeprefix("refs/heads/") for full in repository.references if full.startswith("refs/heads/"))


def list_tags(repository: pygit2.Repository) -> dict[str, str]:
    """Give the commit of every tag by name."""
    found = sorted(full for full in repository.references if full.startswith("refs/tags/"))
    return {full.removeprefix("refs/tags/"): str(repository.references[full].peel(pygit2.Commit).id) for full in found}


def create_reference(repository: pygit2.Repository, full: str, target: pygit2.Oid) -> None:
    """Create a reference; raises `ConflictError` when the name is taken."""
    with _durably(repository, full):
        try:
            repository.create_reference(full, target, force=False)
        except pygit2.AlreadyExistsError as error:
            raise ConflictError(f"`{full.split('/', 2)[2]}` exists already", hint="choose another name") from error


def delete_reference(repository: pygit2.Repository, full: str) -> None:
    """Delete a reference that exists."""
    with _durably(repository, full, "packed-refs"):
        repository.references.delete(full)


def advance(repository: pygit2.Repository, branch: str, expected: pygit2.Oid, target: pygit2.Oid) -> bool:
    """Move a branch from `expected` to `target`; `False` when it is elsewhere by now (compare-and-swap)."""
    full = branch_name(branch)
    with _durably(repository, full):
        reference = repository.references.get(full)
        if reference is None or reference.target != expected:
            return False
        try:
            reference.set_target(target)
        except pygit2.GitError:
            now = repository.references.get(full)
            if now is not None and now.target == expected:
                raise
            return False
    return True


@contextmanager
def _durably(repository: pygit2.Repository, *names: str) -> Iterator[None]:
    """Have references fsynced while they change, after a lock file that a killed process left was cleared away."""
    for name in names:
        _wait_for(Path(repository.path) / f"{name}.lock")
    with _fsync_setting:
        pygit2.settings.enable_fsync_gitdir(True)  # noqa: FBT003 - the library's own signature
        try:
            yield
        finally:
            pygit2.settings.enable_fsync_gitdir(False)  # noqa: FBT003


def _wait_for(lock: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            age = time.time() - lock.stat().st_mtime
        except FileNotFoundError:
            return
        if age > _STALE_SECONDS:
            lock.unlink(missing_ok=True)
            return
        if time.monotonic() > deadline:
            raise LockedError(
                f"git holds {lock}", hint="see which git program runs there; delete the file if there is none"
            )
        time.sleep(0.02)
