"""The embedded `SnapshotStore`: one bare git repository a data repository, read by plain `git` and `git lfs` too.

    <root>/<repository>.git/            refs, commits, trees, and pointers as blobs
    <root>/<repository>.git/lfs/        the objects themselves
    <root>/<repository>.git/staging/    what is not committed yet, by branch

Order makes it safe to kill at any moment: objects are durable before trees, trees before commits, and a commit before
the branch moves to it by compare-and-swap. Any number of processes may commit to one branch; none loses anything.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pygit2
from pygit2.enums import SortMode

from engine.clock import Clock, SystemClock
from engine.contracts import Change, Commit, ObjectStat, Scan
from engine.errors import ConflictError, NotFoundError, StoreError, UsageError
from engine.stores import git_packs, git_refs, git_trees
from engine.stores.disk import is_abandoned, owned_name, remove_tree, settle
from engine.stores.git_commits import CommitText, read_commit, write_commit
from engine.stores.git_library import isolate, worded
from engine.stores.large_files import LargeFile, LargeFiles, render_pointer
from engine.stores.snapshot_names import MAIN, check_path, missing_object
from engine.stores.staging import StagedChange, StagingArea, staging_area

_ATTEMPTS = 32
# A clone runs every object through Git LFS; the file itself is plain text.
_ATTRIBUTES = b"* filter=lfs diff=lfs merge=lfs -text\n.gitattributes !filter !diff !merge text\n"
_KINDS = {(False, True): "added", (True, False): "removed", (True, True): "changed"}  # by: is there before, after
_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")

Build = Callable[[pygit2.Commit, list[pygit2.Oid]], tuple[pygit2.Oid, Sequence[pygit2.Oid]]]
"""From a branch's head to the tree and parents of its next commit; ids of objects it writes go into the list."""


