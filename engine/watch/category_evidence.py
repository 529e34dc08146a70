"""Evidence that categories moved: the mix as a whole, single categories, values never seen before.

Enters: counts of K reference chunks and of one chunk on a frozen vocabulary (and hashed buckets of the rest), for J columns
at once, with any leading dimensions. Leaves: a tail probability for each component and column, under a null model with
real chunk-to-chunk variance. Called by `compare` and by the simulation.

A column of thousands of values has new ones in every chunk. How many is known without looking at the chunk: the mass of
what was never seen is about the share of rows whose value was seen once (Good 1953, after Turing). So "unseen" is judged
against that, and a single new value that is frequent by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.watch.moderation import Floats, dispersions, moderate
from engine.watch.number_evidence import Cells, Evidence, Judged, alone, gather_evidence, score_cells, shares_of
from engine.watch.scores import count_score, plain_score

COMPONENTS = ("mix", "category", "unseen", "new_value")
_BY_ROWS = 0.8  # part of the level for single categories that goes to the largest difference of shares
_MIN_EXPECTED = 2.0  # rows that a chunk has in a category on average; rarer ones are judged together


@dataclass(frozen=True, slots=True)
class CategoryCounts:
    """Counts of cells by chunk, and what is known of the values outside every vocabulary.

    `reference` (..., J, K, C) and `current` (..., J, C) count cells. `unseen` (..., J, K) are rows of each chunk with a
    value of no other chunk, `singles` (..., J, K) the values that occur once without that chunk; `all_singles` (..., J)
    those that occur once in all. `now_unseen` (..., J) are the chunk's rows with a value that no reference chunk has,
    `now_frequent` (..., J) those of the most frequent of these values, among `distinct` (..., J) values in all.
    """

    reference: Floats
    current: Floats
    unseen: Floats
    singles: Floats
    all_singles: Floats
    now_unseen: Floats
    now_frequent: Floats
    distinct: Floats
    rows: Floats
    now: Floats


def judge_categories(counts: CategoryCounts, part: float = 1.0) -> Evidence:
    """Judge every component of every column; `part` as in `judge_numbers`."""
    usable = (counts.rows.sum(axis=-1) > 0) & (counts.now > 0)
    ratio = part * counts.now / np.maximum(counts.rows.mean(axis=-1), 1.0)
    cells = Cells(counts.reference, counts.rows, counts.current, counts.now)
    found = [_mix(counts, ratio), _category(cells, ratio), _unseen(counts, ratio), _new_value(counts)]
    return gather_evidence(COMPONENTS, found, np.stack([usable] * len(found), axis=-1))


def _mix(counts: CategoryCounts, ratio: Floats) -> Judged:
    """Judge Pearson's chi-squared of the cells that are frequent enough; the others are one cell."""
    total, rows = counts.rows.sum(axis=-1), counts.rows
    pooled = counts.reference.sum(axis=-2)
    smallest = np.minimum(counts.now, rows.mean(axis=-1))
    frequent = pooled * (smallest / np.maximum(total, 1.0))[..., None] >= _MIN_EXPECTED
    share = pooled / np.maximum(total, 1.0)[..., None]
    left = 1.0 - np.where(frequent, share, 0.0).sum(axis=-1)
    has_rest = left * smallest >= _MIN_EXPECTED
    nu = np.maximum(frequent.sum(axis=-1) + has_rest - 1.0, 1.0)
    rest = total[..., None] - rows
    gaps = _gaps(counts.reference, rows, pooled[..., None, :] - counts.reference, rest)
    parts = np.where(frequent[..., None, :], gaps**2 / np.maximum(share, 1e-12)[..., None, :], 0.0)
    error = 1.0 / np.maximum(rows, 1.0) + 1.0 / np.maximum(rest, 1.0)
    lost = np.where(frequent[..., None, :], gaps, 0.0).sum(axis=-1) ** 2 / np.maximum(left, 1e-12)[..., None]
    known = (parts.sum(axis=-1) + np.where(has_rest[..., None], lost, 0.0)) / error
    gap = _gaps(counts.current, counts.now, pooled, total)
    part = np.where(frequent, gap**2 / np.maximum(share, 1e-12), 0.0)
    now_error = 1.0 / np.maximum(counts.now, 1.0) + 1.0 / np.maximum(total, 1.0)
    now_lost = np.where(frequent, gap, 0.0).sum(axis=-1) ** 2 / np.maximum(left, 1e-12)
    squared = (part.sum(axis=-1) + np.where(has_rest, now_lost, 0.0)) / now_error
    effective = _effective(parts / error[..., None], frequent, nu)
    exposure = rows.mean(axis=-1) * (1.0 - (share**2).sum(axis=-1)) / nu
    law = moderate(dispersions(known / nu[..., None], effective, frequent.any(axis=-1), exposure)).scaled(ratio)
    size = np.sqrt(np.maximum(squared - nu, 0.0) * now_error)
    return law.tail(squared / nu, effective), size, alone(size)


