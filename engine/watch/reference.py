"""The reference that chunks are compared with: K chunk profiles on one frozen scale, and what single chunks add to the rest.

Enters: K chunks of rows (the training set cut by time, the windows before, the same weekday). Leaves: a `Reference`, stored
beside the snapshot or in the model package. Called by the monitors and by whoever packages a model; `compare` reads it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import msgspec
import polars as pl

from engine.watch.frozen import Chunk, FrozenColumn, FrozenTable, freeze
from engine.watch.profile import Profile, count_values, merge_all, profile_rows

VERSION = 1


class Novelty(msgspec.Struct, frozen=True, kw_only=True):
    """How new values come up in a category: by chunk, its rows with values of no other, and values once without it."""

    unseen: tuple[int, ...]
    singles: tuple[int, ...]
    all_singles: int
    distinct: int
    distinct_by_chunk: tuple[int, ...]


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """A frozen scale and the profiles of the chunks it was frozen with, in order of time."""

    version: int = VERSION
    frozen: FrozenTable
    chunks: tuple[Profile, ...]
    novelty: dict[str, Novelty] = {}
    label: str = ""

    @property
    def pooled(self) -> Profile:
        """The profile of all chunks together."""
        return merge_all(self.chunks)


def build_reference(chunks: Sequence[Chunk], columns: Sequence[str] | None = None, *, label: str = "") -> Reference:
    """Freeze the scale with the rows of all chunks, then profile each; empty chunks are left out.

    At least 5 chunks are needed to know how much chunks differ when nothing changes; 10 to 30 are good. With fewer,
    comparisons give sizes and no evidence.
    """
    kept = [chunk for chunk in chunks if _height(chunk)]
    named = list(columns if columns is not None else (kept[0].lazy().collect_schema().names() if kept else ()))
    frozen = freeze(kept, named)
    profiles = tuple(profile_rows(chunk, frozen, name=str(index)) for index, chunk in enumerate(kept))
    novelty = {column.name: _novelty(kept, column) for column in frozen.columns if column.kind == "category"}
    return Reference(frozen=frozen, chunks=profiles, novelty=novelty, label=label)


def split_evenly(rows: pl.DataFrame, parts: int) -> list[pl.DataFrame]:
    """Cut rows, in their order (of time, usually), into parts of equal size: how a training set becomes a reference."""
    size, more = divmod(rows.height, parts)
    starts = [index * size + min(index, more) for index in range(parts + 1)]
    return [rows.slice(low, high - low) for low, high in pairwise(starts)]


def _height(chunk: Chunk) -> int:
    return chunk.height if isinstance(chunk, pl.DataFrame) else int(chunk.select(pl.len()).collect().item())


def _novelty(chunks: Sequence[Chunk], column: FrozenColumn) -> Novelty:
    counts = [_counted(chunk, column.name) for chunk in chunks]
    total: Counter[str] = Counter()
    for counted in counts:
        total.update(counted)
    once = sum(1 for count in total.values() if count == 1)
    unseen, singles = [], []
    for counted in counts:
        unseen.append(sum(count for value, count in counted.items() if total[value] == count))
        left = sum(1 for value, count in counted.items() if total[value] - count == 1)
        singles.append(once - sum(1 for value in counted if total[value] == 1) + left)
    return Novelty(
        unseen=tuple(unseen),
        singles=tuple(singles),
        all_singles=once,
        distinct=len(total),
        distinct_by_chunk=tuple(len(counted) for counted in counts),
    )


def _counted(chunk: Chunk, name: str) -> dict[str, int]:
    if name not in chunk.lazy().collect_schema().names():
        return {}
    return count_values(chunk[name] if isinstance(chunk, pl.DataFrame) else chunk.select(name).collect()[name])


def encode_reference(reference: Reference) -> bytes:
    """Write a reference as MessagePack."""
    return msgspec.msgpack.encode(reference, order="deterministic")


def decode_reference(data: bytes) -> Reference:
    """Read what `encode_reference` wrote."""
    return msgspec.msgpack.decode(data, type=Reference)
