"""Rows as LightGBM takes them, and the refusal of rows that nothing can be learnt from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from engine.contracts import Matrix, Progress
from engine.errors import DataError
from engine.training_rows import SINGLE, RowDemands

DEMANDS = RowDemands(least=2, largest=SINGLE, grades=30, features=True)
"""A relevance of 30 gains 2^30 - 1: gains beyond that drown all others."""


def check_rows(train: Matrix, task: str, least: int) -> None:
    """Raise `DataError` for rows from which no tree can be learnt."""
    if len(train.y) < least:
        hint = "widen the split, or lower train.params.min_data_in_leaf"
        raise DataError(f"{len(train.y)} training rows are too few: one split needs {least}", hint=hint)
    DEMANDS.check(train, task)


def by_query(matrix: Matrix) -> Matrix:
    """Bring the rows of each query together, in their order, as LightGBM needs them; other matrices stay as they are."""
    if matrix.group is None:
        return matrix
    order = np.argsort(matrix.group, kind="stable")
    weight = None if matrix.weight is None else matrix.weight[order]
    return replace(matrix, x=matrix.x[order], y=matrix.y[order], weight=weight, group=matrix.group[order])


def query_sizes(group: NDArray[np.int64] | None) -> NDArray[np.int64] | None:
    """Give the number of rows of each query of rows that stand together, (queries,)."""
    return None if group is None else np.unique(group, return_counts=True)[1]


def tell_empty_columns(train: Matrix, progress: Progress) -> None:
    """Warn of columns that no tree can use; the training goes on without them."""
    empty = [name for name, null in zip(train.names, np.isnan(train.x).all(axis=0), strict=True) if null]
    if empty:
        progress(f"warning: null in every training row: {', '.join(empty)}", None, None)


def categorical_columns(train: Matrix) -> list[int]:
    """Give the columns to split by category: encoded ones whose values are whole numbers in LightGBM's range."""
    found = []
    for index, name in enumerate(train.names):
        if name in train.categorical:
            present = train.x[:, index][~np.isnan(train.x[:, index])]
            if bool(((present == np.floor(present)) & (np.abs(present) < 2**31)).all()):
                found.append(index)
    return found


def without_negatives(x: NDArray[np.float64], columns: Sequence[int]) -> NDArray[np.float64]:
    """Make negative categories (`unknown: -1`) null, as LightGBM does with a warning, in training and in scoring."""
    if not any(bool((x[:, column] < 0).any()) for column in columns):
        return x
    copy = x.copy()
    for column in columns:
        copy[x[:, column] < 0, column] = np.nan
    return copy


def plain_names(names: Sequence[str]) -> list[str]:
    """LightGBM's text cannot hold every name; `columns.json` has the true ones.

    >>> plain_names(["amt", "a: b"])
    ['amt', 'column_1']
    """
    return [name if re.fullmatch(r"[A-Za-z0-9_]+", name) else f"column_{index}" for index, name in enumerate(names)]
