"""Columns in numbers, for people and for a first set of expectations.

Enters: rows. Leaves: a `TableProfile`. Everything is exact and depends on nothing but the rows. What has to merge over
chunks (a monitor's reference, say) is in `bins`: counts on frozen bins.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from engine.clock import isoformat
from engine.data_records import ColumnProfile, TableProfile
from engine.profiling.bins import count_in, describe_bins, even_bins, most_frequent

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_TOP = 20
_WORDS = {pl.Boolean: "bool", pl.String: "str", pl.Date: "timestamp", pl.Null: "null"}
_LETTERS = re.compile(r"[A-Z]")
_SMALL = re.compile(r"[a-z]")
_DIGITS = re.compile(r"[0-9]")


def profile_table(name: str, rows: pl.DataFrame, now: datetime) -> TableProfile:
    """Profile every column."""
    columns = tuple(profile_column(values) for values in rows.iter_columns())
    return TableProfile(name=name, rows=rows.height, columns=columns, at=isoformat(now))


def profile_column(values: pl.Series) -> ColumnProfile:
    """Profile one column: counts, quantiles, most frequent values, and what text looks like."""
    bins = even_bins(values)
    common: dict[str, Any] = {
        "column": values.name,
        "type": type_word(values.dtype),
        "nulls": values.null_count(),
        "distinct": values.drop_nulls().n_unique(),
        "top": tuple((_text(value), count) for value, count in most_frequent(values, _TOP)),
        "bins": describe_bins(bins, times=values.dtype.is_temporal()),
        "counts": count_in(values, bins),
    }
    if values.dtype.is_numeric():
        return ColumnProfile(**common, **_numbers(values))
    if values.dtype.is_temporal():
        return ColumnProfile(**common, **_times(values))
    if values.dtype == pl.String:
        return ColumnProfile(**common, **_texts(values))
    return ColumnProfile(**common)


def type_word(dtype: pl.DataType) -> str:
    """Name a type as a source declares it.

    >>> type_word(pl.Int32()), type_word(pl.Datetime("us", "UTC"))
    ('i64', 'timestamp')
    """
    if dtype.is_integer():
        return "i64"
    if dtype.is_numeric():
        return "f64"
    return "timestamp" if isinstance(dtype, pl.Datetime) else _WORDS.get(type(dtype), str(dtype).lower())


def shape_of(text: str) -> str:
    """Give a text with its letters and digits replaced by their kind.

    >>> shape_of("N14-ab")
    'A99-aa'
    """
    return _DIGITS.sub("9", _SMALL.sub("a", _LETTERS.sub("A", text)))


def _numbers(values: pl.Series) -> dict[str, Any]:
    finite = values.drop_nulls().cast(pl.Float64)
    finite = finite.filter(finite.is_finite())
    if finite.is_empty():
        return {"not_finite": len(values) - values.null_count()}
    whole = values.dtype.is_integer()
    return {
        "not_finite": len(values) - values.null_count() - len(finite),
        "minimum": _number(finite.min(), whole=whole),
        "maximum": _number(finite.max(), whole=whole),
        "mean": float(np.mean(finite.to_numpy())),
        "std": float(np.std(finite.to_numpy(), ddof=1)) if len(finite) > 1 else None,
        "quantiles": {f"{share:g}": _number(_quantile(finite, share), whole=whole) for share in QUANTILES},
        "increasing": _increases(values),
    }


def _times(values: pl.Series) -> dict[str, Any]:
    present = values.drop_nulls()
    if present.is_empty():
        return {}
    return {
        "minimum": _text(present.min()),
        "maximum": _text(present.max()),
        "quantiles": {f"{share:g}": _text(_quantile(present, share)) for share in QUANTILES},
        "increasing": _increases(values),
    }


def _texts(values: pl.Series) -> dict[str, Any]:
    """Say how long texts are, and their shape if all have the same."""
    distinct = values.drop_nulls().unique()
    if distinct.is_empty():
        return {}
    lengths = distinct.str.len_chars()
    low, high = int(lengths.min() or 0), int(lengths.max() or 0)  # type: ignore[arg-type]
    shapes = distinct.to_frame("text").select(
        pl.col("text")
        .str.replace_all("[A-Z]", "A")
        .str.replace_all("[a-z]", "a")
        .str.replace_all("[0-9]", "9")
        .unique()
    )["text"]
    return {"lengths": (low, high), "shape": shapes.item() if len(shapes) == 1 else None}


def _quantile(values: pl.Series, share: float) -> Any:
    """Give a quantile that is a value of the column: the order statistic at or below the share."""
    return values.sort().gather(int(share * (len(values) - 1))).item()


def _number(value: Any, *, whole: bool) -> float | int:
    return int(value) if whole else float(value)


def _text(value: Any) -> str:
    return isoformat(value) if isinstance(value, datetime) and value.tzinfo is not None else str(value)


def _increases(values: pl.Series) -> bool:
    present = values.drop_nulls()
    return len(present) > 1 and bool(present.is_sorted())
