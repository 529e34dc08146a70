"""The `SnapshotStore` of a lakeFS server.

Enters: names, refs and local files. Leaves: the contract's values. Called through `snapshots.open_snapshots`. Names are
found by `lakefs_refs`, commits made by `lakefs_history`, bytes moved by `lakefs_objects`, calls tried again by `lakefs_calls`.
A ref becomes a commit id before anything is read, so what others stage or commit meanwhile is not seen.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from engine.contracts import Change, Commit, ObjectStat, Scan
from engine.errors import NotFoundError, UsageError
from engine.stores.lakefs_calls import LakeFSCalls, LakeFSError, Patience, sdk
from engine.stores.lakefs_endpoint import LakeFSEndpoint
from engine.stores.lakefs_history import LakeFSHistory
from engine.stores.lakefs_objects import LakeFSObjects
from engine.stores.lakefs_refs import LakeFSRefs
from engine.stores.object_cache import ObjectCache, cache_folder
from engine.stores.snapshot_names import MAIN, check_path, missing_object

_REPOSITORY = re.compile(r"[a-z0-9][a-z0-9-]{2,62}")


class LakeFSSnapshotStore:
    """A `SnapshotStore` behind the network. Safe for several processes and threads; opening it sends nothing."""

    def __init__(
        self, endpoint: LakeFSEndpoint, patience: Patience | None = None, cache: ObjectCache | None = None
    ) -> None:
        self._calls = LakeFSCalls(endpoint, patience)
        self._refs = LakeFSRefs(self._calls)
        self._history = LakeFSHistory(self._calls, self._refs)
        self._objects = LakeFSObjects(self._calls, self._refs, cache or ObjectCache(cache_folder()))

    def repositories(self) -> Sequence[str]:
        """List repositories by name."""
        with self._calls.worded("listing repositories"):
            return self._refs.repositories()

    def ensure_repository(self, repository: str) -> None:
        """Create a repository with an empty commit on `main`, unless it exists; raises `UsageError` for its name."""
        if not _REPOSITORY.fullmatch(repository):
            raise UsageError(
                f"{repository!r} cannot name a repository of lakeFS",
                hint="use 3 to 63 small letters, digits and `-`, as in `flights`",
            )
        with self._refs.worded(repository):
            self._refs.ensure_repository(repository, self._calls.endpoint.namespace)

    def resolve(self, repository: str, ref: str) -> str:
        """Give the commit id; raises `NotFoundError`."""
        return str(self._refs.find_commit(repository, ref).id)

    def create_branch(self, repository: str, branch: str, start: str) -> None:
        """Create a branch at a ref; raises `ConflictError` when it exists."""
        with self._refs.naming(repository, branch):
            self._refs.create_branch(repository, branch, self.resolve(repository, start))

    def branches(self, repository: str) -> Sequence[str]:
        """List branches by name."""
        return self._refs.branches(repository)

    def delete_branch(self, repository: str, branch: str) -> None:
        """Delete a branch and what is staged on it; raises `NotFoundError`, and `UsageError` for `main`."""
        if branch == MAIN:
            raise UsageError(f"`{MAIN}` is not deleted: it is the published data", hint="revert its commits instead")
        self._refs.delete_branch(repository, branch)

    def put(self, repository: str, branch: str, path: str, content: Path) -> ObjectStat:
        """Stage a file's bytes at a path of a branch; raises `StoreError` for an unreadable file."""
        (staged,) = self.put_many(repository, branch, {path: content})
        return staged

    def put_many(
        self, repository: str, branch: str, files: Mapping[str, Path], told: Callable[[int], None] | None = None
    ) -> Sequence[ObjectStat]:
        """Stage many files, several uploads at a time; `told(n)` hears how many are done."""
        for path in files:
            check_path(path)
        with self._refs.worded(repository, branch):
            try:
                return self._objects.put_many(repository, branch, files, told)
            except LakeFSError as error:
                if error.failure.status == 404:
                    self._refs.need_head(repository, branch)
                raise

    def remove(self, repository: str, branch: str, path: str) -> None:
        """Stage a removal; raises `NotFoundError` when the branch has no such object, committed or staged."""
        check_path(path)
        with self._refs.worded(repository, branch):
            if not self._objects.exists(repository, branch, path):
                self._refs.need_head(repository, branch)
                raise missing_object(repository, branch, path)
            self._objects.remove(repository, branch, path)

    def uncommitted(self, repository: str, branch: str) -> Sequence[Change]:
        """List what is staged on a branch, sorted by path."""
        self._refs.need_head(repository, branch)
        with self._refs.worded(repository, branch):
            return self._history.uncommitted(repository, branch)

    def reset(self, repository: str, branch: str) -> None:
        """Forget everything staged on a branch."""
        self._refs.need_head(repository, branch)
        everything = sdk.ResetCreation(type="reset")
        with self._refs.worded(repository, branch):
            self._calls.ask(lambda: self._calls.branches.reset_branch(repository, branch, everything))

    def commit(self, repository: str, branch: str, message: str, metadata: Mapping[str, str]) -> Commit:
        """Commit what is staged on a branch, once; raises `StoreError` when that is nothing, or changes nothing."""
        _check_text([message, *metadata, *metadata.values()])
        with self._refs.worded(repository, branch):
            return self._history.commit(repository, branch, message.strip(), metadata)

    def merge(self, repository: str, source: str, into: str, message: str, metadata: Mapping[str, str]) -> Commit:
        """Merge a ref into a branch by a commit of its own, once; raises `ConflictError` naming the paths."""
        _check_text([message, *metadata, *metadata.values()])
        with self._refs.worded(repository, into):
            return self._history.merge(repository, source, into, message.strip(), metadata)

    def revert(self, repository: str, branch: str, ref: str) -> Commit:
        """Undo one commit on a branch by a new commit, once (a merge: what it brought in); raises `ConflictError`."""
        with self._refs.worded(repository, branch):
            return self._history.revert(repository, branch, ref)

    def tag(self, repository: str, name: str, ref: str) -> None:
        """Name a commit for good; raises `ConflictError` when the name is taken."""
        with self._refs.naming(repository, name):
            self._refs.create_tag(repository, name, self.resolve(repository, ref))

    def tags(self, repository: str) -> Mapping[str, str]:
        """Give the commit id of every tag, by name."""
        return self._refs.tags(repository)

    def log(self, repository: str, ref: str, limit: int) -> Sequence[Commit]:
        """List commits from a ref back, newest first, every commit before the ones it stands on."""
        with self._refs.worded(repository, ref):
            return self._history.log(repository, ref, limit)

    def list(self, repository: str, ref: str, prefix: str = "") -> Sequence[ObjectStat]:
        """List objects at a ref whose path starts with `prefix`, sorted by path; not those that are only staged."""
        commit = self._refs.resolve(repository, ref)
        with self._refs.worded(repository, ref):
            return self._objects.list(repository, commit, prefix)

    def stat(self, repository: str, ref: str, path: str) -> ObjectStat:
        """Give one object's digest and size; raises `NotFoundError`."""
        commit = self._refs.resolve(repository, ref)
        try:
            with self._refs.worded(repository, f"{ref}/{path}"):
                return self._objects.stat(repository, commit, check_path(path))
        except NotFoundError as error:
            self._refs.find_commit(repository, commit)
            raise missing_object(repository, ref, path) from error

    def diff(self, repository: str, left: str, right: str) -> Sequence[Change]:
        """List the paths that differ from `left` to `right`, sorted."""
        before, after = self._refs.resolve(repository, left), self._refs.resolve(repository, right)
        with self._refs.worded(repository, f"{left} and {right}"):
            return self._history.diff(repository, before, after)

    def merge_base(self, repository: str, left: str, right: str) -> str:
        """Give the newest commit that both stand on; `diff` from there to `right` is what `right` did since."""
        ours, theirs = self._refs.resolve(repository, left), self._refs.resolve(repository, right)
        with self._refs.worded(repository, f"{left} and {right}"):
            return self._history.merge_base(repository, ours, theirs)

    def fetch(self, repository: str, ref: str, path: str) -> Path:
        """Give a local, verified file with an object's bytes; raises `NotFoundError` or `IntegrityError`."""
        commit = self._refs.resolve(repository, ref)
        found = self.stat(repository, commit, path)
        with self._refs.worded(repository, f"{ref}/{path}"):
            return self._objects.fetch(repository, commit, found)

    def scan(self, repository: str, ref: str, prefix: str = "") -> Scan:
        """Give locations in the server's S3 gateway (path style), with the options that log in there."""
        commit = self._refs.resolve(repository, ref)
        items = self.list(repository, commit, prefix)
        if self._calls.endpoint.read == "copy":
            with self._refs.worded(repository, ref):
                return Scan(tuple(items), self._objects.copies(repository, commit, items))
        return replace(self._objects.in_place(repository, commit, [item.path for item in items]), objects=tuple(items))

    def locate(self, repository: str, ref: str, paths: Sequence[str]) -> Scan:
        """Give these objects' places in the gateway, where nothing is asked of a commit id; or verified copies."""
        commit = self._refs.resolve(repository, ref)
        if self._calls.endpoint.read == "copy":
            items = [self.stat(repository, commit, path) for path in paths]
            with self._refs.worded(repository, ref):
                return Scan((), self._objects.copies(repository, commit, items))
        return self._objects.in_place(repository, commit, paths)


def _check_text(texts: Sequence[str]) -> None:
    if not all(isinstance(text, str) and not any("\ud800" <= sign <= "\udfff" for sign in text) for text in texts):
        raise UsageError("the message and metadata of a commit are text without lone surrogates")
