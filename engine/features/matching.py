"""Keys as numbers: which history rows have the key of which spine rows. Called by `compute` and `label`."""

from __future__ import annotations

import numpy as np
import polars as pl

from engine.features.frames import Codes

On = tuple[tuple[str, str], ...]
"""Pairs of source column and frame column."""


def match_keys(spine: pl.DataFrame, history: pl.DataFrame, on: On) -> tuple[Codes, Codes]:
    """Number the spine's keys; give the spine's codes and the history's, -1 for a null or an unmatched key."""
    if not on:
        return np.zeros(spine.height, dtype=np.int32), np.zeros(history.height, dtype=np.int32)
    if spine.height == 1:
        return _match_one_key(spine, history, on)
    if len(on) == 1 and spine.height:
        asked, held = spine[on[0][1]], history[on[0][0]]
        found = _match_integers(asked, held) if asked.dtype == held.dtype == pl.Int64 else None
        if found is not None:
            return found
    names = [f"{index}" for index in range(len(on))]
    asked_keys = spine.select(pl.col(target).alias(name) for name, (_, target) in zip(names, on, strict=True))
    held_keys = history.select(pl.col(column).alias(name) for name, (column, _) in zip(names, on, strict=True))
    distinct = asked_keys.drop_nulls().unique().with_row_index("code")
    if distinct.height == asked_keys.height and asked_keys.equals(held_keys):
        codes = np.arange(asked_keys.height, dtype=np.int32)  # each row joins itself, as labels of the spine's source
        return codes, codes
    return _codes(asked_keys, distinct, names), _codes(held_keys, distinct, names)


def _match_integers(asked: pl.Series, held: pl.Series) -> tuple[Codes, Codes] | None:
    """The same by a table, where the spine's keys lie close together."""
    low, high = asked.min(), asked.max()
    if not (isinstance(low, int) and isinstance(high, int)) or high - low > 4 * len(asked) + 1024:
        return None
    size = high - low + 1
    queries = (asked - low).fill_null(size).to_numpy()
    table = np.full(size + 1, -1, dtype=np.int32)
    table[queries] = queries
    table[size] = -1
    inside = held.is_between(low, high)
    events = pl.select(pl.when(inside).then(held - low).otherwise(size)).to_series().fill_null(size).to_numpy()
    return table[queries], table[events]


def _match_one_key(spine: pl.DataFrame, history: pl.DataFrame, on: On) -> tuple[Codes, Codes]:
    """The same for one spine row, as a request is: comparing is much faster than joining."""
    same = np.ones(history.height, dtype=np.bool_)
    for column, target in on:
        if spine[target].null_count():
            return np.full(1, -1, dtype=np.int32), np.full(history.height, -1, dtype=np.int32)
        same &= (history[column] == spine[target]).fill_null(value=False).to_numpy()
    return np.zeros(1, dtype=np.int32), np.where(same, 0, -1).astype(np.int32)


def _codes(keys: pl.DataFrame, distinct: pl.DataFrame, names: list[str]) -> Codes:
    joined = keys.join(distinct, on=names, how="left", maintain_order="left")
    return joined["code"].cast(pl.Int32).fill_null(-1).to_numpy()
