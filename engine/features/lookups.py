"""Lookup features: one column of the latest visible row, or of a static dimension's row. Called by `compute`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from engine.features.frames import Ints, gather
from engine.features.lowered_functions import DTYPES
from engine.features.steps import Lookup
from engine.features.windows import Joined


def compute_lookups(joined: Joined, steps: Sequence[Lookup]) -> list[pl.Series]:
    """One series a step, in spine order. The steps share source and join, and those of one `max_age` the row."""
    found: dict[int | None, Ints] = {}
    made = []
    for step in steps:
        if step.max_age not in found:
            found[step.max_age] = _latest(joined, step.max_age)
        values = gather(joined.timeline.frame[step.column], found[step.max_age])
        if step.default is not None:
            values = values.fill_null(pl.lit(step.default, dtype=DTYPES[step.type]))
        made.append(values.alias(step.name))
    return made


def _latest(joined: Joined, max_age: int | None) -> Ints:
    """Per spine row, the latest row that counts, -1 for none: rows are in total order, so the highest wins."""
    rows, coverage = joined.rows, joined.coverage
    ranges = joined.within(max_age)
    most = int(coverage.count(ranges).max(initial=0))
    latest = coverage.largest(ranges, rows, most)
    return joined.queries.spread(np.maximum(latest, -1), -1)
