"""A bucket: all events with one key, as a directory of sealed chunks and a short tail that new events are added to.

The directory is one cell, with the tail in it; a chunk is another. A chunk says between which times its rows lie, so a
request reads those that its window touches. All versions of an id lie in one chunk, or all in the tail; a chunk that
holds several versions is `mixed`, and is read whole. Called by `writing` and `reading`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from engine.features.frames import Ints
from engine.online.blocks import Block, concat, decode
from engine.online.indexes import Held
from engine.online_contracts import Get

TAIL_ROWS = 64
CHUNK_ROWS = 2048
_HEAD = struct.Struct("<IIB3x")
_ENTRY = struct.Struct("<IIqqB7x")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Where sealed rows are, and between which times they lie, inclusive."""

    number: int
    rows: int
    low: int
    high: int
    mixed: bool


@dataclass(frozen=True, slots=True)
class Directory:
    """A bucket's cell: its chunks in order of sealing, the next chunk's number (none is used twice), the tail."""

    chunks: tuple[Chunk, ...]
    following: int
    tail: Block
    mixed: bool

    def encode(self) -> bytes:
        """As bytes."""
        entries = [_ENTRY.pack(c.number, c.rows, c.low, c.high, c.mixed) for c in self.chunks]
        return _HEAD.pack(len(self.chunks), self.following, self.mixed) + b"".join(entries) + self.tail.encode()


def read_directory(held: Held, data: bytes | None) -> Directory:
    """Read what `encode` wrote; a bucket that is not there is empty."""
    if data is None:
        return Directory((), 0, held.layout.empty, mixed=False)
    count, following, mixed = _HEAD.unpack_from(data)
    end = _HEAD.size + count * _ENTRY.size
    entries = _ENTRY.iter_unpack(data[_HEAD.size : end])
    chunks = tuple(Chunk(number, rows, low, high, bool(flag)) for number, rows, low, high, flag in entries)
    return Directory(chunks, following, decode(held.layout, data[end:]), bool(mixed))


def chunk_key(bucket: bytes, number: int) -> bytes:
    """The key of a chunk's cell."""
    return b"c" + bucket[1:] + number.to_bytes(4, "big")


