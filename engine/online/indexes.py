"""What a program needs of the online state: by source and join, which columns find a bucket and how far back it is read.

Enters: a `FeatureProgram`. Leaves: `Indexes`, made once a program. Called by everything in this package.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import msgspec
import numpy as np
import polars as pl

from engine.features.frames import Ints
from engine.features.steps import FeatureProgram, Lookup, SourceProgram, Window
from engine.features.timeline import LONGEST
from engine.online.blocks import Block, Layout

_Join: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]
_ENCODER = msgspec.msgpack.Encoder()


@dataclass(frozen=True, slots=True)
class Index:
    """Buckets of one source by the values of some of its columns; `number` names it in keys.

    `reach` is how far before its time a request can see, in microseconds; `latest` says that it also asks for the latest
    row, however old.
    """

    number: int
    source: str
    columns: tuple[str, ...]
    reach: int
    latest: bool

    def prefix(self) -> bytes:
        """What the keys of its buckets start with."""
        return b"b" + self.number.to_bytes(2, "big")


@dataclass(frozen=True, slots=True)
class Need:
    """One way in which the program joins a source: an index, and the frame columns that give its key."""

    index: Index
    targets: tuple[str, ...]
    reach: int
    latest: bool


@dataclass(frozen=True)
class Held:
    """One source as the state holds it; the first of its indexes is where an event is found by its id."""

    number: int
    program: SourceProgram
    layout: Layout
    indexes: tuple[Index, ...]

    @cached_property
    def timeless(self) -> bool:
        """Whether its rows have no time."""
        return self.program.static or self.program.time is None

    def times(self, block: Block) -> Ints:
        """The time of each row; 0 for a source without."""
        if self.timeless:
            return np.zeros(len(block), dtype=np.int64)
        return block.ints(str(self.program.time))

    def available(self, block: Block) -> Ints:
        """When each row was available; 0 for a source without time."""
        if self.timeless:
            return np.zeros(len(block), dtype=np.int64)
        known = block.ints(self.program.available_column or str(self.program.time))
        return known + min(self.program.delay, LONGEST) if self.program.delay else known


@dataclass(frozen=True)
class Indexes:
    """All sources and joins of a program's lookups and windows."""

    program: FeatureProgram
    sources: Mapping[str, Held]
    needs: tuple[Need, ...]


def indexes_of(program: FeatureProgram) -> Indexes:
    """Find the joins of a program; equal programs number them alike."""
    joins: dict[_Join, tuple[int, bool]] = {}
    for step in program.steps:
        if isinstance(step, Lookup | Window):
            key = step.source, tuple(sorted(step.on))
            age = step.window if isinstance(step, Window) else step.max_age
            reach, latest = joins.get(key, (0, False))
            joins[key] = max(reach, age or 0), latest or age is None
    found: dict[tuple[str, tuple[str, ...]], tuple[int, bool]] = {}
    for (source, on), (reach, latest) in joins.items():
        columns = source, tuple(column for column, _ in on)
        known = found.get(columns, (0, False))
        found[columns] = max(reach, known[0]), latest or known[1]
    made = {key: Index(number, *key, *found[key]) for number, key in enumerate(sorted(found))}
    sources = {
        name: Held(
            number,
            program.sources[name],
            Layout(
                dict(sorted(program.sources[name].columns.items()))
            ),  # equal programs may list them in another order
            tuple(index for index in made.values() if index.source == name),
        )
        for number, name in enumerate(program.feature_sources)
    }
    needs = tuple(
        Need(made[source, tuple(column for column, _ in on)], tuple(target for _, target in on), *asked)
        for (source, on), asked in joins.items()
    )
    return Indexes(program, sources, needs)


def hash_key(values: tuple[Any, ...]) -> bytes:
    """Sixteen bytes that stand for a key; two keys that share them would share a bucket, and still no value."""
    return hashlib.blake2b(_ENCODER.encode(values), digest_size=16).digest()


def key_rows(frame: pl.DataFrame, columns: tuple[str, ...]) -> list[tuple[Any, ...]]:
    """The values of some columns as tuples; moments as microseconds."""
    if not columns:
        return [()] * frame.height
    chosen = frame.select(columns)
    if any(isinstance(dtype, pl.Datetime) for dtype in chosen.dtypes):
        chosen = chosen.with_columns(pl.selectors.datetime().dt.epoch("us"))
    return chosen.rows()
