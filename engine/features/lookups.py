"""Lookup features: one column of the latest visible row, or of a static dimension's row. Called by `compute`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from engine.features.frames import Ints, gather
from engine.features.joining import Joined, Piece
from engine.features.lowered_functions import DTYPES
from engine.features.steps import Lookup


def compute_lookups(joined: Joined, steps: Sequence[Lookup]) -> list[pl.Series]:
    """One series a step, in spine order. The steps share source and join, and those of one `max_age` the row."""
    found = {step.max_age: np.full(len(joined.times), -1) for step in steps}
    joined.each_piece(lambda piece: _find(piece, found))
    made = []
    for step in steps:
        values = gather(joined.timeline.frame[step.column], found[step.max_age])
        if step.default is not None:
            values = values.fill_null(pl.lit(step.default, dtype=DTYPES[step.type]))
        made.append(values.alias(step.name))
    return made


def _find(piece: Piece, found: dict[int | None, Ints]) -> None:
    """Per spine row, the latest row that counts, -1 for none: rows are in total order, so the highest wins."""
    for max_age, latest in found.items():
        ranges = piece.within(max_age)
        most = int(piece.coverage.count(ranges).max(initial=0))
        latest[piece.queries.row] = np.maximum(piece.coverage.largest(ranges, piece.rows, most), -1)
