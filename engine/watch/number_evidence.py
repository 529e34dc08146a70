"""Evidence that numbers moved: where they lie, how they spread, their shape, single spikes, their range.

Enters: counts of K reference chunks and of one chunk on the same frozen bins, for J columns at once, with any leading
dimensions (a simulation compares thousands at a time). Leaves: a tail probability for each component and column, under a
null model with real chunk-to-chunk variance. Called by `compare` and by the simulation.

The components are Neyman's (1937) smooth test on the reference's own scale: location, spread and skew are the first three
orthonormal polynomials of normal scores (van der Waerden 1952; Rayner & Best 1989), shape is what is left of Pearson's
chi-squared over tenths, a spike is the most surprising single bin. Wobble of the mean then stays in one component.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special

from engine.watch.moderation import Floats, Moderated, dispersions, moderate
from engine.watch.scores import combine, count_score, plain_score, unskewed

Mask: TypeAlias = "NDArray[np.bool_]"

COMPONENTS = ("location", "spread", "skew", "shape", "spike", "range")
_TENTHS = 10
_MIN_EXPECTED = 1.0  # rows that a chunk has in a bin on average, below which the bin says nothing about wobble
_FARTHEST = (
    2.6  # normal score beyond which rows, one in a hundred, do not weigh more in a skewness: a few would rule it
)
_DISTINCT = 1e-4  # share of a polynomial's variance that must be its own


@dataclass(frozen=True, slots=True)
class NumberCounts:
    """Counts of `reference` (..., J, K, B) and `current` (..., J, B): the outer bins lie below and above the reference's range."""

    reference: Floats
    current: Floats


@dataclass(frozen=True, slots=True)
class Evidence:
    """Tail probabilities and signed effects by component, (..., J, C); `present` says which components a column has.

    `before` and `now` are the shares of rows that a component is about; NaN where it is about something else.
    """

    names: tuple[str, ...]
    tail: Floats
    score: Floats
    present: Mask
    before: Floats
    now: Floats

    def shares(self, name: str, index: int) -> tuple[float | None, float | None]:
        """Give the shares of rows that one component is about, before and now, for one of J columns; none for a mean."""
        place = self.names.index(name)
        before, now = float(self.before[index, place]), float(self.now[index, place])
        return (None, None) if np.isnan(before) else (before, now)


@dataclass(frozen=True, slots=True)
class Basis:
    """Orthonormal scores of the bins under the reference, (..., J, B): location, spread, skew; which exist; and the tenths."""

    location: Floats
    spread: Floats
    skew: Floats
    has_location: Mask
    has_spread: Mask
    has_skew: Mask
    share: Floats
    tenth: NDArray[np.int64]


def basis_of(pooled: Floats) -> Basis:
    """Make the scores of bins from the pooled counts of the reference, (..., J, B)."""
    share = pooled / np.maximum(pooled.sum(axis=-1, keepdims=True), 1.0)
    middle = np.cumsum(share, axis=-1) - share / 2
    normal = special.ndtri(np.clip(middle, 1e-9, 1 - 1e-9))
    location, has_location = _orthonormal(normal, share, ())
    spread, has_spread = _orthonormal(location**2, share, (location,))
    skew, has_skew = _orthonormal(np.clip(normal, -_FARTHEST, _FARTHEST) ** 3, share, (location, spread))
    tenth = np.minimum((middle * _TENTHS).astype(np.int64), _TENTHS - 1)
    return Basis(location, spread, skew, has_location, has_spread, has_skew, share, tenth)


def _orthonormal(values: Floats, share: Floats, against: tuple[Floats, ...]) -> tuple[Floats, Mask]:
    """Make values orthogonal to a constant and to others, and of variance one, under the shares."""
    left = values - (share * values).sum(axis=-1, keepdims=True)
    whole = (share * left**2).sum(axis=-1)
    for other in against:
        left = left - (share * left * other).sum(axis=-1, keepdims=True) * other
    variance = (share * left**2).sum(axis=-1)
    exists = variance > _DISTINCT * np.maximum(whole, 1e-6)
    return np.where(exists[..., None], left / np.sqrt(np.where(exists, variance, 1.0))[..., None], 0.0), exists


