"""What a chunk looks like on the frozen scale: counts, sums and extremes, additive, so profiles of parts merge to the whole's.

Enters: rows (in memory, or lazily, read in batches of bounded size) and a `FrozenTable`. Leaves: a `Profile`, kilobytes
large whatever the rows. Called by `reference`, by the monitors, and wherever a chunk is made; comparisons read profiles, not
rows. A broken column is noted and never breaks the others'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import TypeVar

import msgspec
import numpy as np
import polars as pl

from engine.profiling.columns import type_word
from engine.threads import in_threads, one_ahead
from engine.watch.counting import Summary, summarise
from engine.watch.distinct import codes_of, sketch
from engine.watch.frozen import Chunk, FrozenColumn, FrozenTable, as_number, as_text, doubles_of, is_number
from engine.watch.moments import ROWS, STREAMED, Moments, merge_moments, moments_of

VERSION = 2
_T = TypeVar("_T")
BATCH = 100_000
NEW_VALUES = 50
_MANY = 10_000  # rows from which threads are worth the handing over


class ColumnCounts(msgspec.Struct, frozen=True, kw_only=True):
    """One column of a chunk. `cells` as the scale says; nulls, NaN and infinities are none of them.

    `unseen` counts rows with a value that the reference never had, `new` the most frequent of those values. `trouble` says
    why it could not be counted.
    """

    rows: int = 0
    nulls: int = 0
    nans: int = 0
    infinite: int = 0
    cells: tuple[int, ...] = ()
    unseen: int = 0
    new: tuple[tuple[str, int], ...] = ()
    registers: bytes = b""
    type: str = ""
    trouble: str = ""

    @property
    def present(self) -> int:
        """Rows with a value that has a cell."""
        return sum(self.cells)


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """A chunk. `lost` are columns of the scale that it lacks, `extra` those that the scale does not know, with types."""

    version: int = VERSION
    rows: int
    columns: Mapping[str, ColumnCounts]
    lost: tuple[str, ...] = ()
    extra: Mapping[str, str] = {}
    moments: Moments | None = None
    start: str | None = None
    end: str | None = None
    name: str = ""


def profile_rows(rows: Chunk, frozen: FrozenTable, *, name: str = "", batch: int = BATCH) -> Profile:
    """Profile a chunk; lazy rows are read in batches, so memory is bounded by a batch, not by the chunk.

    Of lazy rows only the scale's columns are read.
    """
    if isinstance(rows, pl.DataFrame):
        return msgspec.structs.replace(_profile_batch(rows, frozen, ROWS), name=name)
    schema = dict(rows.collect_schema())
    wanted = [column.name for column in frozen.columns if column.name in schema]
    merged = _profile_batch(pl.DataFrame(schema={name: schema[name] for name in wanted}), frozen, STREAMED)
    for part in one_ahead(batches(rows, batch)) if wanted else ():
        merged = merge_profiles(merged, _profile_batch(part.select(wanted), frozen, STREAMED))
    if not wanted:
        merged = msgspec.structs.replace(merged, rows=int(rows.select(pl.len()).collect().item()))
    extra = {name: type_word(dtype) for name, dtype in schema.items() if name not in wanted}
    return msgspec.structs.replace(merged, name=name, extra=extra)


def batches(rows: Chunk, batch: int) -> Iterator[pl.DataFrame]:
    """Give rows in batches: those in memory as they are, those of Parquet slice by slice, other lazy ones as they stream.

    A stream that waits for its reader keeps the processor busy, ten times over; a slice of Parquet costs what its rows do.
    """
    if isinstance(rows, pl.DataFrame):
        yield rows
    elif rows.explain(optimized=False).startswith("Parquet SCAN"):
        for first in range(0, int(rows.select(pl.len()).collect().item()), batch):
            yield rows.slice(first, batch).collect()
    else:
        yield from rows.collect_batches(chunk_size=batch, maintain_order=True)


def merge_profiles(left: Profile, right: Profile) -> Profile:
    """Give the profile of two chunks together; the scales must be the same."""
    names = dict.fromkeys((*left.columns, *right.columns))
    empty = ColumnCounts()
    columns = {name: _merge_counts(left.columns.get(name, empty), right.columns.get(name, empty)) for name in names}
    return Profile(
        rows=left.rows + right.rows,
        columns=columns,
        lost=tuple(name for name in left.lost if name in right.lost),
        extra={**left.extra, **right.extra},
        moments=merge_moments(left.moments, right.moments),
        start=min((item for item in (left.start, right.start) if item), default=None),
        end=max((item for item in (left.end, right.end) if item), default=None),
        name=left.name or right.name,
    )


def _merge_counts(left: ColumnCounts, right: ColumnCounts) -> ColumnCounts:
    new: dict[str, int] = {}
    for value, count in (*left.new, *right.new):
        new[value] = new.get(value, 0) + count
    cells = [list(item.cells) for item in (left, right) if item.cells]
    added = [sum(pair) for pair in zip(*cells, strict=True)] if len(cells) > 1 else (cells[0] if cells else [])
    registers = [np.frombuffer(item.registers, dtype=np.uint8) for item in (left, right) if item.registers]
    return ColumnCounts(
        rows=left.rows + right.rows,
        nulls=left.nulls + right.nulls,
        nans=left.nans + right.nans,
        infinite=left.infinite + right.infinite,
        cells=tuple(added),
        unseen=left.unseen + right.unseen,
        new=tuple(sorted(new.items(), key=lambda item: (-item[1], item[0]))[: 10 * NEW_VALUES]),
        registers=np.maximum.reduce(registers).tobytes() if registers else b"",
        type=left.type or right.type,
        trouble=left.trouble or right.trouble,
    )


def _profile_batch(rows: pl.DataFrame, frozen: FrozenTable, drawn: int) -> Profile:
    known, schema = frozen.by_name, rows.schema
    numbers = _numbers_of(rows, known)
    held = [column for name, column in known.items() if name in schema]
    found = _each(lambda column: _guarded(rows[column.name], column, numbers.get(column.name)), held, rows.height)
    columns = {column.name: counts for column, counts in zip(held, found, strict=True)}
    return Profile(
        rows=rows.height,
        columns=columns,
        lost=tuple(name for name in known if name not in schema),
        extra={name: type_word(dtype) for name, dtype in schema.items() if name not in known},
        moments=moments_of(rows, frozen, drawn),
    )


def _numbers_of(rows: pl.DataFrame, known: Mapping[str, FrozenColumn]) -> dict[str, Summary]:
    """Count all columns of numbers, part by part: what has been read into the processor's cache is used while it is there.

    None when Polars cannot turn one of them into doubles: each is then counted by itself, and told of by itself.
    """
    schema = rows.schema
    columns = [
        item for name, item in known.items() if item.kind == "number" and name in schema and is_number(schema[name])
    ]
    doubles = [as_number(schema[column.name], column.name) for column in columns]
    made = {column.name: _nothing(column) for column in columns}
    try:
        for part in rows.iter_slices(BATCH) if columns else ():
            counted = part.select(doubles)
            for column, summary in zip(
                columns, _each(partial(_summary_of, counted), columns, part.height), strict=True
            ):
                made[column.name] += summary
    except (pl.exceptions.PolarsError, ValueError, TypeError, OverflowError):
        return {}
    return made


def _each(count: Callable[[FrozenColumn], _T], columns: Sequence[FrozenColumn], height: int) -> list[_T]:
    """Count each column; several at once where there are rows enough."""
    return in_threads(count, columns) if height >= _MANY else [count(column) for column in columns]


def _summary_of(counted: pl.DataFrame, column: FrozenColumn) -> Summary:
    return summarise(counted[column.name].to_numpy(), column.edges)


def _nothing(column: FrozenColumn) -> Summary:
    return Summary(np.zeros(column.cells, dtype=np.int64))


def _guarded(values: pl.Series, column: FrozenColumn, made: Summary | None) -> ColumnCounts:
    kind = type_word(values.dtype)
    try:
        return _count(values, column, kind, made)
    except (pl.exceptions.PolarsError, ValueError, TypeError, OverflowError) as error:
        text = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no more is known'}"
        return ColumnCounts(rows=len(values), nulls=values.null_count(), type=kind, trouble=text)


def _count(values: pl.Series, column: FrozenColumn, kind: str, made: Summary | None) -> ColumnCounts:
    if values.dtype == pl.Null:
        return ColumnCounts(rows=len(values), nulls=len(values), cells=(0,) * column.cells, type=column.type)
    if is_number(values.dtype) != (column.kind == "number") and column.kind != "identifier":
        told = f"was {column.type}, is {kind}"
        return ColumnCounts(rows=len(values), nulls=values.null_count(), type=kind, trouble=told)
    if column.kind == "number":
        summary = made or summarise(doubles_of(values), column.edges)
        return _count_numbers(values, summary, kind)
    if column.kind == "category":
        return _count_categories(values, column, kind)
    codes = codes_of(as_text(values).drop_nulls().unique().to_list())
    return ColumnCounts(rows=len(values), nulls=values.null_count(), type=kind, registers=sketch(codes).tobytes())


def _count_numbers(values: pl.Series, made: Summary, kind: str) -> ColumnCounts:
    return ColumnCounts(
        rows=len(values),
        nulls=values.null_count(),
        nans=made.nans - values.null_count(),
        infinite=made.infinite,
        cells=tuple(made.counts.tolist()),
        type=kind,
    )


def _count_categories(values: pl.Series, column: FrozenColumn, kind: str) -> ColumnCounts:
    """Put values into cells. With buckets, unseen values are in one as well, as were all that are rare in the reference."""
    counted = count_values(values)
    places, known = _places_of(column.values), _set_of(column.known)
    texts, counts = list(counted), np.array(list(counted.values()), dtype=np.int64)
    codes = codes_of(texts)
    place = np.array([places.get(text, -1) for text in texts], dtype=np.int64)
    outside = place < 0
    new = {texts[index]: int(counts[index]) for index in np.flatnonzero(outside) if texts[index] not in known}
    if column.buckets:
        place[outside] = len(column.values) + codes[outside] % column.buckets
    cells = np.zeros(column.cells, dtype=np.int64)
    np.add.at(cells, place[place >= 0], counts[place >= 0])
    return ColumnCounts(
        rows=len(values),
        nulls=values.null_count(),
        cells=tuple(cells.tolist()),
        unseen=sum(new.values()),
        new=tuple(sorted(new.items(), key=lambda item: (-item[1], item[0]))[:NEW_VALUES]),
        type=kind,
        registers=sketch(codes).tobytes(),
    )


def count_values(values: pl.Series) -> dict[str, int]:
    """Count the values of a category, as text, nulls left out."""
    grouped = as_text(values).alias("value").to_frame().lazy().group_by("value").len("count").collect()
    counted = dict(zip(*(grouped[name].to_list() for name in ("value", "count")), strict=True))
    counted.pop(None, None)
    return counted


@lru_cache(maxsize=1024)
def _places_of(values: tuple[str, ...]) -> Mapping[str, int]:
    return {value: place for place, value in enumerate(values)}


@lru_cache(maxsize=1024)
def _set_of(values: tuple[str, ...]) -> frozenset[str]:
    return frozenset(values)


def encode_profile(profile: Profile) -> bytes:
    """Write a profile as MessagePack; the bytes depend on it alone."""
    return msgspec.msgpack.encode(profile, order="deterministic")


def decode_profile(data: bytes) -> Profile:
    """Read what `encode_profile` wrote."""
    return msgspec.msgpack.decode(data, type=Profile)


def merge_all(profiles: Sequence[Profile]) -> Profile:
    """Merge at least one profile."""
    merged = profiles[0]
    for other in profiles[1:]:
        merged = merge_profiles(merged, other)
    return merged
