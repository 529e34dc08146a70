"""What a lakeFS server has under which name: repositories, branches, tags, commits; and words for what it has not.

Enters: names as the user wrote them. Leaves: the SDK's records, or errors that name the nearest. Called by the other
`lakefs_*` modules. `worded` is the one place where an unexplained 400 or 404 of the server becomes an explanation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from engine.errors import NotFoundError, UsageError
from engine.stores.lakefs_calls import LakeFSCalls, LakeFSError, sdk
from engine.stores.snapshot_names import MAIN, bad_name, missing, split_ref

PAGE = 1000  # the most that the server gives at once
_COMMIT_ID = 64
_OTHER_GRAMMAR = frozenset("@^$~")  # the server reads these in a ref (`main$` is what is staged): the contract does not
_ABSENT = frozenset({400, 404})  # the server answers 400 where a name could not even be one


@dataclass(frozen=True, slots=True)
class LakeFSRefs:
    """The names of one server."""

    calls: LakeFSCalls

    def pages(self, ask: Callable[[str], Any], limit: int | None = None) -> list[Any]:
        """Collect the results of a listing page by page; `ask(after)` asks for what follows a place."""
        found: list[Any] = []
        after, more = "", limit is None or limit > 0
        while more:
            page = self.calls.ask(lambda place=after: ask(place))  # type: ignore[misc]
            found += page.results
            after = page.pagination.next_offset
            more = page.pagination.has_more and (limit is None or len(found) < limit)
        return found[:limit]

    def repositories(self) -> list[str]:
        """List repositories by name."""
        api = self.calls.repositories
        return sorted(found.id for found in self.pages(lambda after: api.list_repositories(after=after, amount=PAGE)))

    def ensure_repository(self, repository: str, namespace: str | None) -> None:
        """Create a repository unless it exists; raises `UsageError` for its name, or when nothing says where its objects go."""
        try:
            self.calls.ask(lambda: self.calls.repositories.get_repository(repository))
            return
        except LakeFSError as error:
            if error.failure.status != 404:
                raise
        place = self._storage_prefix(namespace)
        wanted = sdk.RepositoryCreation(name=repository, storage_namespace=f"{place}{repository}", default_branch=MAIN)
        try:
            self.calls.ask(lambda: self.calls.repositories.create_repository(wanted))
        except LakeFSError as error:
            if error.failure.status != 409:  # another program created it meanwhile, or an answer was lost
                raise

    def _storage_prefix(self, namespace: str | None) -> str:
        if namespace is None:
            storage = self.calls.ask(self.calls.config.get_config).storage_config
            namespace = storage.default_namespace_prefix if storage is not None else None
        if not namespace:
            raise UsageError(
                f"stores.snapshots does not say where {self.calls.endpoint.label} keeps the objects of new repositories",
                hint="add ?namespace=s3://bucket/prefix to the URL, or create the repository in lakeFS",
            )
        return namespace if namespace.endswith("/") else f"{namespace}/"

    def find_commit(self, repository: str, ref: str) -> Any:
        """Find the commit of a branch, a tag, a commit id, or `~n` of one; raises `NotFoundError`."""
        name, steps = split_ref(ref)
        with self.worded(repository, ref):
            found = (
                None
                if _OTHER_GRAMMAR.intersection(name)
                else self._commit(repository, f"{name}~{steps}" if steps else name)
            )
            if found is not None:
                return found
            if steps and self._commit(repository, name) is not None:
                raise NotFoundError(f"{ref}: `{name}` has fewer than {steps} commit(s) before it")
            self._need_repository(repository)
            raise missing("branch, tag or commit", name, [*self.branches(repository), *self.tags(repository)])

    def resolve(self, repository: str, ref: str) -> str:
        """Give the commit id; a whole commit id is taken as it is, without a question."""
        if len(ref) == _COMMIT_ID and all(digit in "0123456789abcdef" for digit in ref):
            return ref
        return str(self.find_commit(repository, ref).id)

    def _commit(self, repository: str, wanted: str) -> Any:
        try:
            return self.calls.ask(lambda: self.calls.commits.get_commit(repository, wanted))
        except LakeFSError as error:
            if error.failure.status not in _ABSENT:
                raise
            return None

    def head(self, repository: str, branch: str) -> str | None:
        """Give a branch's newest commit; `None` when there is no such branch."""
        try:
            return str(self.calls.ask(lambda: self.calls.branches.get_branch(repository, branch)).commit_id)
        except LakeFSError as error:
            if error.failure.status not in _ABSENT:
                raise
            return None

    def need_head(self, repository: str, branch: str) -> str:
        """Give a branch's newest commit; raises `NotFoundError` naming the nearest branches."""
        with self.worded(repository, branch):
            found = self.head(repository, branch) if branch else None
            if found is not None:
                return found
            self._need_repository(repository)
            raise missing("branch", branch, self.branches(repository))

    def branches(self, repository: str) -> Sequence[str]:
        """List branches by name."""
        api = self.calls.branches
        with self.worded(repository):
            found = self.pages(lambda after: api.list_branches(repository, after=after, amount=PAGE))
        return sorted(ref.id for ref in found)

    def tags(self, repository: str) -> dict[str, str]:
        """Give the commit id of every tag, by name."""
        api = self.calls.tags
        with self.worded(repository):
            found = self.pages(lambda after: api.list_tags(repository, after=after, amount=PAGE))
        return {ref.id: ref.commit_id for ref in found}

    def create_branch(self, repository: str, branch: str, source: str) -> None:
        """Create a branch at a commit; raises `ConflictError` when it exists."""
        wanted = sdk.BranchCreation(name=branch, source=source)

        def create() -> bool:
            self.calls.branches.create_branch(repository, wanted)
            return True

        with self.naming(repository, branch):
            self.calls.ask(create, lambda: self.head(repository, branch) == source or None)

    def delete_branch(self, repository: str, branch: str) -> None:
        """Delete a branch; raises `NotFoundError`."""

        def delete() -> bool:
            self.calls.branches.delete_branch(repository, branch)
            return True

        self.need_head(repository, branch)
        with self.worded(repository, branch):
            self.calls.ask(delete, lambda: self.head(repository, branch) is None or None)

    def create_tag(self, repository: str, name: str, commit: str) -> None:
        """Name a commit; raises `ConflictError` when the name is taken."""
        wanted = sdk.TagCreation(id=name, ref=commit)

        def create() -> bool:
            self.calls.tags.create_tag(repository, wanted)
            return True

        with self.naming(repository, name):
            self.calls.ask(create, lambda: self.tags(repository).get(name) == commit or None)

    @contextmanager
    def naming(self, repository: str, name: str) -> Iterator[None]:
        """Word what the block leaves unworded while it gives something a name."""
        if not name or not name.isprintable() or name.startswith("-"):
            raise bad_name(name)
        try:
            with self.worded(repository):
                yield
        except UsageError as error:
            raise bad_name(name) from error

    @contextmanager
    def worded(self, repository: str, ref: str | None = None) -> Iterator[None]:
        """Word what the block leaves unworded; a missing repository is told with those that are there."""
        try:
            yield
        except LakeFSError as error:
            if error.failure.status in _ABSENT:
                self._need_repository(repository)
            raise self.calls.word(repository if ref is None else f"{repository}@{ref}", error.failure) from error

    def _need_repository(self, repository: str) -> None:
        with suppress(LakeFSError):
            known = self.repositories()
            if repository not in known:
                raise missing("repository", repository, known)