Judged: TypeAlias = "tuple[Floats, Floats, Floats]"
"""Tails, then two numbers: an effect and NaN, or the shares before and now."""


def gather_evidence(names: tuple[str, ...], found: Sequence[Judged], present: Mask) -> Evidence:
    """Put judged components side by side."""
    tail = np.where(present, np.stack([part[0] for part in found], axis=-1), 1.0)
    first, second = (np.stack([part[place] for part in found], axis=-1) for place in (1, 2))
    shares = ~np.isnan(second)
    return Evidence(
        names, tail, np.where(shares, second - first, first), present, np.where(shares, first, np.nan), second
    )


def alone(effect: Floats) -> Floats:
    """Give NaN in an effect's shape: it is about no share."""
    return np.full(effect.shape, np.nan)


def judge_numbers(counts: NumberCounts, part: float = 1.0) -> Evidence:
    """Judge every component of every column; a component that a column does not have is absent, with tail 1.

    `part` is the share of the chunk's rows that wobbled as one: less than 1 when it is several chunks together.
    """
    rows = counts.reference.sum(axis=-1)
    now = counts.current.sum(axis=-1)
    folded = NumberCounts(counts.reference, _folded(counts.current))
    basis = basis_of(counts.reference.sum(axis=-2))
    usable = (rows.sum(axis=-1) > 0) & (now > 0)
    ratio = part * now / np.maximum(rows.mean(axis=-1), 1.0)
    shape, has_shape = _shape(folded, basis, ratio)
    found = [
        _linear(folded, basis.location, basis, ratio),
        _linear(folded, basis.spread, basis, ratio),
        _linear(folded, basis.skew, basis, ratio),
        shape,
        _spike(counts, ratio),
        _range(counts),
    ]
    has = [basis.has_location, basis.has_spread, basis.has_skew, has_shape, usable, usable]
    return gather_evidence(COMPONENTS, found, np.stack([mask & usable for mask in has], axis=-1))


def _folded(current: Floats) -> Floats:
    """Put the rows beyond the range into the outermost bins within: the reference has none, so scores of theirs are no match."""
    inner = current[..., 1:-1].copy()
    inner[..., 0] += current[..., 0]
    inner[..., -1] += current[..., -1]
    empty = np.zeros((*current.shape[:-1], 1))
    return np.concatenate([empty, inner, empty], axis=-1)


def _linear(counts: NumberCounts, scores: Floats, basis: Basis, ratio: Floats) -> Judged:
    """Judge a mean of bin scores; gives its tail and its size in reference standard deviations."""
    rows, now = counts.reference.sum(axis=-1), counts.current.sum(axis=-1)
    total = rows.sum(axis=-1)
    sums = np.einsum("...kb,...b->...k", counts.reference, scores)
    rest = np.maximum(total[..., None] - rows, 1.0)
    apart = sums / np.maximum(rows, 1.0) - (sums.sum(axis=-1)[..., None] - sums) / rest
    known = apart**2 / (1.0 / np.maximum(rows, 1.0) + 1.0 / rest)
    moved = np.einsum("...b,...b->...", counts.current, scores) / np.maximum(now, 1.0)
    error = 1.0 / np.maximum(now, 1.0) + 1.0 / np.maximum(total, 1.0)
    skewness = (basis.share * scores**3).sum(axis=-1) * _third(now, total) / error**1.5
    law = moderate(dispersions(known, 1.0, np.ones(total.shape, dtype=bool))).scaled(ratio)
    score = unskewed(moved / np.sqrt(error), skewness, law.variance)
    return law.tail(score**2), moved, alone(moved)


def _third(now: Floats, total: Floats) -> Floats:
    """The third cumulant of a difference of means of two samples, for a unit one."""
    return np.asarray(1.0 / np.maximum(now, 1.0) ** 2 - 1.0 / np.maximum(total, 1.0) ** 2)


