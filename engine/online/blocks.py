"""Rows packed for a store: one fixed record a row, and a heap of the texts that records point into.

A block is appended to by joining bytes and decoded a column at a time, so a request decodes a thousand events in some
microseconds a column. Enters: a frame as ingest leaves it. Leaves: bytes, and frames again. Called by `buckets`.

    bytes = count, records, heap        record = uid, digest, validity bits, values (a text is offset and length)
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from engine.errors import IntegrityError
from engine.features.frames import Ints
from engine.features.lowered_functions import DTYPES

Records: TypeAlias = npt.NDArray[Any]
Hashes: TypeAlias = npt.NDArray[np.uint64]

_NUMBERS = {"i64": "<i8", "timestamp": "<i8", "f64": "<f8", "bool": "u1"}
_HEAD = 4
_FEW = 64


@dataclass(frozen=True)
class Layout:
    """The columns of a source as records hold them: name and type, in order."""

    columns: Mapping[str, str]

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """The record."""
        fields: list[tuple[Any, ...]] = [
            ("uid", "<u8"),
            ("digest", "<u8"),
            ("valid", "u1", (len(self.columns) + 7) // 8),
        ]
        for index, type_ in enumerate(self.columns.values()):
            if type_ == "str":
                fields += [(f"o{index}", "<u4"), (f"l{index}", "<u4")]
            else:
                fields.append((f"v{index}", _NUMBERS[type_]))
        return np.dtype(fields)

    @cached_property
    def texts(self) -> tuple[int, ...]:
        """The numbers of the text columns."""
        return tuple(index for index, type_ in enumerate(self.columns.values()) if type_ == "str")

    @cached_property
    def number(self) -> Mapping[str, int]:
        """The number of each column."""
        return {name: index for index, name in enumerate(self.columns)}

    @cached_property
    def empty(self) -> Block:
        """No rows."""
        return Block(self, np.empty(0, dtype=self.dtype), b"")


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of one layout."""

    layout: Layout
    records: Records
    heap: bytes

    def __len__(self) -> int:
        return len(self.records)

    def encode(self) -> bytes:
        """As bytes; `decode` reads them back."""
        return len(self.records).to_bytes(_HEAD, "little") + self.records.tobytes() + self.heap

    def ints(self, name: str) -> Ints:
        """A column of integers or moments; meaningless where it is null."""
        found: Ints = self.records[f"v{self.layout.number[name]}"]
        return found

    def valid(self, name: str) -> npt.NDArray[np.bool_]:
        """Where a column is not null."""
        return self._valid(self.layout.number[name])

    def take(self, rows: Any) -> Block:
        """Those rows (indices or a mask), with the texts that they need."""
        records = self.records[rows].copy()
        if not self.layout.texts or not self.heap:
            return Block(self.layout, records, b"")
        pieces: list[bytes] = []
        size = 0
        for index in self.layout.texts:
            size = self._move_texts(records, index, pieces, size)
        return Block(self.layout, records, b"".join(pieces))

    def _move_texts(self, records: Records, index: int, pieces: list[bytes], size: int) -> int:
        offsets, lengths = records[f"o{index}"], records[f"l{index}"]
        if len(records) <= _FEW:  # a loop takes less than sorting does
            return self._move_few(offsets, lengths.tolist(), pieces, size)
        keys = offsets.astype(np.uint64) << np.uint64(32) | lengths
        distinct, inverse = np.unique(keys, return_inverse=True)
        starts, sizes = distinct >> np.uint64(32), distinct & np.uint64(0xFFFFFFFF)
        pieces += [self.heap[a : a + b] for a, b in zip(starts.tolist(), sizes.tolist(), strict=True)]
        offsets[:] = (size + np.cumsum(sizes) - sizes)[inverse]
        return size + int(sizes.sum())

    def _move_few(self, offsets: npt.NDArray[np.uint32], lengths: list[int], pieces: list[bytes], size: int) -> int:
        moved: dict[tuple[int, int], int] = {}
        places = []
        for item in zip(offsets.tolist(), lengths, strict=True):
            place = moved.get(item)
            if place is None:
                place = moved[item] = size
                pieces.append(self.heap[item[0] : item[0] + item[1]])
                size += item[1]
            places.append(place)
        offsets[:] = places
        return size

    def frame(self) -> pl.DataFrame:
        """The rows as a frame with the layout's columns and types."""
        return pl.DataFrame([self._series(index, *item) for index, item in enumerate(self.layout.columns.items())])

    def _series(self, index: int, name: str, type_: str) -> pl.Series:
        if type_ == "str":
            values = self._texts(index)
        elif type_ == "bool":
            values = pl.Series(self.records[f"v{index}"].astype(np.bool_))
        else:
            values = pl.Series(np.ascontiguousarray(self.records[f"v{index}"]))
        valid = self._valid(index)
        if not valid.all():
            values = values.scatter(np.flatnonzero(~valid), None)
        return (values.cast(DTYPES[type_]) if type_ == "timestamp" else values).alias(name)

    def _texts(self, index: int) -> pl.Series:
        offsets, lengths = self.records[f"o{index}"], self.records[f"l{index}"]
        if not len(offsets):
            return pl.Series([], dtype=pl.String)
        if (offsets == offsets[0]).all() and (lengths == lengths[0]).all():  # as the key of a bucket is
            start = int(offsets[0])
            text = self.heap[start : start + int(lengths[0])].decode()
            return pl.Series([text], dtype=pl.String).new_from_index(0, len(offsets))
        ends = (offsets + lengths).tolist()
        if self.heap.isascii():
            whole = self.heap.decode("ascii")
            return pl.Series([whole[a:b] for a, b in zip(offsets.tolist(), ends, strict=True)], dtype=pl.String)
        parts = [self.heap[a:b].decode() for a, b in zip(offsets.tolist(), ends, strict=True)]
        return pl.Series(parts, dtype=pl.String)

    def _valid(self, index: int) -> npt.NDArray[np.bool_]:
        flags: npt.NDArray[np.bool_] = (self.records["valid"][:, index >> 3] & np.uint8(1 << (index & 7))) != 0
        return flags


