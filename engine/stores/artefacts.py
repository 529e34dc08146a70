"""Artefacts: what nodes leave, by content. A folder's name is the digest of what is in it, so the same bytes lie once.

    objects/ab/<digest>/        the files, read-only
    objects/ab/<digest>.json    the manifest: {relative path: {sha256, size}}; its canonical JSON hashes to <digest>
    actions/cd/<key>.json       which output an action gave
    staging/                    work in progress; corrupt/: copies that failed verification, for a person to look at

Enters: staged folders from the executor. Leaves: verified folders for nodes. The manifest is written before the folder
is renamed into place, and made again from it when a power cut took it; without a folder it is an artefact that never came to be.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from engine.contracts import Miss
from engine.errors import EngineError, IntegrityError, NotFoundError, StoreError
from engine.keys import canonical_json, digest
from engine.records import NodeOutput
from engine.stores.disk import (
    discard,
    entries,
    explained,
    fsync_folder,
    hold_lock,
    is_abandoned,
    mtime,
    owned_name,
    remove_tree,
    write_whole,
)
from engine.stores.sealing import Manifest, find_damage, read_manifest, seal, write_manifest

_DIGEST = re.compile(r"[0-9a-f]{64}")
_TOUCH_SECONDS = 3600.0  # how stale the time of last use may be; it only has to keep `collect_garbage` away
_PLACE_ATTEMPTS = 4
_NO_MANIFEST = "its files are not those that were sealed"


class ActionFile(msgspec.Struct, frozen=True):
    """What an action file holds; `check` is the digest of the rest, so a damaged file is recognised."""

    key: str
    output: NodeOutput
    check: str


class IdleArtefact(msgspec.Struct, frozen=True):
    """An artefact, its size in bytes, and for how many seconds nobody used it."""

    digest: str
    bytes: int
    idle_seconds: float


_action_decoder = msgspec.json.Decoder(ActionFile)


class LocalArtefactStore:
    """An `ArtefactStore` in a folder; any number of processes and threads may use it at once."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def stage(self) -> Path:
        """Give a fresh empty folder to write into; scratch space may lie beside it as `<its name>.<anything>`."""
        path = self.root / "staging" / owned_name()
        with explained("make a staging folder", path):
            path.mkdir(parents=True)
        return path

    def commit(self, staged: Path) -> str:
        """Fsync, digest and move a staged folder into place; gives the content digest.

        The staged folder is gone afterwards, also when this fails. Empty folders are not content and are dropped.
        Raises `StoreError` (full or read-only disk, a symbolic link).
        """
        if staged.parent != self.root / "staging":
            raise StoreError(f"{staged} was not staged in {self.root}", hint="commit the folder that `stage` gave")
        try:
            with explained("commit the artefact", staged):
                manifest = seal(staged)
                content = digest(msgspec.to_builtins(manifest))
                self._place(staged, content, manifest)
        finally:
            discard(staged)
        return content

    def discard(self, staged: Path) -> None:
        """Give a staged folder up, with the scratch space beside it; nothing happens when they are gone."""
        discard(staged)

    def open(self, digest: str) -> Path:
        """Give a folder whose every file was verified by its digest.

        Raises `NotFoundError`, or `IntegrityError` after moving the damaged copy to `corrupt/`.
        """
        folder = self._folder(_checked(digest))
        with explained("read the artefact", folder):
            inode = self._inode(digest)
            manifest = self._contents(digest)
            damage = _NO_MANIFEST if manifest is None else find_damage(folder, manifest)
        if damage is not None:
            raise self._damaged(digest, inode, damage)
        self._touch(digest)
        return folder

    def read(self, digest: str, name: str) -> bytes:
        """Give the verified bytes of one file; the artefact's others are not looked at.

        Raises `NotFoundError` (no such artefact, no such file in it), or `IntegrityError` as `open` does.
        """
        path = self._folder(_checked(digest)) / name
        with explained("read the artefact", path):
            inode = self._inode(digest)
            manifest = self._contents(digest)
            if manifest is None:
                raise self._damaged(digest, inode, _NO_MANIFEST)
            if name not in manifest:
                raise NotFoundError(
                    f"artefact {digest[:12]} has no {name!r}", hint=f"it has {', '.join(sorted(manifest)) or 'no file'}"
                )
            content = path.read_bytes() if path.exists() else b""
        if hashlib.sha256(content).hexdigest() != manifest[name].sha256:
            raise self._damaged(digest, inode, f"{name}: its bytes differ from their recorded digest")
        self._touch(digest)
        return content

    def _inode(self, content: str) -> int:
        """Say which copy lies there, so that no other is set aside in its place."""
        try:
            return self._folder(content).stat().st_ino
        except FileNotFoundError:
            raise NotFoundError(
                f"artefact {content[:12]} is not in {self.root}", hint="run the pipeline again"
            ) from None

    def _damaged(self, content: str, inode: int, damage: str) -> IntegrityError:
        """Set a damaged copy aside and word it."""
        aside = self._set_aside(content, inode)
        return IntegrityError(
            f"artefact {content[:12]}: {damage}{f'; the copy was moved to {aside}' if aside else ''}",
            hint="run the pipeline again: what is damaged is computed anew",
            copy=aside,
        )

    def exists(self, digest: str) -> bool:
        """Say whether every file of the artefact is there at its recorded size.

        Nothing is hashed, unless a file was written to after its manifest: then all are, and a damaged copy is set aside.
        """
        if not _DIGEST.fullmatch(digest):
            return False
        manifest = self._contents(digest)
        if manifest is None:
            return False
        folder = str(self._folder(digest))
        try:
            if not manifest:
                return Path(folder).is_dir()
            found = {name: os.stat(f"{folder}/{name}") for name in manifest}  # noqa: PTH116 - faster than pathlib
            if any(found[name].st_size != entry.size for name, entry in manifest.items()):
                return False
            written = max(item.st_mtime_ns for item in found.values())
            return written <= self._manifest(digest).stat().st_mtime_ns or self._is_sound(digest, manifest)
        except OSError:
            return False

    def _is_sound(self, content: str, manifest: Manifest) -> bool:
        """Hash an artefact that may have been written to; note that it is sound, or set it aside."""
        folder = self._folder(content)
        inode = folder.stat().st_ino
        if find_damage(folder, manifest) is None:
            with suppress(OSError):
                os.utime(self._manifest(content))
            return True
        self._set_aside(content, inode)
        return False

    def record_action(self, key: str, output: NodeOutput) -> None:
        """Remember atomically that this action gave this output, until a power cut at worst; raises `StoreError`."""
        path = self._action(_checked(key))
        try:
            content = msgspec.to_builtins(output)
            document = canonical_json({"key": key, "output": content, "check": digest({"key": key, "output": content})})
        except (TypeError, ValueError) as error:
            raise StoreError(f"the notes of action {key[:12]} are not plain JSON: {error}") from error
        with explained("record the action", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, document, sync=False)

    def find_action(self, key: str) -> NodeOutput | None:
        """Look an action up; `None` when unknown or damaged, or when its artefact is gone or damaged in size."""
        output = self._read_action(key)
        if output is None or not self.exists(output.digest):
            return None
        self._touch(output.digest)
        return output

    def explain_miss(self, key: str) -> Miss | None:
        """Say what became of an action's result: set aside as damaged, or gone; `None` when it was never done."""
        output = self._read_action(key)
        if output is None:
            return None
        copies = [path for path in (self.root / "corrupt").glob(f"{output.digest}-*") if path.is_dir()]
        if copies or self._folder(output.digest).exists():
            where = f"; the copy was moved to {copies[-1]}" if copies else ""
            return Miss(f"its stored result was damaged{where}", damaged=True)
        return Miss("its stored result is gone", damaged=False)

    def _read_action(self, key: str) -> NodeOutput | None:
        try:
            found = _action_decoder.decode(self._action(_checked(key)).read_bytes())
        except (OSError, msgspec.DecodeError, EngineError):
            return None
        expected = digest({"key": key, "output": msgspec.to_builtins(found.output)})
        return found.output if found.key == key and found.check == expected else None

    def sweep_staging(self) -> int:
        """Delete what dead processes left in `staging/`; gives how many entries."""
        abandoned = [path for path in entries(self.root / "staging") if is_abandoned(path)]
        for path in abandoned:
            remove_tree(path)
        return len(abandoned)

    def outputs(self) -> Iterator[NodeOutput]:
        """Give what every remembered action left; damaged files are passed over."""
        for path in (path for bucket in entries(self.root / "actions") for path in entries(bucket)):
            output = self._read_action(path.stem)
            if output is not None:
                yield output

    def find_garbage(self, keep: Collection[str], older_than: float) -> list[IdleArtefact]:
        """List artefacts not in `keep` that nobody used for `older_than` seconds, by digest."""
        names = {
            path.name.removesuffix(".json") for bucket in entries(self.root / "objects") for path in entries(bucket)
        }
        now = time.time()
        wanted = (name for name in sorted(names - set(keep)) if _DIGEST.fullmatch(name))
        idle = ((name, now - self._last_used(name)) for name in wanted)
        return [IdleArtefact(name, self._size(name), seconds) for name, seconds in idle if seconds > older_than]

    def _last_used(self, content: str) -> float:
        manifest = self._manifest(content)
        return mtime(manifest if manifest.exists() else self._folder(content))

    def _size(self, content: str) -> int:
        return sum(entry.size for entry in (self._contents(content) or {}).values())

    def collect_garbage(self, keep: Collection[str], older_than: float) -> int:
        """Delete artefacts not in `keep` that nobody used for `older_than` seconds, and their actions; gives how many.

        Being opened, found by an action, or committed again counts as use. Raises `StoreError`.
        """
        limit = time.time() - older_than
        with explained("collect garbage in", self.root):
            deleted = sum(self._delete(item.digest, limit) for item in self.find_garbage(keep, older_than))
            for path in entries(self.root / "corrupt"):
                if mtime(path) < limit:
                    remove_tree(path)
            for path in (path for bucket in entries(self.root / "actions") for path in entries(bucket)):
                if mtime(path) < limit and self.find_action(path.stem) is None:
                    remove_tree(path)
        return deleted

    def _place(self, staged: Path, content: str, manifest: Manifest) -> None:
        folder, record = self._folder(content), self._manifest(content)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with hold_lock(self.root / "lock", shared=True):  # only `collect_garbage` and damage ask for it alone
            for _ in range(_PLACE_ATTEMPTS):
                if self.exists(content):
                    os.utime(record)
                    return fsync_folder(folder.parent)
                write_manifest(record, manifest)
                try:
                    staged.rename(folder)
                except OSError as error:
                    if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
                        raise
                    if not self.exists(content):  # what lies there is damaged
                        self._move_aside(content)
                else:
                    return fsync_folder(folder.parent)
        raise StoreError(
            f"artefact {content[:12]} could not be placed in {folder}", hint="look for who deletes files there"
        )

    def _set_aside(self, content: str, inode: int) -> Path | None:
        """Move a damaged copy to `corrupt/` unless it was replaced meanwhile; `None` when it could not be moved."""
        with suppress(OSError), hold_lock(self.root / "lock"):
            if self._folder(content).stat().st_ino == inode:
                return self._move_aside(content)
        return None

    def _move_aside(self, content: str) -> Path:
        aside = self.root / "corrupt" / f"{content}-{secrets.token_hex(4)}"
        aside.parent.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):
            self._folder(content).rename(aside)
        with suppress(FileNotFoundError):
            self._manifest(content).rename(aside.with_suffix(".json"))
        return aside

    def _delete(self, content: str, limit: float) -> bool:
        """Delete one artefact, the folder's name first, so that nobody finds half of it."""
        folder, manifest = self._folder(content), self._manifest(content)
        trash = self.root / "staging" / owned_name()
        trash.parent.mkdir(exist_ok=True)
        with hold_lock(self.root / "lock"):
            if self._last_used(content) >= limit:
                return False
            with suppress(FileNotFoundError):
                folder.rename(trash)
            manifest.unlink(missing_ok=True)
        remove_tree(trash)
        return True

    def _contents(self, content: str) -> Manifest | None:
        return read_manifest(self._manifest(content), self._folder(content), content)

    def _touch(self, content: str) -> None:
        """Note the use; a store that cannot be written to is not garbage-collected either."""
        with suppress(OSError):
            if time.time() - mtime(self._manifest(content)) > _TOUCH_SECONDS:
                os.utime(self._manifest(content))

    def _folder(self, content: str) -> Path:
        return self.root / "objects" / content[:2] / content

    def _manifest(self, content: str) -> Path:
        return self.root / "objects" / content[:2] / f"{content}.json"

    def _action(self, key: str) -> Path:
        return self.root / "actions" / key[:2] / f"{key}.json"


def _checked(name: str) -> str:
    """Refuse what is not a digest, before it becomes part of a path."""
    if not _DIGEST.fullmatch(name):
        raise NotFoundError(f"{name!r} is not a digest: 64 hexadecimal digits")
    return name
