"""A source's rows in total order, each with the moments between which it counts.

A row counts for a spine time T from `enter` (after its own time, once available) until `until` (the microsecond
before a later version of the same id becomes available). Windows and lookups cut that interval further. Called by
`compute`; `spine` and ingest ask it whether rows are in order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from engine.features.frames import Ints, conform, microseconds_of
from engine.features.steps import SourceProgram

FOREVER = 2**62
"""Beyond every moment; adding a duration of at most `LONGEST` to a moment stays below it."""
LONGEST = 2**61
UNTIL = "\x00until"
"""A column of rows whose versions lie elsewhere: the last moment at which each is its id's latest."""
_SLICE = 1 << 20


@dataclass(frozen=True, slots=True)
class Timeline:
    """Rows in the order `(time, id)`, so that an index is a rank; arrays have one entry a row, in microseconds."""

    frame: pl.DataFrame
    time: Ints
    available: Ints
    until: Ints

    def enter(self, rows: Ints) -> Ints:
        """The first moment at which each of these rows counts."""
        return np.maximum(self.time[rows] + 1, self.available[rows])


def build_timeline(source: SourceProgram, frame: pl.DataFrame, as_of: int | None) -> Timeline:
    """Order the rows and find when each counts; rows that are never known, or not by `as_of`, are dropped.

    Without an id every row is its own; ties in time are then broken by when a row became available and by its values.
    A frame with `UNTIL` says itself until when its rows count.
    """
    rows = conform(frame, source.columns, f"history of source `{source.name}`")
    settled = UNTIL in frame.columns
    if settled:
        rows = rows.with_columns(frame[UNTIL])
    if source.static or source.time is None:
        ordered = rows.sort(*([source.id] if source.id else []), *sorted(rows.columns), maintain_order=True)
        never = _constant(-FOREVER, ordered.height)
        return Timeline(ordered, never, never, _constant(FOREVER, ordered.height))
    known = source.available_column or source.time
    rows = rows.drop_nulls([source.time, known])
    available = microseconds_of(rows[known])
    if source.delay:
        available = available + min(source.delay, LONGEST)
    if as_of is not None:
        rows, available = rows.filter(available <= as_of), available[available <= as_of]
    ids = rows[source.id] if source.id else None
    versions = not settled and ids is not None and not comes_once(ids)
    if versions or not is_in_order(rows, *filter(None, (source.time, source.id))):
        order = _total_order(source, rows, available)
        rows, available = rows[order], available[order]
    time = microseconds_of(rows[source.time])
    if settled:
        return Timeline(rows.drop(UNTIL), time, available, rows[UNTIL].to_numpy().astype(np.int64))
    until = _superseded(rows[str(source.id)], available) if versions else _constant(FOREVER, len(time))
    return Timeline(rows, time, available, until)


def _constant(value: int, size: int) -> Ints:
    """One value for every row, in the memory of one."""
    return np.broadcast_to(np.int64(value), size)


def is_in_order(rows: pl.DataFrame, *names: str) -> bool:
    """Say whether rows are by these columns, none null, as ingest leaves them; a tenth of the price of sorting them again."""
    later, alike = pl.lit(value=False), pl.lit(value=True)
    for name in names:
        later |= alike & (pl.col(name) > pl.col(name).shift())
        alike &= pl.col(name) == pl.col(name).shift()
    return _everywhere(rows.select(names), later | alike)


def comes_once(values: pl.Series) -> bool:
    """Say whether no value, null included, comes twice. Whether they rise is looked at first: cheaper than counting them."""
    value = pl.col(values.name)
    return _everywhere(values.to_frame(), value > value.shift()) or values.n_unique() == len(values)


def _everywhere(rows: pl.DataFrame, holds: pl.Expr) -> bool:
    """Say whether a condition on a row and the one before it holds from the second row on, in the memory of some of them."""
    starts = range(0, max(rows.height - 1, 1), _SLICE)
    return all(
        rows[start : start + _SLICE + 1].select(holds.slice(1).all(ignore_nulls=False)).item() for start in starts
    )


def _total_order(source: SourceProgram, rows: pl.DataFrame, available: Ints) -> Ints:
    time, id_ = str(source.time), source.id
    by = [time] if id_ is None else [time, id_]
    if id_ is None or rows[id_].null_count() or not comes_once(rows[id_]):
        rows = rows.drop(UNTIL, strict=False).with_columns(pl.Series("\x00available", available))
        by = list(dict.fromkeys([*by, "\x00available", *sorted(rows.columns)]))
    return rows.select(pl.arg_sort_by(by)).to_series().to_numpy().astype(np.int64)


def _superseded(ids: pl.Series, available: Ints) -> Ints:
    """Per row, the last moment at which it is its id's latest version. Rows without an id are never superseded."""
    until = np.full(len(available), FOREVER)
    # Dense ranks put versions of one id together; the rows are in total order, which breaks ties in availability.
    codes = ids.rank("dense").fill_null(0).cast(pl.Int64).to_numpy()
    order = np.lexsort((available, codes))
    same = (codes[order][1:] == codes[order][:-1]) & (codes[order][1:] > 0)
    earlier, later = order[:-1][same], order[1:][same]
    until[earlier] = available[later] - 1
    return until