def decode(layout: Layout, data: bytes) -> Block:
    """Read what `encode` wrote, without copying; raises `IntegrityError` for bytes that are too short."""
    count = int.from_bytes(data[:_HEAD], "little")
    end = _HEAD + count * layout.dtype.itemsize
    if len(data) < max(end, _HEAD):
        raise IntegrityError(f"a block of {count} rows has only {len(data)} bytes")
    return Block(layout, np.frombuffer(data, layout.dtype, count, _HEAD), data[end:])


def concat(layout: Layout, blocks: Sequence[Block]) -> Block:
    """All rows in this order."""
    blocks = [block for block in blocks if len(block)]
    if len(blocks) < 2:
        return blocks[0] if blocks else layout.empty
    records = np.concatenate([block.records for block in blocks])
    row, size = 0, 0
    for block in blocks:
        if size:
            for index in layout.texts:
                records[f"o{index}"][row : row + len(block)] += np.uint32(size)
        row, size = row + len(block), size + len(block.heap)
    return Block(layout, records, b"".join(block.heap for block in blocks))


def pack(layout: Layout, frame: pl.DataFrame) -> Block:
    """A frame that conforms to the layout, as a block. `uid` is the digest of the content, the same everywhere and always."""
    records = np.zeros(frame.height, dtype=layout.dtype)
    pieces: list[bytes] = []
    size = 0
    state = np.full(frame.height, 0x9E3779B97F4A7C15, dtype=np.uint64)
    for index, (name, type_) in enumerate(layout.columns.items()):
        values = frame[name]
        valid = values.is_not_null().to_numpy()
        records["valid"][:, index >> 3] |= valid.astype(np.uint8) << np.uint8(index & 7)
        if type_ == "str":
            texts, codes = _numbered(values)
            lengths = np.array([len(text) for text in texts], dtype=np.uint64)
            records[f"o{index}"] = (size + np.cumsum(lengths) - lengths)[codes]
            records[f"l{index}"] = lengths[codes]
            pieces += texts
            size += int(lengths.sum())
            hashed = np.array([_hash_text(text) for text in texts], dtype=np.uint64)[codes]
        else:
            numbers = _physical(values, type_)
            records[f"v{index}"] = numbers
            hashed = numbers.astype(np.uint64) if type_ == "bool" else numbers.view(np.uint64)
        state = _mix(state ^ np.where(valid, _mix(hashed + np.uint64(1)), np.uint64(0)))
    records["uid"] = records["digest"] = state
    return Block(layout, records, b"".join(pieces))


def _physical(values: pl.Series, type_: str) -> npt.NDArray[Any]:
    plain = values.dt.epoch("us") if type_ == "timestamp" else values
    zero: Any = False if type_ == "bool" else 0.0 if type_ == "f64" else 0
    return np.ascontiguousarray(plain.fill_null(zero).to_numpy())


def _numbered(values: pl.Series) -> tuple[list[bytes], npt.NDArray[np.int64]]:
    """The distinct texts as bytes, and which of them each row has; null has any."""
    filled = values.fill_null("")
    texts = filled.unique(maintain_order=True)
    if len(texts) == len(filled):
        return [text.encode() for text in texts], np.arange(len(filled))
    codes = filled.replace_strict(texts, pl.Series(range(len(texts)), dtype=pl.Int64), return_dtype=pl.Int64)
    return [text.encode() for text in texts], codes.to_numpy()


def _hash_text(text: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def _mix(state: Hashes) -> Hashes:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    with np.errstate(over="ignore"):
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return state ^ (state >> np.uint64(31))
