"""Rows as LightGBM takes them, and the refusal of rows that nothing can be learnt from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from engine.contracts import Matrix, Progress
from engine.errors import DataError

MOST_GRADES = 30
"""The highest relevance: its gain is 2^30 - 1, and gains beyond that drown all others."""


def check_rows(matrix: Matrix, task: str, part: str, least: int) -> None:
    """Raise `DataError` for rows from which no tree can be learnt."""
    if len(matrix.y) < least:
        hint = "widen the split, or lower train.params.min_data_in_leaf"
        raise DataError(f"{len(matrix.y)} {part} rows are too few: one split needs {least}", hint=hint)
    check_labels(matrix, task, part)
    if matrix.y.min() == matrix.y.max():
        what = "one class only" if task in {"binary", "multiclass"} else "the same label everywhere"
        raise DataError(
            f"the {part} rows have {what} ({matrix.y[0]:g})", hint="check the label and the split's boundaries"
        )
    if matrix.x.shape[1] == 0 or bool(np.isnan(matrix.x).all()):
        raise DataError(
            f"every feature is null in all {len(matrix.y)} {part} rows", hint="check the sources and their availability"
        )


def check_labels(matrix: Matrix, task: str, part: str) -> None:
    """Raise `DataError` for labels that are missing, infinite, or not 0 and 1 where the task is binary."""
    missing = int((~np.isfinite(matrix.y)).sum())
    if missing:
        raise DataError(
            f"{missing} of {len(matrix.y)} {part} rows have no finite label",
            hint="check `label`: its expression gave null or infinity",
        )
    if float(np.abs(matrix.y).max(initial=0.0)) > float(np.finfo(np.float32).max):
        hint = "rescale the label, as in `expr: label / 1e6`"
        raise DataError(f"a {part} row has a label beyond 3.4e38, and LightGBM keeps labels in 32 bits", hint=hint)
    if task == "ranking":
        _check_relevance(matrix, part)
    if task == "binary" and not bool(np.isin(matrix.y, (0.0, 1.0)).all()):
        strange = matrix.y[~np.isin(matrix.y, (0.0, 1.0))][0]
        raise DataError(
            f"a {part} row has the label {strange:g}, and a binary task needs 0 or 1",
            hint="set train.task=regression, or fix the label",
        )


def _check_relevance(matrix: Matrix, part: str) -> None:
    y = matrix.y
    if matrix.group is None:
        raise DataError(f"the {part} rows have no queries to be ranked in", hint="set train.group")
    if not bool(((y >= 0) & (y <= MOST_GRADES) & (y == np.floor(y))).all()):
        hint = "make the label a grade: whole numbers from 0 (not relevant) up"
        raise DataError(f"a {part} row has a relevance that is no whole number of 0 to {MOST_GRADES}", hint=hint)


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