def _category(cells: Cells, ratio: Floats) -> Judged:
    """Judge the single category that moved most: by rows, and in standard deviations; gives its share before and now.

    A number of rows is hardest to see in a frequent category, so most of the level goes to the largest difference of shares
    (the L-infinity distance): the chance that any category differs by as much. The rest goes to all categories alike
    (Bonferroni), and finds rare ones.
    """
    before, now, filled = shares_of(cells)
    scored = score_cells(cells, ratio, relative=True)
    single = np.where(filled, scored.tail(scored.score**2), 1.0)
    total = cells.rows.sum(axis=-1)
    moved = np.abs(now - before)
    farthest, rarest = np.argmax(moved, axis=-1)[..., None], np.argmin(single, axis=-1)[..., None]
    share = (cells.reference.sum(axis=-2) + cells.current) / np.maximum(total + cells.now, 1.0)[..., None]
    error = share * (1.0 - share) * (1.0 / np.maximum(cells.now, 1.0) + 1.0 / np.maximum(total, 1.0))[..., None]
    alike = scored.tail(np.take_along_axis(moved, farthest, -1) ** 2 / np.maximum(error, 1e-300))
    np.put_along_axis(alike, farthest, np.take_along_axis(single, farthest, -1), -1)
    by_rows = np.where(filled, alike, 0.0).sum(axis=-1) / _BY_ROWS
    by_score = np.take_along_axis(single, rarest, -1)[..., 0] * np.maximum(filled.sum(axis=-1), 1) / (1.0 - _BY_ROWS)
    which = np.where((by_rows <= by_score)[..., None], farthest, rarest)
    was, is_ = (np.take_along_axis(item, which, -1)[..., 0] for item in (before, now))
    return np.minimum(np.minimum(by_rows, by_score), 1.0), was, is_


def _gaps(counts: Floats, rows: Floats, others: Floats, other_rows: Floats) -> Floats:
    return np.asarray(counts / np.maximum(rows, 1.0)[..., None] - others / np.maximum(other_rows, 1.0)[..., None])


def _effective(parts: Floats, frequent: np.ndarray, nu: Floats) -> Floats:
    """Give the degrees of freedom that a sum of unequal parts has in effect (Satterthwaite 1946).

    Wobble widens frequent cells more than rare ones; `parts` (..., J, K, C) are the cells' squares in the reference. Their
    own noise, of K values each, is taken off the squares.
    """
    chunks = parts.shape[-2]
    mean = np.where(frequent, np.maximum(parts.mean(axis=-2), 1.0), 0.0)
    squares = (mean**2).sum(axis=-1) / (1.0 + 2.0 / max(chunks - 1, 1))
    count = np.maximum(frequent.sum(axis=-1), 1)
    unequal = np.clip(mean.sum(axis=-1) ** 2 / np.maximum(squares, 1e-12) / count, 0.0, 1.0)
    return np.asarray(np.maximum(nu * unequal, 1.0))


def _unseen(counts: CategoryCounts, ratio: Floats) -> Judged:
    """Judge rows with values never seen, against the Good-Turing estimate of how many there are anyway. More is news."""
    rows, total = counts.rows, counts.rows.sum(axis=-1)
    rest = total[..., None] - rows
    known = plain_score(counts.unseen, rows, counts.singles, rest)
    informative = (counts.all_singles / np.maximum(total, 1.0)) * rows.mean(axis=-1) >= 1.0
    law = moderate(dispersions(known**2, 1.0, informative)).scaled(ratio)
    score = np.maximum(count_score(counts.now_unseen, counts.now, counts.all_singles, total), 0.0)
    tail = np.where(score > 0, law.tail(score**2) / 2.0, 1.0)
    usual = counts.all_singles / np.maximum(total, 1.0)
    return tail, usual, counts.now_unseen / np.maximum(counts.now, 1.0)


def _new_value(counts: CategoryCounts) -> Judged:
    """Judge the most frequent new value: the chance that all its rows lie in the chunk, for any of the known values."""
    total = counts.rows.sum(axis=-1)
    share = counts.now / np.maximum(counts.now + total, 1.0)
    candidates = np.maximum(counts.distinct, 1.0)
    tail = np.where(counts.now_frequent > 0, np.minimum(candidates * share**counts.now_frequent, 1.0), 1.0)
    share_now = counts.now_frequent / np.maximum(counts.now, 1.0)
    return tail, np.zeros(share_now.shape), share_now
