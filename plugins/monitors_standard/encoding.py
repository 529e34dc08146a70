"""Rows as numbers for models that monitors train themselves. Called by `telling` and `losing`."""

from __future__ import annotations

import numpy as np
import polars as pl

from engine.watch.frozen import FrozenTable, as_text, doubles_of, is_number


def matrix_of(rows: pl.DataFrame, frozen: FrozenTable) -> np.ndarray:
    """Numbers as they are, categories by their place in the vocabulary; NaN for a column that is lost or of another type."""
    columns = []
    for column in frozen.columns:
        known = column.name in rows.columns and is_number(rows.schema[column.name]) == (column.kind == "number")
        if not known:
            columns.append(np.full(rows.height, np.nan))
        elif column.kind == "number":
            columns.append(doubles_of(rows[column.name]))
        else:
            index = {value: place for place, value in enumerate(column.values)}
            texts = as_text(rows[column.name]).to_list()
            columns.append(np.array([index.get(value, -1) for value in texts], dtype=np.float64))
    return np.column_stack(columns) if columns else np.zeros((rows.height, 1))
