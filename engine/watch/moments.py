"""Second moments of normal scores: what of a chunk says how its columns hang together. Additive.

Enters: rows and the frozen scale. Leaves: sums, products and squared products over the columns of numbers, from about
5,000 rows of a batch at most, taken evenly, eight beside each other. Called by `profile`; judged by `dependence_evidence`.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec
import numpy as np
import polars as pl
from scipy import special

from engine.watch.frozen import FrozenColumn, FrozenTable, as_number, is_number

ROWS, STREAMED = 5_000, 2_000
"""Rows taken of a chunk in memory, and of each batch of one that streams: a correlation's error is 0.014 and 0.022 then."""
_AT_ONCE = 2_048  # rows whose products are summed while they are in the processor's cache
_RUN = 8  # rows taken beside each other
MAX_COLUMNS = 200  # beyond that, pairs are too many to be told apart and to be kept


class Moments(msgspec.Struct, frozen=True, kw_only=True):
    """Of `rows` complete rows: `names` (J), and float64 in row order: `sums` (J), `products` and `squares` (J, J) each."""

    rows: int
    names: tuple[str, ...]
    sums: bytes
    products: bytes
    squares: bytes

    def matrices(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Give the three as arrays."""
        count = len(self.names)
        parts = [np.frombuffer(item, dtype=np.float64) for item in (self.sums, self.products, self.squares)]
        return parts[0], parts[1].reshape(count, count), parts[2].reshape(count, count)


def moments_of(rows: pl.DataFrame, frozen: FrozenTable, most: int = ROWS) -> Moments | None:
    """Take the moments of a batch, of `most` rows at most; `None` when fewer than two columns of numbers are usable."""
    schema = rows.schema
    columns = [item for item in frozen.numbers if item.name in schema and is_number(schema[item.name])][:MAX_COLUMNS]
    if len(columns) < 2:
        return None
    drawn = (
        rows if rows.height <= most else rows.select([column.name for column in columns])[_places(rows.height, most)]
    )
    doubles = drawn.select([as_number(schema[column.name], column.name) for column in columns])
    scores = np.empty((len(columns), drawn.height))
    for index, column in enumerate(columns):
        scores[index] = _normal_scores(doubles[column.name].to_numpy(), column)
    return Moments(
        rows=drawn.height,
        names=tuple(column.name for column in columns),
        sums=scores.sum(axis=1).tobytes(),
        products=_products(scores).tobytes(),
        squares=_products(scores * scores).tobytes(),
    )


def _places(height: int, most: int) -> np.ndarray:
    """Give the places of runs of rows, evenly spread: rows beside each other are in one line of the processor's cache."""
    step = -(-height * _RUN // most)
    places = (np.arange(0, height, step)[:, None] + np.arange(_RUN)).ravel()
    return np.asarray(places[places < height])


def _products(rows: np.ndarray) -> np.ndarray:
    """Give the sums of products of all pairs, (J, J): in runs so short that BLAS takes one thread, or bits hung on how many."""
    found = np.zeros((len(rows), len(rows)))
    for first in range(0, rows.shape[1], _AT_ONCE):
        part = np.ascontiguousarray(rows[:, first : first + _AT_ONCE])
        for index, row in enumerate(part):
            found[index, : index + 1] += np.vecdot(part[: index + 1], row)
    return np.asarray(np.tril(found) + np.tril(found, -1).T)


def _normal_scores(values: np.ndarray, column: FrozenColumn) -> np.ndarray:
    """Give values their normal scores on the frozen edges, as `number_evidence.basis_of` gives bins theirs; 0 for none."""
    scores, edges = _scores(column.shares), np.asarray(column.edges)
    places = np.searchsorted(edges, values, side="left").clip(1, len(edges) - 1)
    return np.where(np.isfinite(values), scores[places - 1], 0.0)


@lru_cache(maxsize=4096)
def _scores(of: tuple[float, ...]) -> np.ndarray:
    shares = np.asarray(of)
    middle = np.cumsum(shares) - shares / 2
    normal = special.ndtri(np.clip(middle, 1e-9, 1 - 1e-9))
    centred = normal - (shares * normal).sum()
    spread = np.sqrt((shares * centred**2).sum())
    return np.asarray(centred / spread if spread > 0 else centred)


def merge_moments(left: Moments | None, right: Moments | None) -> Moments | None:
    """Add the moments of two chunks over the columns that both have."""
    if left is None or right is None:
        return left or right
    if left.names != right.names:
        both = tuple(name for name in left.names if name in right.names)
        left, right = _narrowed(left, both), _narrowed(right, both)
    parts = [a + b for a, b in zip(left.matrices(), right.matrices(), strict=True)]
    return Moments(
        rows=left.rows + right.rows,
        names=left.names,
        sums=parts[0].tobytes(),
        products=parts[1].tobytes(),
        squares=parts[2].tobytes(),
    )


def _narrowed(moments: Moments, names: tuple[str, ...]) -> Moments:
    kept = [moments.names.index(name) for name in names]
    sums, products, squares = moments.matrices()
    grid = np.ix_(kept, kept)
    return Moments(
        rows=moments.rows,
        names=names,
        sums=sums[kept].tobytes(),
        products=products[grid].tobytes(),
        squares=squares[grid].tobytes(),
    )
