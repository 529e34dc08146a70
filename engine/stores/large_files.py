"""Object bytes beside a git repository, where Git LFS keeps them, and the pointers that git keeps instead.

    lfs/objects/aa/bb/<oid>     an object, named by the SHA-256 of its bytes
    lfs/tmp/                    copies in progress; lfs/corrupt/: objects that failed verification

Enters: local files. Leaves: object ids, and verified files. Called by `git_snapshots`. Needs no git library.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from engine.errors import IntegrityError, StoreError
from engine.keys import digest_file
from engine.stores.disk import (
    explained,
    has_digest,
    hold_lock,
    is_abandoned,
    move,
    open_new,
    owned_name,
    remove_tree,
    settle,
)

_BLOCK = 1 << 20
_HASHERS = 4
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\noid sha256:([0-9a-f]{64})\nsize (0|[1-9][0-9]*)\n"
)


@dataclass(frozen=True, slots=True)
class LargeFile:
    """An object: the SHA-256 of its bytes, and how many there are."""

    digest: str
    size: int


def render_pointer(file: LargeFile) -> bytes:
    r"""Give the blob that git keeps for an object (Git LFS pointer, version 1).

    >>> render_pointer(LargeFile("0" * 64, 12)).splitlines()[-1]
    b'size 12'
    """
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{file.digest}\nsize {file.size}\n".encode()


def parse_pointer(blob: bytes) -> LargeFile | None:
    """Read a pointer; `None` for any other blob.

    >>> parse_pointer(render_pointer(LargeFile("ab" * 32, 7))) == LargeFile("ab" * 32, 7)
    True
    """
    match = _POINTER.fullmatch(blob)
    return LargeFile(match[1].decode(), int(match[2])) if match else None


@dataclass(frozen=True, slots=True)
class LargeFiles:
    """The objects of one repository, under its `lfs` folder. Safe for several processes at once."""

    root: Path

    def put(self, content: Path) -> LargeFile:
        """Take a file in, unless its bytes are there; durable only after `settle`. Raises `StoreError`.

        A read-only file is linked where that is possible, any other is copied. An object that is there becomes young
        again, so that a garbage collection spares it until it is committed.
        """
        with explained("store an object from", content):
            status = content.stat()
            small = content.read_bytes() if status.st_size <= _BLOCK else None
            known = LargeFile(digest_file(content), status.st_size) if small is None else _describe(small)
            with hold_lock(self.root / "lock", shared=True):
                if self._is_there(known):
                    os.utime(self.path_of(known.digest))
                    return known
                if not status.st_mode & 0o222 and self._link(content, known):
                    return known
            if small is not None:
                return self._keep([small])
            with content.open("rb") as file:
                return self._keep(iter(lambda: file.read(_BLOCK), b""))

    def put_many(self, contents: Collection[Path]) -> Iterator[LargeFile]:
        """Take files in, in order; large ones are hashed side by side, small ones cost more to hand over than to hash."""
        with explained("store objects in", self.root):
            large = any(content.stat().st_size > _BLOCK for content in contents)
        if not large:
            yield from map(self.put, contents)
            return
        with ThreadPoolExecutor(min(len(contents), os.cpu_count() or 1, _HASHERS), "hash") as pool:
            yield from pool.map(self.put, contents)

    def settle(self, files: Iterable[LargeFile]) -> None:
        """Make objects durable, before anything names them; raises `StoreError` when one is missing or cut short."""
        wanted = set(files)
        for file in wanted:
            if not self._is_there(file):
                raise StoreError(
                    f"object {file.digest[:12]}, staged before, is missing or cut short in {self.root}",
                    hint="put the file again, then commit",
                )
        with explained("make objects durable in", self.root):
            settle(self.root, [self.path_of(file.digest) for file in wanted])

    def open(self, file: LargeFile) -> Path:
        """Give the verified file; raises `IntegrityError` when it is missing, or damaged (the copy is set aside)."""
        path = self.path_of(file.digest)
        with explained("read the object", path):
            try:
                if has_digest(path, file.digest, file.size):
                    return path
            except FileNotFoundError:
                raise IntegrityError(
                    f"object {file.digest[:12]} is missing from {self.root}",
                    hint="restore it from a copy of the repository, or ingest its source again",
                ) from None
            aside = self.root / "corrupt" / f"{file.digest}-{secrets.token_hex(4)}"
            aside.parent.mkdir(exist_ok=True)
            path.rename(aside)
        raise IntegrityError(
            f"object {file.digest[:12]}: its bytes differ from their digest; the copy was moved to {aside}",
            hint="ingest its source again, or restore the object from a copy of the repository",
        )

    def locate(self, file: LargeFile) -> Path:
        """Give the file, looked at but not read; raises `IntegrityError` when it is missing or cut short."""
        if not self._is_there(file):
            raise IntegrityError(
                f"object {file.digest[:12]} is missing or cut short in {self.root}",
                hint="restore it from a copy of the repository, or ingest its source again",
            )
        return self.path_of(file.digest)

    def sweep(self) -> None:
        """Delete the unfinished copies of dead processes."""
        for path in (self.root / "tmp").glob("*-*"):
            if is_abandoned(path):
                remove_tree(path)

    def _keep(self, blocks: Iterable[bytes]) -> LargeFile:
        """Write and hash in one pass: what counts is what was written, whatever happens to the file meanwhile."""
        temporary = self.root / "tmp" / owned_name()
        state, size = hashlib.sha256(), 0
        try:
            with open_new(temporary) as target:
                for block in blocks:
                    state.update(block)
                    size += target.write(block)
                os.fchmod(target.fileno(), 0o444)
            move(temporary, self.path_of(state.hexdigest()))
        except BaseException:
            remove_tree(temporary)
            raise
        return LargeFile(state.hexdigest(), size)

    def _link(self, content: Path, file: LargeFile) -> bool:
        """Give a file a second name as an object; `False` where the file system cannot."""
        path = self.path_of(file.digest)
        temporary = self.root / "tmp" / owned_name()
        temporary.parent.mkdir(parents=True, exist_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.hardlink_to(content)
        except OSError:  # another file system, or one without links
            return False
        os.utime(temporary)
        temporary.replace(path)
        return True

    def _is_there(self, file: LargeFile) -> bool:
        try:
            return self.path_of(file.digest).stat().st_size == file.size
        except FileNotFoundError:
            return False

    def path_of(self, digest: str) -> Path:
        """Say where an object lies, or would."""
        return Path(f"{self.root}/objects/{digest[:2]}/{digest[2:4]}/{digest}")


def _describe(content: bytes) -> LargeFile:
    return LargeFile(hashlib.sha256(content).hexdigest(), len(content))
