"""Trees of pointers: editing, listing, comparing and merging them by path, without touching what did not change.

Enters: git trees, and changes as `{path: blob or None}`. Leaves: git trees. Called by `git_snapshots`. Contents are
never merged: an object is bytes, so two different versions of one path are a conflict.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pygit2
from pygit2.enums import FileMode

from engine.contracts import ObjectStat
from engine.errors import ConflictError, IntegrityError
from engine.stores.large_files import LargeFile, parse_pointer
from engine.stores.snapshot_names import conflict_error

Changes = Mapping[str, pygit2.Oid | None]


def edit_tree(
    repository: pygit2.Repository, base: pygit2.Tree | None, changes: Changes, written: list[pygit2.Oid]
) -> pygit2.Oid:
    """Write the tree that the changes make of `base`; new trees are added to `written`. Raises `ConflictError`."""
    tree = _edit(repository, base, changes, ("", written))
    if tree is None:
        tree = repository.TreeBuilder().write()
        written.append(tree)
    return tree


def _edit(
    repository: pygit2.Repository, base: pygit2.Tree | None, changes: Changes, place: tuple[str, list[pygit2.Oid]]
) -> pygit2.Oid | None:
    """Edit one folder; `None` when nothing is left. Folders below come first: they may make room for an object."""
    parent, written = place
    builder = repository.TreeBuilder(base) if base is not None else repository.TreeBuilder()
    here, below = _split(changes)
    for name, nested in below.items():
        found = builder.get(name)
        if found is not None and found.filemode != FileMode.TREE:
            if all(blob is None for blob in nested.values()):
                continue
            if here.get(name, found.id) is not None:
                raise _collision(parent + name, nested)
        folder = found if isinstance(found, pygit2.Tree) else None
        tree = _edit(repository, folder, nested, (f"{parent}{name}/", written))
        if tree is not None:
            builder.insert(name, tree, FileMode.TREE)
        elif found is not None:
            builder.remove(name)
    for name, blob in here.items():
        found = builder.get(name)
        if blob is not None:
            if found is not None and found.filemode == FileMode.TREE:
                raise _collision(parent + name, below.get(name, {}))
            builder.insert(name, blob, FileMode.BLOB)
        elif found is not None and found.filemode != FileMode.TREE:
            builder.remove(name)
    if not len(builder):
        return None
    written.append(builder.write())
    return written[-1]


def _split(changes: Changes) -> tuple[dict[str, pygit2.Oid | None], dict[str, dict[str, pygit2.Oid | None]]]:
    here: dict[str, pygit2.Oid | None] = {}
    below: dict[str, dict[str, pygit2.Oid | None]] = {}
    for path, blob in changes.items():
        name, slash, rest = path.partition("/")
        if slash:
            below.setdefault(name, {})[rest] = blob
        else:
            here[name] = blob
    return here, below


def _collision(path: str, nested: Changes) -> ConflictError:
    example = next((f" (`{path}/{rest}`)" for rest, blob in nested.items() if blob is not None), "")
    return ConflictError(
        f"`{path}` cannot be both an object and a folder of objects{example}", hint="remove one of them first"
    )


def list_blobs(tree: pygit2.Tree, prefix: str, parent: str = "") -> Iterator[tuple[str, pygit2.Object]]:
    """Give the path and blob of every object whose path starts with `prefix`, in git's order."""
    for entry in tree:
        name = entry.name or ""
        path = parent + name
        if name.startswith(".git"):
            continue
        if isinstance(entry, pygit2.Tree):
            if f"{path}/".startswith(prefix) or prefix.startswith(f"{path}/"):
                yield from list_blobs(entry, prefix, f"{path}/")
        elif path.startswith(prefix):
            yield path, entry


def read_object(path: str, blob: pygit2.Object) -> ObjectStat:
    """Read a pointer; raises `IntegrityError` for a blob that is none."""
    file = parse_pointer(blob.data) if isinstance(blob, pygit2.Blob) else None
    if file is None:
        raise IntegrityError(
            f"{path}: not a Git LFS pointer", hint="commit it through Git LFS, or remove it by a commit"
        )
    return ObjectStat(path, file.digest, file.size)


def find_object(tree: pygit2.Tree, path: str) -> LargeFile | None:
    """Find one object; `None` when there is none at this path."""
    try:
        found = tree[path]
    except KeyError:
        return None
    if not isinstance(found, pygit2.Blob):
        return None
    item = read_object(path, found)
    return LargeFile(item.digest, item.size)


def compare(left: pygit2.Tree | None, right: pygit2.Tree) -> dict[str, tuple[pygit2.Oid | None, pygit2.Oid | None]]:
    """Give the paths that differ, each with its blob on the left and on the right (`None`: absent)."""
    difference = right.diff_to_tree(swap=True) if left is None else left.diff_to_tree(right)
    sides: dict[str, tuple[pygit2.Oid | None, pygit2.Oid | None]] = {}
    for delta in difference.deltas:
        old, new = _blob(delta.old_file), _blob(delta.new_file)
        path = delta.new_file.path if new is not None else delta.old_file.path
        before, after = sides.get(path, (None, None))  # a changed kind of entry comes as two deltas
        sides[path] = (old or before, new or after)
    return {path: pair for path, pair in sides.items() if pair[0] != pair[1] and not _is_hidden(path)}


def _blob(file: pygit2.DiffFile) -> pygit2.Oid | None:
    return file.id if str(file.id).strip("0") else None


def _is_hidden(path: str) -> bool:
    return any(name.startswith(".git") for name in path.split("/"))


def combine(base: pygit2.Tree | None, ours: pygit2.Tree, theirs: pygit2.Tree, what: str) -> Changes:
    """Give the changes that bring `theirs` into `ours`, path by path; raises `ConflictError` naming the paths."""
    their_changes = {path: after for path, (_, after) in compare(base, theirs).items()}
    our_changes = {path: after for path, (_, after) in compare(base, ours).items()}
    both = their_changes.keys() & our_changes.keys()
    conflicts = sorted(path for path in both if their_changes[path] != our_changes[path])
    if conflicts:
        raise conflict_error(what, conflicts)
    return their_changes