@dataclass(slots=True)
class Editor:
    """One bucket while it is changed. Collects what to write; reads chunks only when it must."""

    held: Held
    key: bytes
    get: Get
    directory: Directory
    _written: dict[bytes, bytes | None] = field(default_factory=dict)
    _loaded: dict[int, Block] = field(default_factory=dict)

    def append(self, rows: Block, *, mixed: bool = False) -> None:
        """Add rows; `mixed` says that they hold several versions of some id, all of them."""
        old = self.directory
        self.directory = Directory(
            old.chunks, old.following, concat(self.held.layout, (old.tail, rows)), old.mixed or mixed
        )

    def find(self, uids: Iterable[int], times: Iterable[int]) -> Block:
        """The rows with these uids; `times` are theirs, so that few chunks are read."""
        wanted = np.fromiter(uids, dtype=np.uint64)
        blocks = [self.directory.tail, *(self._load(chunk) for chunk in self._around(times))]
        return concat(
            self.held.layout, [block.take(np.isin(block.records["uid"], wanted)) for block in blocks if len(block)]
        )

    def remove(self, uids: Iterable[int], times: Iterable[int]) -> None:
        """Take rows out, by uid; unknown ones are passed over."""
        gone = np.fromiter(uids, dtype=np.uint64)
        old, following = self.directory, self.directory.following
        chunks = list(old.chunks)
        for chunk in self._around(times):
            block = self._load(chunk)
            keep = ~np.isin(block.records["uid"], gone)
            if not keep.all():  # what is left gets a number of its own: nobody reads a chunk under an older directory
                made = [self._seal(block.take(keep), following, mixed=chunk.mixed)] if keep.any() else []
                following += len(made)
                self._written[chunk_key(self.key, chunk.number)] = None
                position = chunks.index(chunk)
                chunks[position : position + 1] = made
        keep = ~np.isin(old.tail.records["uid"], gone)
        tail = old.tail if keep.all() else old.tail.take(keep)
        self.directory = Directory(tuple(chunks), following, tail, old.mixed)

    def uids_like(self, digest: int, times: Iterable[int]) -> Ints:
        """The uids of rows with this content."""
        blocks = [self.directory.tail, *(self._load(chunk) for chunk in self._around(times))]
        found = [block.records["uid"][block.records["digest"] == np.uint64(digest)] for block in blocks]
        return np.concatenate(found)

    def forget(self, before: int) -> int:
        """Drop chunks, and the tail, whose rows all lie before a moment."""
        old, tail, mixed = self.directory, self.directory.tail, self.directory.mixed
        gone = [chunk for chunk in old.chunks if chunk.high < before]
        for chunk in gone:
            self._written[chunk_key(self.key, chunk.number)] = None
        dropped = sum(chunk.rows for chunk in gone)
        if len(tail) and int(self.held.times(tail).max()) < before:
            dropped, tail, mixed = dropped + len(tail), self.held.layout.empty, False
        kept = tuple(chunk for chunk in old.chunks if chunk.high >= before)
        self.directory = Directory(kept, old.following, tail, mixed)
        return dropped

    def writes(self) -> dict[bytes, bytes | None]:
        """Seal a full tail, and say which cells to write."""
        if len(self.directory.tail) > TAIL_ROWS:
            self._seal_tail()
        empty = not self.directory.chunks and not len(self.directory.tail)
        return {**self._written, self.key: None if empty else self.directory.encode()}

    def _seal_tail(self) -> None:
        rows, mixed, chunks = self.directory.tail, self.directory.mixed, list(self.directory.chunks)
        if chunks and chunks[-1].rows + len(rows) <= CHUNK_ROWS:  # its cell is replaced: nobody reads a chunk half old
            last = chunks.pop()
            rows, mixed = concat(self.held.layout, (self._load(last), rows)), mixed or last.mixed
            self._written[chunk_key(self.key, last.number)] = None
        following = self.directory.following
        for part in _parts(self.held, rows, mixed=mixed):
            chunks.append(self._seal(part, following, mixed=mixed))
            following += 1
        self.directory = Directory(tuple(chunks), following, self.held.layout.empty, mixed=False)

    def _seal(self, rows: Block, number: int, *, mixed: bool) -> Chunk:
        times = self.held.times(rows)
        self._written[chunk_key(self.key, number)] = rows.encode()
        self._loaded[number] = rows
        return Chunk(number, len(rows), int(times.min()), int(times.max()), mixed)

    def _around(self, times: Iterable[int]) -> list[Chunk]:
        moments = np.sort(np.fromiter(times, dtype=np.int64))
        if not self.directory.chunks or not len(moments):
            return []
        after = np.searchsorted(moments, [chunk.low for chunk in self.directory.chunks])
        inside = zip(self.directory.chunks, after.tolist(), strict=True)
        return [chunk for chunk, at in inside if at < len(moments) and moments[at] <= chunk.high]

    def _load(self, chunk: Chunk) -> Block:
        if chunk.number not in self._loaded:
            (data,) = self.get([chunk_key(self.key, chunk.number)])
            self._loaded[chunk.number] = decode(self.held.layout, data or b"")
        return self._loaded[chunk.number]


def _parts(held: Held, rows: Block, *, mixed: bool) -> Iterator[Block]:
    """Rows by time, in parts of at most `CHUNK_ROWS`, more only where one id has more versions."""
    times = held.times(rows)
    groups = _groups(held, rows) if mixed else np.arange(len(rows))
    first = np.full(len(rows), np.iinfo(np.int64).max)
    np.minimum.at(first, groups, times)
    order = np.lexsort((times, groups, first[groups])) if mixed else np.argsort(times, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))  # where a cut may be
    begin = 0
    while begin < len(rows):
        allowed = starts[(starts > begin) & (starts <= begin + CHUNK_ROWS)]
        later = starts[starts > begin]
        end = len(rows)
        if len(rows) - begin > CHUNK_ROWS:
            end = int(allowed[-1] if len(allowed) else later[0] if len(later) else end)
        yield rows.take(order[begin:end])
        begin = end


def _groups(held: Held, rows: Block) -> npt.NDArray[np.int64]:
    """Number the rows so that versions of one id share a number; a row without an id has its own."""
    ids = rows.frame()[str(held.program.id)]
    codes = ids.rank("dense").cast(int).fill_null(0).to_numpy().copy()
    codes[codes == 0] = len(rows) + np.arange(int((codes == 0).sum()))
    _, found = np.unique(codes, return_inverse=True)
    return found.astype(np.int64)
