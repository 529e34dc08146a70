"""Manifests: what a folder holds, by digest; written when it is sealed, asked when it is read.

Enters: a folder. Leaves: its manifest, or words for what differs from it. Called by the artefact store.
"""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import suppress
from pathlib import Path

import msgspec

from engine.errors import StoreError
from engine.keys import canonical_json, digest, digest_file
from engine.stores.disk import fsync_folder, has_digest, write_whole

_BLOCK = 1 << 20


class FileEntry(msgspec.Struct, frozen=True):
    """One file of an artefact."""

    sha256: str
    size: int


Manifest = dict[str, FileEntry]
_decoder = msgspec.json.Decoder(Manifest)


def read_manifest(path: Path, folder: Path, content: str) -> Manifest | None:
    """Give the manifest that hashes to `content`; made again from the folder when its file is missing or damaged.

    `None` when the folder holds something else, or is not there. Raises `OSError`.
    """
    try:
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() == content:
            return _decoder.decode(data)
    except (FileNotFoundError, msgspec.DecodeError):
        pass
    return _restore(path, folder, content) if folder.is_dir() else None


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write a manifest whole; it is not flushed, since it can be made again. Raises `OSError`."""
    write_whole(path, canonical_json(msgspec.to_builtins(manifest)), sync=False)


def _restore(path: Path, folder: Path, content: str) -> Manifest | None:
    """Hash all files: the folder's name says whether they are what was sealed."""
    files = [item for item in folder.rglob("*") if not item.is_dir()]
    if any(item.is_symlink() for item in files):
        return None
    found = {_relative_name(item, folder): FileEntry(digest_file(item), item.stat().st_size) for item in files}
    if digest(msgspec.to_builtins(found)) != content:
        return None
    with suppress(OSError):  # a store that cannot be written to can be read
        write_manifest(path, found)
    return found


def seal(staged: Path) -> Manifest:
    """Hash, fsync and write-protect every file, drop empty folders, fsync the others."""
    manifest: Manifest = {}
    for parent, folders, files in os.walk(staged, topdown=False, onerror=_raise):
        for name in folders:
            if Path(parent, name).is_symlink():
                raise StoreError(f"{Path(parent, name)}: an artefact holds files, not symbolic links")
        for name in files:
            path = Path(parent, name)
            manifest[_relative_name(path, staged)] = _seal_file(path)
        if not os.listdir(parent) and Path(parent) != staged:  # noqa: PTH208 - a walk from below sees stale lists
            Path(parent).rmdir()
        else:
            fsync_folder(Path(parent))
    return manifest


def _seal_file(path: Path) -> FileEntry:
    if not stat.S_ISREG(path.lstat().st_mode):
        raise StoreError(f"{path}: an artefact holds plain files, not links or devices")
    state, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            state.update(block)
            size += len(block)
        os.fchmod(file.fileno(), 0o444)
        os.fsync(file.fileno())
    return FileEntry(state.hexdigest(), size)


def _relative_name(path: Path, root: Path) -> str:
    name = path.relative_to(root).as_posix()
    try:
        name.encode()
    except UnicodeEncodeError:
        raise StoreError(f"{name!r}: a file name in an artefact is UTF-8") from None
    return name


def find_damage(folder: Path, manifest: Manifest) -> str | None:
    """Say in which way a folder differs from its manifest; `None` when it does not."""
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    if present != manifest.keys():
        lost, extra = sorted(manifest.keys() - present), sorted(present - manifest.keys())
        return f"files are missing: {', '.join(lost[:3])}" if lost else f"files were added: {', '.join(extra[:3])}"
    for name, entry in manifest.items():
        if not has_digest(folder / name, entry.sha256, entry.size):
            return f"{name}: its bytes differ from their recorded digest"
    return None


def _raise(error: OSError) -> None:
    raise error