def _shape(counts: NumberCounts, basis: Basis, ratio: Floats) -> tuple[Judged, Mask]:
    """Judge what location, spread and skew leave of the chi-squared over tenths."""
    onto = (basis.tenth[..., None] == np.arange(_TENTHS)).astype(np.float64)
    share = np.einsum("...b,...bt->...t", basis.share, onto)
    polynomials = _tenth_polynomials(basis, onto, share)
    filled = (share > 0).sum(axis=-1)
    nu = (filled - 1 - sum(exists.astype(np.int64) for _, exists in polynomials)).astype(np.float64)
    present = nu >= 1
    reference = np.einsum("...kb,...bt->...kt", counts.reference, onto)
    rows = reference.sum(axis=-1)
    rest = reference.sum(axis=-2)[..., None, :] - reference
    known = _residual(reference, rest, share[..., None, :], [(item[..., None, :]) for item, _ in polynomials])
    current = np.einsum("...b,...bt->...t", counts.current, onto)
    now = _residual(current, reference.sum(axis=-2), share, [item for item, _ in polynomials])
    nu = np.maximum(nu, 1.0)
    law = moderate(dispersions(known / nu[..., None], nu, present & (rows.min(axis=-1) > 0))).scaled(ratio)
    tail = law.tail(now / nu, nu)
    total = reference.sum(axis=(-1, -2))
    size = np.sqrt(np.maximum(now - nu, 0.0) / np.maximum(1.0, _harmonic(current.sum(axis=-1), total)))
    return (tail, size, alone(size)), present


def _tenth_polynomials(basis: Basis, onto: Floats, share: Floats) -> list[tuple[Floats, Mask]]:
    """Location, spread and skew as functions of tenths, orthonormal there."""
    means = [
        np.einsum("...b,...b,...bt->...t", basis.share, scores, onto) / np.maximum(share, 1e-12)
        for scores in (basis.location, basis.spread, basis.skew)
    ]
    first, has_first = _orthonormal(means[0], share, ())
    second, has_second = _orthonormal(means[1], share, (first,))
    third, has_third = _orthonormal(means[2], share, (first, second))
    held = (has_first & basis.has_location, has_second & basis.has_spread, has_third & basis.has_skew)
    return list(zip((first, second, third), held, strict=True))


def _residual(counts: Floats, others: Floats, share: Floats, polynomials: list[Floats]) -> Floats:
    """Pearson's chi-squared of two samples, less its part along the polynomials."""
    n, m = np.maximum(counts.sum(axis=-1), 1.0), np.maximum(others.sum(axis=-1), 1.0)
    apart = counts / n[..., None] - others / m[..., None]
    error = 1.0 / n + 1.0 / m
    whole = np.where(share > 0, apart**2 / np.where(share > 0, share, 1.0), 0.0).sum(axis=-1)
    along = sum(((apart * scores).sum(axis=-1)) ** 2 for scores in polynomials)
    return np.asarray(np.maximum(whole - along, 0.0) / error)


def _harmonic(n: Floats, m: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 / np.maximum(n, 1.0) + 1.0 / np.maximum(m, 1.0)))


def _spike(counts: NumberCounts, ratio: Floats) -> Judged:
    """Judge the most surprising bin within the reference's range; gives its tail and its share before and now."""
    reference, current = counts.reference[..., 1:-1], counts.current[..., 1:-1]
    rows, now = counts.reference.sum(axis=-1), counts.current.sum(axis=-1)
    return judge_worst(Cells(reference, rows, current, now), ratio)


@dataclass(frozen=True, slots=True)
class Cells:
    """Counts of cells, (..., J, K, B) and (..., J, B), among all rows, (..., J, K) and (..., J)."""

    reference: Floats
    rows: Floats
    current: Floats
    now: Floats


