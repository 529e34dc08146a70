"""Commits of a lakeFS repository: making, merging and reverting each exactly once, and what differs between two.

Enters: names and texts. Leaves: `Commit` and `Change`. Called by `lakefs_snapshots`. Every commit made here carries a
request key in its metadata (`plumbline.request`, which the contract does not show): when the answer to a call is lost, the
branch's newest commits are searched for the key before the call is made again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from engine.clock import isoformat
from engine.contracts import Change, Commit
from engine.errors import ConflictError, EngineError, NotFoundError, StoreError, UsageError
from engine.stores.lakefs_calls import LakeFSCalls, LakeFSError, sdk
from engine.stores.lakefs_refs import PAGE, LakeFSRefs
from engine.stores.snapshot_names import conflict_error

REQUEST = "plumbline.request"
_SERVERS_OWN = ".lakefs."  # what the server notes of a merge or revert
_LOOKED_BACK = 100  # newest commits that are searched for a request: others write to the branch too


@dataclass(frozen=True, slots=True)
class LakeFSHistory:
    """The commits of one server."""

    calls: LakeFSCalls
    refs: LakeFSRefs

    def commit(self, repository: str, branch: str, message: str, metadata: Mapping[str, str]) -> Commit:
        """Commit what is staged; raises `StoreError` when that is nothing, or changes nothing."""
        key = new_request()
        wanted = sdk.CommitCreation(message=message, metadata={**metadata, REQUEST: key})
        try:
            made = self.calls.ask(
                lambda: self.calls.commits.commit(repository, branch, wanted),
                lambda: self._made(repository, branch, key),
            )
        except LakeFSError as error:
            self.refs.need_head(repository, branch)
            if error.failure.status == 400 and "no changes" in error.failure.reason:
                raise StoreError(
                    f"nothing is staged on {repository}@{branch}", hint="put or remove something first"
                ) from error
            raise
        return read_commit(made)

    def merge(self, repository: str, source: str, into: str, message: str, metadata: Mapping[str, str]) -> Commit:
        """Merge a ref into a branch; what is merged already gives the branch's newest commit."""
        theirs, ours = self.refs.resolve(repository, source), self.refs.need_head(repository, into)
        if self.merge_base(repository, ours, theirs) == theirs:
            return read_commit(self.refs.find_commit(repository, ours))
        key = new_request()
        wanted = sdk.Merge(message=message, metadata={**metadata, REQUEST: key}, allow_empty=True)

        def merge() -> Any:
            return self.calls.refs.merge_into_branch(repository, theirs, into, wanted).reference

        def merged() -> Any:
            return getattr(self._made(repository, into, key), "id", None)

        try:
            made = self.calls.ask(merge, merged)
        except LakeFSError as error:
            base = self.merge_base(repository, ours, theirs)
            raise self._word(error, repository, (base, ours, theirs), f"merging {source} into {into}") from error
        return read_commit(self.refs.find_commit(repository, made))

    def revert(self, repository: str, branch: str, ref: str) -> Commit:
        """Undo one commit on a branch by a new one (a merge: what it brought in)."""
        undone, head = self.refs.find_commit(repository, ref), self.refs.need_head(repository, branch)
        if not undone.parents:
            raise UsageError(f"{ref} is the first commit of {repository}: there is nothing before it")
        key, subject = new_request(), undone.message.partition("\n")[0]
        metadata = {"plumbline.reverts": str(undone.id), REQUEST: key}
        wanted = sdk.RevertCreation(
            ref=undone.id, parent_number=int(len(undone.parents) > 1), allow_empty=True,
            commit_overrides=sdk.CommitOverrides(message=f'Revert "{subject}"', metadata=metadata),
        )  # fmt: skip

        def revert() -> Any:
            self.calls.branches.revert_branch(repository, branch, wanted)
            return self._made(repository, branch, key)

        try:
            made = self.calls.ask(revert, lambda: self._made(repository, branch, key))
        except LakeFSError as error:
            sides = (undone.id, head, undone.parents[0])
            raise self._word(error, repository, sides, f"reverting {ref} on {branch}") from error
        if made is None:
            raise StoreError(
                f"{repository}@{branch}: the revert is done, and too many commits came after it to find it"
            )
        return read_commit(made)

    def log(self, repository: str, ref: str, limit: int) -> Sequence[Commit]:
        """List commits from a ref back, newest first, every commit before the ones it stands on."""
        start, amount = self.refs.resolve(repository, ref), min(max(limit, 1), PAGE)
        api = self.calls.refs
        found = self.refs.pages(lambda after: api.log_commits(repository, start, after=after, amount=amount), limit)
        return [read_commit(commit) for commit in found]

    def diff(self, repository: str, left: str, right: str) -> Sequence[Change]:
        """List the paths that differ from one commit to another, sorted."""
        api = self.calls.refs
        found = self.refs.pages(
            lambda after: api.diff_refs(repository, left, right, after=after, amount=PAGE, type="two_dot")
        )
        return read_changes(found)

    def uncommitted(self, repository: str, branch: str) -> Sequence[Change]:
        """List what is staged on a branch, sorted by path."""
        api = self.calls.branches
        return read_changes(
            self.refs.pages(lambda after: api.diff_branch(repository, branch, after=after, amount=PAGE))
        )

    def merge_base(self, repository: str, left: str, right: str) -> str:
        """Give the newest commit that two commits stand on; raises `NotFoundError` when they share none."""
        found = self.calls.ask(lambda: self.calls.refs.find_merge_base(repository, right, left)).base_commit_id
        if not found:
            raise NotFoundError(f"{repository}: {left[:12]} and {right[:12]} share no commit")
        return str(found)

    def _made(self, repository: str, branch: str, key: str) -> Any:
        """Find the commit of a request; `None` when the server did not make it."""
        newest = self.calls.refs.log_commits(repository, branch, amount=_LOOKED_BACK, first_parent=True)
        return next((commit for commit in newest.results if (commit.metadata or {}).get(REQUEST) == key), None)

    def _word(self, error: LakeFSError, repository: str, sides: tuple[str, str, str], what: str) -> EngineError:
        """Word a refused merge of (base, ours, theirs): which paths conflict, the server does not say."""
        status, reason = error.failure.status, error.failure.reason
        if status == 409:
            base, ours, theirs = sides
            pairs = ((base, theirs), (base, ours), (ours, theirs))
            paths = [{change.path for change in self.diff(repository, left, right)} for left, right in pairs]
            return conflict_error(what, sorted(set.intersection(*paths)))
        if status == 400 and "uncommitted" in reason:
            return ConflictError(
                f"{what}: something is staged on the branch and not committed", hint="commit it, or reset the branch"
            )
        return self.calls.word(what, error.failure)


def new_request() -> str:
    """Name one wish, so that a commit of it can be recognised."""
    return uuid4().hex


def read_commit(commit: Any) -> Commit:
    """Give a commit in the contract's terms."""
    found = commit.metadata or {}
    metadata = {name: value for name, value in found.items() if name != REQUEST and not name.startswith(_SERVERS_OWN)}
    at = isoformat(datetime.fromtimestamp(commit.creation_date, UTC))
    return Commit(commit.id, tuple(commit.parents), commit.message, metadata, at)


def read_changes(found: Sequence[Any]) -> Sequence[Change]:
    """Give differences in the contract's terms."""
    return sorted((Change(item.path, item.type) for item in found), key=lambda change: change.path)