class GitSnapshotStore:
    """A `SnapshotStore` in a folder. Safe for several processes and threads."""

    def __init__(self, root: Path, clock: Clock | None = None) -> None:
        self.root = root
        self._clock = clock or SystemClock()

    def repositories(self) -> Sequence[str]:
        """List repositories by name."""
        return sorted(
            path.name.removesuffix(".git") for path in self.root.glob("[!.]*.git") if (path / "HEAD").exists()
        )

    def ensure_repository(self, repository: str) -> None:
        """Create a repository with an empty commit on `main`, unless it exists."""
        path = self._path(repository)
        with worded(path):
            if (path / "HEAD").exists():
                LargeFiles(path / "lfs").sweep()
                return
            self._create(path)

    def resolve(self, repository: str, ref: str) -> str:
        """Give the commit id; raises `NotFoundError`."""
        with self._open(repository) as git:
            return str(git_refs.find_commit(git, ref).id)

    def create_branch(self, repository: str, branch: str, start: str) -> None:
        """Create a branch at a ref; raises `ConflictError` when it exists."""
        full = git_refs.branch_name(branch)
        with self._open(repository) as git, self._staging(git, branch).hold():
            git_refs.create_reference(git, full, git_refs.find_commit(git, start).id)

    def branches(self, repository: str) -> Sequence[str]:
        """List branches by name."""
        with self._open(repository) as git:
            return git_refs.list_branches(git)

    def delete_branch(self, repository: str, branch: str) -> None:
        """Delete a branch and what is staged on it; raises `NotFoundError`, and `UsageError` for `main`."""
        if branch == MAIN:
            raise UsageError(f"`{MAIN}` is not deleted: it is the published data", hint="revert its commits instead")
        with self._open(repository) as git:
            git_refs.head_of(git, branch)
            with self._alone(git, branch) as staging:
                git_refs.delete_reference(git, git_refs.branch_name(branch))
                staging.discard()

    def put(self, repository: str, branch: str, path: str, content: Path) -> ObjectStat:
        """Stage a file's bytes at a path of a branch; raises `StoreError` (unreadable file, full disk)."""
        (staged,) = self.put_many(repository, branch, {path: content})
        return staged

    def put_many(
        self, repository: str, branch: str, files: Mapping[str, Path], told: Callable[[int], None] | None = None
    ) -> Sequence[ObjectStat]:
        """Stage many files under one hold of the branch; `told(n)` hears how many are done."""
        for path in files:
            check_path(path)
        staged = []
        with self._open(repository) as git:
            git_refs.head_of(git, branch)
            for path, file in zip(files, self._files(git).put_many(files.values()), strict=True):
                staged.append(ObjectStat(path, file.digest, file.size))
                if told is not None:
                    told(len(staged))
            with self._alone(git, branch) as staging:
                staging.add(*(StagedChange(item.path, item.digest, item.size) for item in staged))
        return staged

    def remove(self, repository: str, branch: str, path: str) -> None:
        """Stage a removal; raises `NotFoundError` when the branch has no such object, committed or staged."""
        check_path(path)
        with self._open(repository) as git:
            git_refs.head_of(git, branch)
            with self._alone(git, branch) as staging:
                committed = git_trees.find_object(git_refs.head_of(git, branch).tree, path)
                if staging.read().get(path, committed) is None:
                    raise NotFoundError(f"no object `{path}` on {repository}@{branch}")
                staging.add(StagedChange(path))

    def uncommitted(self, repository: str, branch: str) -> Sequence[Change]:
        """List what is staged on a branch and differs from its newest commit, sorted by path."""
        with self._open(repository) as git, self._alone(git, branch) as staging:
            tree, changes = git_refs.head_of(git, branch).tree, []
            for path, file in sorted(staging.read().items()):
                before = git_trees.find_object(tree, path)
                if before != file:
                    changes.append(Change(path, _KINDS[before is not None, file is not None]))
        return changes

    def reset(self, repository: str, branch: str) -> None:
        """Forget everything staged on a branch."""
        with self._open(repository) as git, self._alone(git, branch) as staging:
            staging.clear()

    def commit(self, repository: str, branch: str, message: str, metadata: Mapping[str, str]) -> Commit:
        """Commit what is staged on a branch.

        Raises `ConflictError` when other programs keep moving the branch, `StoreError` when nothing is staged that differs.
        """
        with self._open(repository) as git:
            git_refs.head_of(git, branch)
            with self._alone(git, branch) as staging:
                staged = staging.read()
                if not staged:
                    raise _nothing(repository, branch)
                put = {path: file for path, file in staged.items() if file is not None}
                self._files(git).settle(put.values())
                made = git_packs.write_blobs(git, [render_pointer(file) for file in put.values()])
                blobs = dict.fromkeys(staged) | dict(zip(put, made, strict=True))

                def build(head: pygit2.Commit, written: list[pygit2.Oid]) -> tuple[pygit2.Oid, Sequence[pygit2.Oid]]:
                    written += made if git_packs.is_loose(len(made)) else []
                    tree = git_trees.edit_tree(git, head.tree, blobs, written)
                    if tree == head.tree_id:
                        raise _nothing(repository, branch)
                    return tree, [head.id]

                return self._extend(git, branch, CommitText(message, metadata), build, staging)

    def merge(self, repository: str, source: str, into: str, message: str, metadata: Mapping[str, str]) -> Commit:
        """Merge a ref into a branch by a commit of its own; raises `ConflictError` naming the paths.

        What is merged already gives the branch's newest commit, so a merge may be repeated.
        """
        with self._open(repository) as git:
            theirs = git_refs.find_commit(git, source)
            git_refs.head_of(git, into)

            def build(head: pygit2.Commit, written: list[pygit2.Oid]) -> tuple[pygit2.Oid, Sequence[pygit2.Oid]]:
                base = git.merge_base(head.id, theirs.id)
                if base == theirs.id:
                    return head.tree_id, []
                base_tree = git[base].peel(pygit2.Tree) if base is not None else None
                changes = git_trees.combine(base_tree, head.tree, theirs.tree, f"merging {source} into {into}")
                return git_trees.edit_tree(git, head.tree, changes, written), [head.id, theirs.id]

            with self._alone(git, into):
                return self._extend(git, into, CommitText(message, metadata), build)

    def revert(self, repository: str, branch: str, ref: str) -> Commit:
        """Undo one commit on a branch by a new commit (a merge: what it brought in); raises `ConflictError`."""
        with self._open(repository) as git:
            undone = git_refs.find_commit(git, ref)
            git_refs.head_of(git, branch)
            if not undone.parent_ids:
                raise UsageError(f"{ref} is the first commit of {repository}: there is nothing before it")
            what = f"reverting {ref} on {branch}"

            def build(head: pygit2.Commit, written: list[pygit2.Oid]) -> tuple[pygit2.Oid, Sequence[pygit2.Oid]]:
                changes = git_trees.combine(undone.tree, head.tree, undone.parents[0].tree, what)
                return git_trees.edit_tree(git, head.tree, changes, written), [head.id]

            subject = read_commit(undone).message.partition("\n")[0]
            text = CommitText(f'Revert "{subject}"', {"plumbline.reverts": str(undone.id)})
            with self._alone(git, branch):
                return self._extend(git, branch, text, build)

    def tag(self, repository: str, name: str, ref: str) -> None:
        """Name a commit for good; raises `ConflictError` when the name is taken."""
        full = git_refs.tag_name(name)
        with self._open(repository) as git:
            git_refs.create_reference(git, full, git_refs.find_commit(git, ref).id)

    def tags(self, repository: str) -> Mapping[str, str]:
        """Give the commit id of every tag, by name."""
        with self._open(repository) as git:
            return git_refs.list_tags(git)

    def log(self, repository: str, ref: str, limit: int) -> Sequence[Commit]:
        """List commits from a ref back, newest first, every commit before the ones it stands on."""
        with self._open(repository) as git:
            start = git_refs.find_commit(git, ref).id
            walk = git.walk(start, SortMode.TOPOLOGICAL | SortMode.TIME)
            return [read_commit(commit) for commit in islice(walk, max(limit, 0))]

    def list(self, repository: str, ref: str, prefix: str = "") -> Sequence[ObjectStat]:
        """List objects at a ref whose path starts with `prefix`, sorted by path; not those that are only staged."""
        with self._open(repository) as git:
            blobs = git_trees.list_blobs(git_refs.find_commit(git, ref).tree, prefix)
            found = [git_trees.read_object(path, blob) for path, blob in blobs]
        return sorted(found, key=lambda item: item.path)

    def stat(self, repository: str, ref: str, path: str) -> ObjectStat:
        """Give one object's digest and size; raises `NotFoundError`."""
        with self._open(repository) as git:
            file = self._find(git, (repository, ref, path))
        return ObjectStat(path, file.digest, file.size)

    def diff(self, repository: str, left: str, right: str) -> Sequence[Change]:
        """List the paths that differ from `left` to `right`, sorted."""
        with self._open(repository) as git:
            sides = git_trees.compare(git_refs.find_commit(git, left).tree, git_refs.find_commit(git, right).tree)
        return [
            Change(path, _KINDS[before is not None, after is not None])
            for path, (before, after) in sorted(sides.items())
        ]

    def merge_base(self, repository: str, left: str, right: str) -> str:
        """Give the newest commit that both stand on; `diff` from there to `right` is what `right` did since."""
        with self._open(repository) as git:
            ours, theirs = git_refs.find_commit(git, left), git_refs.find_commit(git, right)
            base = git.merge_base(ours.id, theirs.id)
        if base is None:
            raise NotFoundError(f"{repository}: {left} and {right} share no commit")
        return str(base)

    def fetch(self, repository: str, ref: str, path: str) -> Path:
        """Give a local, verified file with an object's bytes; raises `NotFoundError` or `IntegrityError`."""
        with self._open(repository) as git:
            return self._files(git).open(self._find(git, (repository, ref, path)))

    def scan(self, repository: str, ref: str, prefix: str = "") -> Scan:
        """Give the objects' own files, each of its recorded size; raises `IntegrityError` for one that is not."""
        items = self.list(repository, ref, prefix)
        with self._open(repository) as git:
            files = self._files(git)
            return Scan(tuple(items), tuple(str(files.locate(LargeFile(item.digest, item.size))) for item in items))

    def locate(self, repository: str, ref: str, paths: Sequence[str]) -> Scan:
        """Give the verified files of these objects; raises `NotFoundError` or `IntegrityError`."""
        with self._open(repository) as git:
            files = self._files(git)
            return Scan((), tuple(str(files.open(self._find(git, (repository, ref, path)))) for path in paths))

    def _find(self, git: pygit2.Repository, place: tuple[str, str, str]) -> LargeFile:
        repository, ref, path = place
        file = git_trees.find_object(git_refs.find_commit(git, ref).tree, check_path(path))
        if file is None:
            raise missing_object(repository, ref, path)
        return file

    def _extend(
        self, git: pygit2.Repository, branch: str, text: CommitText, build: Build, staging: StagingArea | None = None
    ) -> Commit:
        """Add a commit to a branch, again from its new head whenever another program moved it meanwhile."""
        for _ in range(_ATTEMPTS):
            head = git_refs.head_of(git, branch)
            written: list[pygit2.Oid] = []
            tree, parents = build(head, written)
            if not parents:
                return read_commit(head)
            made = write_commit(git, tree, parents, text, self._clock.now())
            self._settle(git, [*written, made])
            if staging is not None:
                staging.begin(str(made))
            if git_refs.advance(git, branch, head.id, made):
                if staging is not None:
                    staging.end(str(made))
                return read_commit(git[made].peel(pygit2.Commit))
            if staging is not None:
                staging.undo(str(made))
        raise ConflictError(
            f"branch `{branch}` moved {_ATTEMPTS} times while a commit was on its way",
            hint="try again when fewer write to it",
        )

    @contextmanager
    def _alone(self, git: pygit2.Repository, branch: str) -> Iterator[StagingArea]:
        """Hold a branch, after finishing what a killed commit left on it; raises `NotFoundError` when it is gone."""
        staging = self._staging(git, branch)
        with staging.hold():
            head = git_refs.head_of(git, branch)
            staging.recover(lambda commit: _holds(git, head, commit))
            yield staging

    @contextmanager
    def _open(self, repository: str) -> Iterator[pygit2.Repository]:
        """Open a repository for one operation (0.04 ms) and word what the git library raises."""
        path = self._path(repository)
        if not (path / "HEAD").exists():
            known = self.repositories()
            hint = f"there is {', '.join(known)}" if known else "there is none yet: an ingest creates it"
            raise NotFoundError(f"no repository `{repository}` in {self.root}", hint=hint)
        isolate()
        with worded(path):
            git = pygit2.Repository(str(path))
            try:
                yield git
            finally:
                git.free()

    def _create(self, path: Path) -> None:
        """Build a repository under another name and move it into place whole; the first of several wins."""
        isolate()
        for leftover in self.root.glob(".creating-*"):
            if is_abandoned(leftover.with_name(leftover.name.removeprefix(".creating-"))):
                remove_tree(leftover)
        temporary = self.root / f".creating-{owned_name()}"
        try:
            git = pygit2.init_repository(str(temporary), bare=True, initial_head=MAIN)
            builder = git.TreeBuilder()
            builder.insert(".gitattributes", git.create_blob(_ATTRIBUTES), pygit2.enums.FileMode.BLOB)
            first = write_commit(git, builder.write(), [], CommitText("Create the repository"), self._clock.now())
            git_refs.create_reference(git, git_refs.branch_name(MAIN), first)
            for folder in ("lfs/objects", "lfs/tmp", "staging"):
                (temporary / folder).mkdir(parents=True)
            settle(self.root, [found for found in temporary.rglob("*") if found.is_file()])
            temporary.rename(path)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR} or not (path / "HEAD").exists():
                raise
        finally:
            remove_tree(temporary)

    def _settle(self, git: pygit2.Repository, objects: Sequence[pygit2.Oid]) -> None:
        """Make git's objects durable; those in packs are."""
        root = Path(git.path) / "objects"
        loose = (root / str(found)[:2] / str(found)[2:] for found in objects)
        settle(root, [path for path in loose if path.exists()])

    def _path(self, repository: str) -> Path:
        if (
            not repository
            or not _NAME_CHARACTERS.issuperset(repository)
            or repository[0] in ".-"
            or len(repository) > 100
        ):
            raise UsageError(
                f"{repository!r} cannot name a repository",
                hint="use letters, digits, `-`, `_` and `.`, as in `flights`",
            )
        return self.root / f"{repository}.git"

    def _files(self, git: pygit2.Repository) -> LargeFiles:
        return LargeFiles(Path(git.path) / "lfs")

    def _staging(self, git: pygit2.Repository, branch: str) -> StagingArea:
        git_refs.branch_name(branch)
        return staging_area(Path(git.path) / "staging", branch)


def _nothing(repository: str, branch: str) -> StoreError:
    return StoreError(f"nothing is staged on {repository}@{branch}", hint="put or remove something first")


def _holds(git: pygit2.Repository, head: pygit2.Commit, commit: str) -> bool:
    """Say whether a commit is on the way back from `head`."""
    return commit in git and (str(head.id) == commit or git.descendant_of(head.id, commit))