@dataclass(frozen=True, slots=True)
class ScoredCells:
    """Standard scores of a chunk's cells, (..., J, B), and their null model; the cells of all columns are one family."""

    score: Floats
    law: Moderated

    def tail(self, squared: Floats) -> Floats:
        """Give the probability that each cell's squared score is at least this; (..., J, B)."""
        flat = (*squared.shape[:-2], squared.shape[-2] * squared.shape[-1])
        return self.law.tail(squared.reshape(flat)).reshape(squared.shape)


def score_cells(cells: Cells, ratio: Floats, *, relative: bool = False) -> ScoredCells:
    """Score each cell's share by itself. `relative`: a share wobbles in proportion to itself, as those of categories do."""
    known_score, score = cell_scores(cells)
    shape = score.shape
    expected = cells.reference.mean(axis=-2)
    flat = (*shape[:-2], shape[-2] * shape[-1])
    informative = (
        (expected >= _MIN_EXPECTED) & (expected <= cells.rows.mean(axis=-1)[..., None] - _MIN_EXPECTED)
    ).reshape(flat)
    known = np.swapaxes(known_score, -1, -2).reshape(*flat, -1) ** 2
    stretched = np.broadcast_to(ratio[..., None], shape).reshape(flat)
    exposure = (expected * (1.0 - expected / np.maximum(cells.rows.mean(axis=-1), 1.0)[..., None])).reshape(flat)
    law = moderate(dispersions(known, 1.0, informative, exposure if relative else None)).scaled(stretched)
    return ScoredCells(score, law)


def judge_cells(cells: Cells, ratio: Floats, *, relative: bool = False) -> Floats:
    """Judge each cell's share by itself, as `score_cells` scores it. (..., J, B) tails."""
    scored = score_cells(cells, ratio, relative=relative)
    return scored.tail(scored.score**2)


def judge_worst(cells: Cells, ratio: Floats) -> Judged:
    """Judge the most surprising of a column's cells, as one of many with equal parts of the level; its share before and now."""
    before, now, filled = shares_of(cells)
    tail = np.where(filled, judge_cells(cells, ratio), 1.0)
    worst = np.argmin(tail, axis=-1)[..., None]
    least, was, is_ = (np.take_along_axis(item, worst, -1)[..., 0] for item in (tail, before, now))
    return np.minimum(least * np.maximum(filled.sum(axis=-1), 1), 1.0), was, is_


def shares_of(cells: Cells) -> tuple[Floats, Floats, Mask]:
    """Give each cell's share of the reference and of the chunk, and whether either has any row of it; (..., J, B)."""
    pooled = cells.reference.sum(axis=-2)
    before = pooled / np.maximum(cells.rows.sum(axis=-1), 1.0)[..., None]
    return before, cells.current / np.maximum(cells.now, 1.0)[..., None], (pooled + cells.current) > 0


def cell_scores(cells: Cells) -> tuple[Floats, Floats]:
    """Give the standard scores of the reference chunks' cells, each without its chunk, and of the chunk's."""
    total, rows = cells.reference.sum(axis=-2), cells.rows
    rest = rows.sum(axis=-1)[..., None] - rows
    known = plain_score(cells.reference, rows[..., None], total[..., None, :] - cells.reference, rest[..., None])
    return known, count_score(cells.current, cells.now[..., None], total, rows.sum(axis=-1)[..., None])


def _range(counts: NumberCounts) -> Judged:
    """Judge rows beyond the reference's range: none of its rows is, so it takes few to tell."""
    rows, now = counts.reference.sum(axis=(-1, -2)), counts.current.sum(axis=-1)
    outside = np.stack([counts.current[..., 0], counts.current[..., -1]], axis=-1)
    # The chance that the x largest of all rows are all the chunk's; nothing is known of wobble out there.
    chance = (now / np.maximum(now + rows, 1.0))[..., None] ** outside
    tail = combine(np.where(outside > 0, chance, 1.0), np.ones(outside.shape))
    share = outside.sum(axis=-1) / np.maximum(now, 1.0)
    return tail, np.zeros(share.shape), share
