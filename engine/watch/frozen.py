"""The frozen scale of a table: which bins each column is counted on. Fixed with the reference, shared by every later chunk.

Enters: rows of the reference. Leaves: a `FrozenTable`, small enough to lie in a model package. Called by `reference`;
`profile` counts on it. A column is numbers (quantile bins that resolve the tails, an outer bin on either side), a category
(the most frequent values, hashed buckets for the rest when there are many), or an identifier, of which only nulls and the
number of values are watched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, TypeAlias

import msgspec
import numpy as np
import polars as pl

from engine.profiling.bins import as_doubles
from engine.profiling.columns import type_word
from engine.watch.counting import count_numbers

VERSION = 1
SHARES = (0.001, 0.005, 0.01, *(round(0.025 * step, 3) for step in range(1, 40)), 0.99, 0.995, 0.999)
"""Quantiles at which numbers are cut: fortieths, which contain the tenths of the usual PSI, and finer in the tails."""
VOCABULARY = 100
BUCKETS = 32
KNOWN = 50_000
_IDENTIFIER_SHARE = 0.5  # of the rows have a value of their own: a name, not a category
_IDENTIFIER_VALUES = 1_000
_SAMPLE = 2_000_000  # rows that quantiles are taken from at most

ColumnKind: TypeAlias = Literal["number", "category", "identifier"]


class FrozenColumn(msgspec.Struct, frozen=True, kw_only=True):
    """One column's scale.

    `edges` are the lowest value, inner quantiles, the highest; a bin is `(edges[i-1], edges[i]]`, the first closed, and
    `shares` are the reference's in each.
    `values` have a cell each; then come `buckets` cells for all others by hash. `known` are all values of the reference.
    """

    name: str
    kind: ColumnKind
    type: str
    edges: tuple[float, ...] = ()
    shares: tuple[float, ...] = ()
    scale: float = 1.0
    values: tuple[str, ...] = ()
    buckets: int = 0
    known: tuple[str, ...] = ()

    @property
    def cells(self) -> int:
        """How many counts a chunk has on this scale."""
        if self.kind == "number":
            return max(len(self.edges) - 1, 0) + 2
        return len(self.values) + self.buckets if self.kind == "category" else 0


class FrozenTable(msgspec.Struct, frozen=True, kw_only=True):
    """The scale of every column of a table, by name in order; `version` is the scheme's."""

    version: int = VERSION
    columns: tuple[FrozenColumn, ...]

    @property
    def by_name(self) -> Mapping[str, FrozenColumn]:
        """Columns by name."""
        return {column.name: column for column in self.columns}

    @property
    def numbers(self) -> tuple[FrozenColumn, ...]:
        """The columns of numbers that have a scale."""
        return tuple(column for column in self.columns if column.kind == "number" and len(column.edges) > 1)


Chunk: TypeAlias = pl.DataFrame | pl.LazyFrame


def freeze(chunks: Sequence[Chunk], columns: Sequence[str]) -> FrozenTable:
    """Freeze the scale of some columns with the reference's rows, column by column; an absent column is left out."""
    schema = dict(lazy(chunks[0]).collect_schema()) if chunks else {}
    named = [name for name in columns if name in schema]
    return FrozenTable(columns=tuple(_freeze_column(values) for values in _columns(chunks, named)))


def lazy(rows: Chunk) -> pl.LazyFrame:
    """Give rows as a lazy frame."""
    return rows.lazy()


def _columns(chunks: Sequence[Chunk], names: Sequence[str]) -> Iterator[pl.Series]:
    """Read one column of all chunks at a time, which bounds memory by the longest column."""
    for name in names:
        parts = [_column(rows, name) for rows in chunks]
        yield pl.concat([part for part in parts if part.dtype == parts[0].dtype], rechunk=False)


def _column(rows: Chunk, name: str) -> pl.Series:
    if isinstance(rows, pl.DataFrame):
        return rows[name]
    return rows.select(name).collect()[name]


