"""Frames as the program expects them: the columns and types it names, finite doubles, contiguous. Called at the rim.

`compute`, `label` and `encoders` let every frame pass here first, so that what follows need not doubt its input.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from engine.errors import DataError
from engine.features.lowered_functions import DTYPES

Ints: TypeAlias = npt.NDArray[np.int64]
Codes: TypeAlias = npt.NDArray[np.int32]
"""Numbers of keys: -1 for none. There are fewer keys than rows, and rows are counted in 31 bits."""


def conform(frame: pl.DataFrame, columns: Mapping[str, str], what: str) -> pl.DataFrame:
    """Exactly these columns in these types, with doubles that are not finite made null; raises `DataError`.

    A column of integers serves for doubles, an all-null one for any type; nothing else is converted.
    """
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise DataError(f"{what}: no column {', '.join(missing)}; found: {', '.join(frame.columns) or 'none'}")
    made = pl.DataFrame([_conform_column(frame[name].rechunk(), type_, what) for name, type_ in columns.items()])
    strange = [name for name, type_ in columns.items() if type_ == "f64" and _is_strange(made[name])]
    return made.with_columns(map(_plain, strange)) if strange else made


def plain(values: pl.Series) -> pl.Series:
    """Doubles with NaN and infinities made null and negative zeros made zeros; anything else as it is.

    A zero is written as a constant, because Polars leaves `x + 0.0` out and keeps the sign.
    """
    if values.dtype != pl.Float64 or not _is_strange(values):
        return values
    return values.to_frame().select(_plain(values.name)).to_series()


def _is_strange(doubles: pl.Series) -> bool:
    """Whether there may be something to replace; if not, a column is kept and not copied."""
    value = pl.col(doubles.name)
    return bool(doubles.to_frame().select(((value == 0) | ~value.is_finite()).any()).item())


def _plain(name: str) -> pl.Expr:
    value = pl.col(name)
    return pl.when(value == 0).then(pl.lit(0.0)).when(value.is_finite()).then(value).alias(name)


def microseconds_of(moments: pl.Series) -> Ints:
    """Moments as integer microseconds; nulls must have been dropped or filled."""
    return moments.dt.epoch("us").to_numpy().astype(np.int64, copy=False)


def _conform_column(values: pl.Series, type_: str, what: str) -> pl.Series:
    wanted = DTYPES[type_]
    if values.dtype != wanted:
        fits = values.dtype == pl.Null or (type_ in {"i64", "f64"} and values.dtype.is_integer())
        if not fits and not (type_ == "f64" and values.dtype == pl.Float32):
            raise DataError(f"{what}: column `{values.name}` is {values.dtype}, and {wanted} is expected")
        values = values.cast(wanted)
    return values


def gather(values: pl.Series, rows: Ints | Codes) -> pl.Series:
    """The values at these rows; a negative row gives null."""
    if values.is_empty():
        return pl.Series(values.name, [None], dtype=values.dtype).new_from_index(0, len(rows))
    absent = rows < 0
    taken = values.gather(np.where(absent, 0, rows))
    return taken.scatter(np.flatnonzero(absent), None) if absent.any() else taken
