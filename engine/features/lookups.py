"""Lookup features: one column of the latest visible row, or of a static dimension's row. Called by `compute`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from engine.features.frames import Codes, Ints, gather
from engine.features.joining import Joined, Piece
from engine.features.lowered_functions import DTYPES
from engine.features.steps import Lookup
from engine.features.timeline import FOREVER
from engine.threads import in_threads


def compute_lookups(joined: Joined, steps: Sequence[Lookup]) -> list[pl.Series]:
    """One series a step, in spine order. The steps share source and join, and those of one `max_age` the row."""
    found = {step.max_age: np.full(len(joined.times), -1, dtype=np.int32) for step in steps}
    lasting = bool(np.all(joined.timeline.until == FOREVER))
    joined.each_piece(lambda piece: _find(piece, found, lasting=lasting))
    return in_threads(lambda step: _values(joined, step, found[step.max_age]), steps)


def _values(joined: Joined, step: Lookup, rows: Codes) -> pl.Series:
    values = gather(joined.timeline.frame[step.column], rows)
    if step.default is not None:
        values = values.fill_null(pl.lit(step.default, dtype=DTYPES[step.type]))
    return values.alias(step.name)


def _find(piece: Piece, found: Mapping[int | None, Codes], *, lasting: bool) -> None:
    """Per spine row, the latest row that counts, -1 for none: rows are in total order, so the highest wins.

    `lasting` says that no row is ever replaced: then the latest one known is it, unless it is too old, as all before it are.
    """
    row, line = piece.queries.row, piece.timeline
    known = _last_known(piece) if lasting else None
    for max_age, latest in found.items():
        if known is None:
            ranges = piece.within(max_age)
            most = int(piece.coverage.count(ranges).max(initial=0))
            latest[row] = np.maximum(piece.coverage.largest(ranges, piece.rows, most), -1)
        elif max_age is None or not len(line.time):
            latest[row] = known
        else:
            young = piece.queries.times - line.time[known] <= max_age
            latest[row] = np.where(young, known, -1)


def _last_known(piece: Piece) -> Ints:
    """Per query, the last row of its key that counts by then, -1 for none; each row counts from its `low` on.

    Rows are by key as queries are, so a row of an earlier key is only ever the last one seen where the key has none yet.
    """
    last = np.full(piece.queries.count + 1, -1)
    np.maximum.at(last, piece.low, np.arange(len(piece.rows)))
    last = np.maximum.accumulate(last[:-1])
    if not len(piece.rows):
        return last
    return np.where((last >= 0) & (piece.codes[last] == piece.queries.codes), piece.rows[last], -1)
