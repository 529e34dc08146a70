"""Cut rows into chunks: by calendar, by a fixed duration, by size, or into a number of parts. In UTC.

Enters: rows with `event_time`. Leaves: named chunks in order of time. Called by `observe`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

import polars as pl

from engine.clock import EPOCH
from engine.durations import microseconds
from engine.spec.monitoring import ChunkSpec
from engine.watch.observed import TIME

_SILENT = 50  # empty chunks told of at either end of a gap
_CALENDAR = {"month": "1mo", "week": "1w", "day": "1d", "hour": "1h"}


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows of `[start, end)`; cut by size, `end` is the time of the last row."""

    name: str
    start: datetime
    end: datetime
    rows: pl.DataFrame


def cut(rows: pl.DataFrame, spec: ChunkSpec) -> list[Chunk]:
    """Cut rows that are in order of time; an hour, day, week or month without rows between others is an empty chunk."""
    if not rows.height:
        return []
    if spec.rows is not None:
        return list(_by_size(rows, spec.rows))
    if spec.count is not None:
        return list(_by_size(rows, -(-rows.height // spec.count)))
    every = _CALENDAR.get(spec.by or "day") or f"{microseconds(str(spec.by))}us"
    marked = rows.with_columns(pl.col(TIME).dt.truncate(every).alias("\x00start"))
    found = []
    for (start,), part in marked.group_by("\x00start", maintain_order=True):
        end = pl.Series([start]).dt.offset_by(every)[0]
        found.append(Chunk(_name(start, spec.by or "day"), start, end, part.drop("\x00start")))
    found.sort(key=lambda chunk: chunk.start)
    return [item for low, high in pairwise([*found, None]) for item in _and_gap(low, high, every, spec.by or "day")]


def _and_gap(chunk: Chunk | None, following: Chunk | None, every: str, by: str) -> Iterator[Chunk]:
    """Give a chunk, and empty ones until the following; of a long silence the first and last of them."""
    if chunk is None:
        return
    yield chunk
    if following is None or chunk.end >= following.start:
        return
    starts = pl.datetime_range(chunk.end, following.start, every, closed="left", eager=True).to_list()
    kept = starts if len(starts) <= 2 * _SILENT else [*starts[:_SILENT], *starts[-_SILENT:]]
    for start in kept:
        end = pl.Series([start]).dt.offset_by(every)[0]
        yield Chunk(_name(start, by), start, end, chunk.rows.clear())


def _by_size(rows: pl.DataFrame, size: int) -> Iterator[Chunk]:
    for index, low in enumerate(range(0, rows.height, size)):
        part = rows.slice(low, size)
        start, end = part[TIME].min(), part[TIME].max()
        first = start if isinstance(start, datetime) else EPOCH
        last = end if isinstance(end, datetime) else first
        yield Chunk(f"{index:05d} {_name(first, 'hour')}", first, last + timedelta(microseconds=1), part)


def _name(start: datetime, by: str) -> str:
    if by == "month":
        return f"{start:%Y-%m}"
    midnight = start.hour == start.minute == start.second == 0
    return f"{start:%Y-%m-%d}" if by in {"day", "week"} or midnight else f"{start:%Y-%m-%dT%H:%M}"
