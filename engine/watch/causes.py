"""How much of the score's movement each column accounts for: what an alert ranks its causes by.

Enters: a chunk with its score, and held-out or reference rows with theirs. Leaves: a share by column. The reference's mean
score in each bin of a column, weighted by how many rows the chunk has there, is what the score would have become had only
this column changed, and taken nothing else with it (direct standardisation, as in epidemiology). Columns that move together
each account for the same part, so shares need not add up to one.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from engine.watch.frozen import FrozenColumn, as_text, doubles_of
from engine.watch.observed import PREDICTION, Observed

_SMALLEST = 1e-12


def explain_score(observed: Observed) -> Mapping[str, float]:
    """Give each compared column's share of the change of the mean score; empty where there is no score to explain."""
    before = [chunk for chunk in observed.past.chunks if PREDICTION in chunk.columns]
    if PREDICTION not in observed.rows.columns or not before:
        return {}
    past = pl.concat(before, how="vertical_relaxed")
    moved = _mean(observed.rows) - _mean(past)
    if not np.isfinite(moved) or abs(moved) < _SMALLEST:
        return {}
    shares: dict[str, float] = {}
    for column in observed.reference.frozen.columns:
        if column.kind == "identifier" or not {column.name} <= set(past.columns) & set(observed.rows.columns):
            continue
        try:
            shares[column.name] = _moved_by(past, observed.rows, column) / moved
        except (pl.exceptions.PolarsError, ValueError, TypeError):
            continue
    return {name: share for name, share in shares.items() if np.isfinite(share)}


def _mean(rows: pl.DataFrame) -> float:
    values = rows[PREDICTION].cast(pl.Float64).to_numpy()
    return float(np.nanmean(values)) if len(values) and not np.isnan(values).all() else float("nan")


def _moved_by(past: pl.DataFrame, rows: pl.DataFrame, column: FrozenColumn) -> float:
    places, now = _places(past[column.name], column), _places(rows[column.name], column)
    score = past[PREDICTION].cast(pl.Float64).to_numpy()
    width = int(max(places.max(initial=0), now.max(initial=0))) + 1
    count = np.bincount(places, minlength=width)
    total = np.bincount(places, weights=np.nan_to_num(score), minlength=width)
    overall = float(np.nanmean(score))
    mean = np.where(count > 0, total / np.maximum(count, 1), overall)
    change = np.bincount(now, minlength=width) / max(len(now), 1) - count / max(len(places), 1)
    return float((change * mean).sum())


def _places(values: pl.Series, column: FrozenColumn) -> np.ndarray:
    """Give each row's bin; nulls and what has no bin come last."""
    if column.kind == "number":
        edges = np.asarray(column.edges[1:-1:4] or column.edges)
        doubles = doubles_of(values)
        return np.where(np.isnan(doubles), len(edges) + 1, np.searchsorted(edges, doubles)).astype(np.int64)
    index = {value: place for place, value in enumerate(column.values)}
    return np.array([index.get(value, len(index)) for value in as_text(values).to_list()], dtype=np.int64)
