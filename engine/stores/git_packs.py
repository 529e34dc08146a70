"""Many small blobs as one pack, instead of a file each: a commit of 10,000 pointers is then two files more, not 10,000.

Enters: a repository and the blobs' bytes. Leaves: their ids; the pack and its index are durable and read by every git program.
Called by `git_snapshots`. The formats are those of git: gitformat-pack, version 2 of both, without deltas.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from struct import pack as packed

import pygit2

from engine.stores.disk import fsync_folder, owned_name, remove_tree

_ONE_BY_ONE = 64  # up to here loose objects are as fast, and later commits make no heap of small packs
_BLOB = 3


def write_blobs(repository: pygit2.Repository, contents: Sequence[bytes]) -> list[pygit2.Oid]:
    """Write blobs and give their ids in order; those of a pack are durable, loose ones are not yet. Raises `OSError`."""
    if len(contents) <= _ONE_BY_ONE:
        return [repository.create_blob(content) for content in contents]
    ids = [_id_of(content) for content in contents]
    _write_pack(Path(repository.path) / "objects" / "pack", dict(zip(ids, contents, strict=True)))
    return [pygit2.Oid(raw=found) for found in ids]


def is_loose(count: int) -> bool:
    """Say whether so many blobs are written one by one."""
    return count <= _ONE_BY_ONE


def _id_of(content: bytes) -> bytes:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).digest()


def _write_pack(folder: Path, blobs: dict[bytes, bytes]) -> None:
    """Write a pack and then its index, each under another name first; a pack without an index is not seen by anybody."""
    body, entries, offset = [b"PACK" + packed(">II", 2, len(blobs))], {}, 12
    for name, content in blobs.items():
        entry = _header(len(content)) + zlib.compress(content, 1)
        entries[name] = (zlib.crc32(entry), offset)
        body.append(entry)
        offset += len(entry)
    checksum = _checksum(body)
    index = _index(entries, checksum)
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, parts in ((".pack", [*body, checksum]), (".idx", [*index, _checksum(index)])):
        _write(folder / f"pack-{checksum.hex()}{suffix}", parts)
    fsync_folder(folder)


def _header(size: int) -> bytes:
    """Give an entry's type and size: four bits of the size with the type, then seven a byte, the lowest first."""
    first, rest = _BLOB << 4 | size & 15, size >> 4
    found = bytearray()
    while rest:
        found.append(first | 128)
        first, rest = rest & 127, rest >> 7
    found.append(first)
    return bytes(found)


def _index(entries: dict[bytes, tuple[int, int]], checksum: bytes) -> list[bytes]:
    """Give the parts of an index: how many names start with at most each byte, the names, their checksums and places."""
    names = sorted(entries)
    below, counts = 0, []
    for first in range(256):
        while below < len(names) and names[below][0] <= first:
            below += 1
        counts.append(below)
    checksums = [entries[name][0] for name in names]
    places = [entries[name][1] for name in names]  # pointers: a pack stays far below the 2 GiB that fit here
    numbers = [packed(f">{len(items)}I", *items) for items in (counts, checksums, places)]
    return [b"\xfftOc" + packed(">I", 2), numbers[0], *names, numbers[1], numbers[2], checksum]


def _checksum(parts: Iterable[bytes]) -> bytes:
    state = hashlib.sha1(usedforsecurity=False)
    for part in parts:
        state.update(part)
    return state.digest()


def _write(path: Path, parts: Sequence[bytes]) -> None:
    """Write a file whole, durable but for its name; git's own tools clear away what a kill leaves."""
    temporary = path.with_name(f"tmp_{owned_name()}")
    try:
        with temporary.open("xb") as file:
            file.write(b"".join(parts))
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o444)
        temporary.replace(path)
    finally:
        remove_tree(temporary)
