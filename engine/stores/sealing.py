"""Manifests: what a folder holds, by digest; written when it is sealed, asked when it is read.

Enters: a folder. Leaves: its manifest, or words for what differs from it. Called by the artefact store.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import msgspec

from engine.errors import StoreError
from engine.stores.disk import fsync_folder, has_digest

_BLOCK = 1 << 20


class FileEntry(msgspec.Struct, frozen=True):
    """One file of an artefact."""

    sha256: str
    size: int


Manifest = dict[str, FileEntry]
_decoder = msgspec.json.Decoder(Manifest)


def read_manifest(path: Path, content: str) -> Manifest | None:
    """Read the manifest that hashes to `content`; `None` when it is missing or damaged."""
    try:
        data = path.read_bytes()
        found = _decoder.decode(data)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    return found if hashlib.sha256(data).hexdigest() == content else None


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
