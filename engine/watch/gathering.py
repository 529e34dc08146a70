"""From profiles to the arrays that evidence is computed on: columns of a kind side by side, padded to the widest.

Enters: a reference and a profile. Leaves: counts for `number_evidence`, `category_evidence`, `dependence_evidence`. Called
by `compare`. A column that is missing, in trouble, or empty on either side is not gathered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import numpy as np

from engine.watch.category_evidence import CategoryCounts
from engine.watch.dependence_evidence import PairMoments
from engine.watch.frozen import FrozenColumn
from engine.watch.moderation import Floats
from engine.watch.moments import Moments
from engine.watch.number_evidence import Cells, NumberCounts
from engine.watch.profile import ColumnCounts, Profile
from engine.watch.reference import Reference

C = TypeVar("C")
_EMPTY = ColumnCounts()


@dataclass(frozen=True, slots=True)
class Gathered(Generic[C]):
    """Counts of some columns, by the order of `names`."""

    names: tuple[str, ...]
    counts: C


def gather_numbers(reference: Reference, profile: Profile) -> Gathered[NumberCounts]:
    """Gather the columns of numbers; the outermost cells stay outermost."""
    columns = [column for column in reference.frozen.numbers if _comparable(column, reference, profile)]
    width = max((column.cells for column in columns), default=3)
    chunks = [*reference.chunks, profile]
    cells = np.zeros((len(columns), len(chunks), width))
    for place, column in enumerate(columns):
        for number, chunk in enumerate(chunks):
            counted = _of(chunk, column.name).cells
            if counted:
                cells[place, number, : column.cells - 1], cells[place, number, -1] = counted[:-1], counted[-1]
    counts = NumberCounts(cells[:, :-1], cells[:, -1])
    return Gathered(tuple(column.name for column in columns), counts)


def gather_categories(reference: Reference, profile: Profile) -> Gathered[CategoryCounts]:
    """Gather the categories; without buckets, unseen values are a cell of their own."""
    columns = [
        column
        for column in reference.frozen.columns
        if column.kind == "category" and column.name in reference.novelty and _comparable(column, reference, profile)
    ]
    width = max((column.cells + 1 for column in columns), default=1)

    def padded(counts: ColumnCounts, column: FrozenColumn) -> list[float]:
        cells = [float(cell) for cell in counts.cells] if counts.cells else [0.0] * column.cells
        rest = 0.0 if column.buckets else float(counts.unseen)
        return [*cells, rest, *([0.0] * (width - column.cells - 1))]

    known = np.array(
        [[padded(_of(chunk, column.name), column) for chunk in reference.chunks] for column in columns]
    ).reshape(len(columns), len(reference.chunks), width)
    now = np.array([padded(profile.columns[column.name], column) for column in columns]).reshape(len(columns), width)
    novelty = [reference.novelty[column.name] for column in columns]
    found = [profile.columns[column.name] for column in columns]
    counts = CategoryCounts(
        reference=known,
        current=now,
        unseen=np.array([item.unseen for item in novelty], dtype=np.float64).reshape(known.shape[:2]),
        singles=np.array([item.singles for item in novelty], dtype=np.float64).reshape(known.shape[:2]),
        all_singles=np.array([item.all_singles for item in novelty], dtype=np.float64),
        now_unseen=np.array([item.unseen for item in found], dtype=np.float64),
        now_frequent=np.array([item.new[0][1] if item.new else 0 for item in found], dtype=np.float64),
        distinct=np.array(
            [old.distinct + len(item.new) for old, item in zip(novelty, found, strict=True)], dtype=np.float64
        ),
        rows=known.sum(axis=-1),
        now=now.sum(axis=-1),
    )
    return Gathered(tuple(column.name for column in columns), counts)


def gather_shares(reference: Reference, profile: Profile, what: Literal["nulls", "not_finite"]) -> Gathered[Cells]:
    """Gather how many rows of each column are null, or NaN or infinite."""
    names = [
        column.name
        for column in reference.frozen.columns
        if (column.kind == "number" or what == "nulls") and column.name in profile.columns
        and not profile.columns[column.name].trouble and profile.columns[column.name].rows
    ]  # fmt: skip

    def count(counts: ColumnCounts) -> int:
        return counts.nulls if what == "nulls" else counts.nans + counts.infinite

    chunks = [[_of(chunk, name) for chunk in reference.chunks] for name in names]
    shape = (len(names), len(reference.chunks))
    return Gathered(
        tuple(names),
        Cells(
            np.array([[count(item) for item in row] for row in chunks], dtype=np.float64).reshape(*shape, 1),
            np.array([[item.rows for item in row] for row in chunks], dtype=np.float64).reshape(shape),
            np.array([[count(profile.columns[name])] for name in names], dtype=np.float64).reshape(len(names), 1),
            np.array([profile.columns[name].rows for name in names], dtype=np.float64),
        ),
    )


def gather_pairs(reference: Reference, profile: Profile) -> tuple[list[tuple[str, str]], PairMoments] | None:
    """Gather correlations of the columns that every chunk has; `None` when there are fewer than two."""
    taken = [chunk.moments for chunk in reference.chunks]
    if profile.moments is None or any(item is None for item in taken):
        return None
    every: list[Moments] = [item for item in taken if item is not None]
    names = [name for name in profile.moments.names if all(name in item.names for item in every)]
    if len(names) < 2 or profile.moments.rows < 2:
        return None
    low, high = np.tril_indices(len(names), -1)
    parts = [_covariances(item, names, (low, high)) for item in (*every, profile.moments)]
    rows = np.array([float(item.rows) for item in every])
    weight = rows / rows.sum()
    raw = np.array([part[1] for part in parts[:-1]])
    mean = np.array([part[0] for part in parts[:-1]])
    variance = (weight[:, None] * raw).sum(axis=0) - ((weight[:, None] * mean).sum(axis=0)) ** 2
    kept = variance > 1e-3  # a column that hardly varies goes with nothing
    if not kept.any():
        return None
    moments = PairMoments(
        mean.T[kept], parts[-1][0][kept], variance[kept], rows, np.asarray(float(profile.moments.rows))
    )
    return [(names[b], names[a]) for a, b, keep in zip(low, high, kept, strict=True) if keep], moments


def _covariances(moments: Moments, names: Sequence[str], pairs: tuple[np.ndarray, np.ndarray]) -> tuple[Floats, Floats]:
    """Give the covariance of each pair, and the mean of its squared product."""
    places = [moments.names.index(name) for name in names]
    sums, products, squares = moments.matrices()
    rows = max(moments.rows, 1)
    means, grid = sums[places] / rows, np.ix_(places, places)
    covariance = products[grid] / rows - np.outer(means, means)
    return covariance[pairs], (squares[grid] / rows)[pairs]


def _of(chunk: Profile, name: str) -> ColumnCounts:
    return chunk.columns.get(name, _EMPTY)


def _comparable(column: FrozenColumn, reference: Reference, profile: Profile) -> bool:
    counts = profile.columns.get(column.name)
    if counts is None or counts.trouble or not sum(counts.cells) + counts.unseen:
        return False
    return sum(1 for chunk in reference.chunks if sum(_of(chunk, column.name).cells)) >= 2