def _freeze_column(values: pl.Series) -> FrozenColumn:
    name, kind = values.name, type_word(values.dtype)
    if is_number(values.dtype):
        present = as_doubles(values)
        return _freeze_numbers(name, kind, present[np.isfinite(present)])
    counted = as_text(values).drop_nulls().value_counts(sort=False, name="count")
    ordered = counted.sort("count", name, descending=[True, False])
    rows, distinct = int(ordered["count"].sum() or 0), ordered.height
    if distinct > KNOWN or (distinct > _IDENTIFIER_VALUES and distinct > _IDENTIFIER_SHARE * rows):
        return FrozenColumn(name=name, kind="identifier", type=kind)
    listed = ordered[name].to_list()
    buckets = BUCKETS if distinct > VOCABULARY else 0
    return FrozenColumn(
        name=name, kind="category", type=kind, values=tuple(listed[:VOCABULARY]), buckets=buckets, known=tuple(listed)
    )


def _freeze_numbers(name: str, kind: str, present: np.ndarray) -> FrozenColumn:
    if not len(present):
        return FrozenColumn(name=name, kind="number", type=kind)
    low, high = float(present.min()), float(present.max())
    with np.errstate(over="ignore"):
        scale = float(present.std())
    drawn = present if len(present) <= _SAMPLE else present[:: len(present) // _SAMPLE + 1]
    places = (np.array(SHARES) * (len(drawn) - 1)).astype(np.int64)
    inner = np.unique(np.sort(drawn)[places])  # numpy sorts quicker than it finds so many places
    inner = inner[(inner > low) & (inner < high)] if kind == "f64" else inner[inner < high]
    edges = tuple(dict.fromkeys((low, *inner.tolist(), high)))
    edges = edges if len(edges) > 1 else (low, high)
    steady = scale if np.isfinite(scale) and scale > 0 else 1.0
    shares = count_numbers(drawn, edges)[1:-1] / len(drawn)
    return FrozenColumn(name=name, kind="number", type=kind, edges=edges, shares=tuple(shares.tolist()), scale=steady)


def is_number(dtype: pl.DataType) -> bool:
    """Say whether a column is counted on edges; truth values are categories."""
    return bool(dtype.is_numeric()) or bool(dtype.is_temporal())


def as_text(values: pl.Series) -> pl.Series:
    """Give values as the text that vocabularies hold; a nested value as JSON-like text."""
    if values.dtype == pl.String:
        return values
    if values.dtype.is_nested() or values.dtype == pl.Object:
        texts = [None if item is None else str(item) for item in values.to_list()]
        return pl.Series(values.name, texts, dtype=pl.String)
    if values.dtype == pl.Binary:
        return values.bin.encode("hex")
    return values.cast(pl.String)


def doubles_of(values: pl.Series) -> np.ndarray:
    """Give numbers or times as doubles with NaN for null; without a copy where there are no nulls. (n,) float64."""
    if isinstance(values.dtype, pl.Datetime | pl.Date):
        values = values.cast(pl.Datetime("us")).cast(pl.Int64)
    elif isinstance(values.dtype, pl.Duration | pl.Time):
        values = values.cast(pl.Int64)
    doubles = values if values.dtype == pl.Float64 else values.cast(pl.Float64)
    return np.asarray((doubles.fill_null(float("nan")) if doubles.null_count() else doubles).to_numpy())


def as_number(dtype: pl.DataType, name: str) -> pl.Expr:
    """Say how a column becomes doubles, as `doubles_of` does: many columns at once, since each asking has its price."""
    found = pl.col(name)
    if isinstance(dtype, pl.Datetime | pl.Date):
        found = found.cast(pl.Datetime("us")).cast(pl.Int64)
    elif dtype.is_temporal():
        found = found.cast(pl.Int64)
    return found.cast(pl.Float64).fill_null(float("nan"))
