"""Worlds to try monitors in, as counts: thousands of references at once, with or without wobble, changed or not.

Numbers are drawn as counts on the frozen bins: quantile bins see any continuous distribution as the same one. The edges of
the range are drawn like the extremes of a sample. Used by `monitor_simulation.py` and by the tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from engine.watch.category_evidence import CategoryCounts
from engine.watch.dependence_evidence import PairMoments
from engine.watch.frozen import BUCKETS, SHARES, VOCABULARY
from engine.watch.number_evidence import NumberCounts

SIZES = (2, 3, 4, 5, 6, 8, 10, 12, 20)
MANY = 5_000


@dataclass(frozen=True)
class World:
    """`references` tables, each with `chunks` reference chunks of `rows` rows and one more; columns wobble by `wobble` sd."""

    references: int
    chunks: int
    rows: int
    wobble: float = 0.0


def draw_numbers(world: World, columns: int, rng: np.random.Generator, cdf: Callable | None = None) -> NumberCounts:
    """Draw columns of normal numbers; `cdf` is the last chunk's distribution function where that differs."""
    shape = (world.references, columns)
    inner = special.ndtri(np.array(SHARES))
    total = world.chunks * world.rows
    low = np.minimum(special.ndtri(rng.beta(1, total, shape)), inner[0] - 1e-6)
    high = np.maximum(-special.ndtri(rng.beta(1, total, shape)), inner[-1] + 1e-6)
    edges = np.concatenate([low[..., None], np.broadcast_to(inner, (*shape, len(inner))), high[..., None]], axis=-1)
    moved = (
        rng.normal(0.0, world.wobble, (*shape, world.chunks + 1))
        if world.wobble
        else np.zeros((*shape, world.chunks + 1))
    )
    drawn = np.zeros((*shape, world.chunks + 1, len(SHARES) + 3))
    for chunk in range(world.chunks + 1):
        of = cdf if cdf is not None and chunk == world.chunks else special.ndtr
        below = of(edges - moved[..., chunk, None])
        shares = np.diff(below, prepend=0.0, append=1.0, axis=-1)
        if chunk < world.chunks:  # the range is the reference's own
            shares[..., [0, -1]] = 0.0
        drawn[..., chunk, :] = rng.multinomial(world.rows, shares / shares.sum(axis=-1, keepdims=True))
    return NumberCounts(drawn[..., :-1, :], drawn[..., -1, :])


def draw_categories(world: World, rng: np.random.Generator, change: Callable | None = None) -> CategoryCounts:
    """Draw nine small categories and one of 5,000 values; `change` maps the last chunk's shares of the small ones."""
    width, columns = VOCABULARY + BUCKETS, len(SIZES) + 1
    drawn = np.zeros((world.references, columns, world.chunks + 1, width))
    for column, size in enumerate(SIZES):
        base = rng.dirichlet(np.full(size, 3.0))
        for chunk in range(world.chunks + 1):
            shares = change(base) if change is not None and chunk == world.chunks else base
            wobbly = shares * np.exp(rng.normal(0.0, world.wobble, (world.references, size)))
            drawn[:, column, chunk, :size] = rng.multinomial(world.rows, wobbly / wobbly.sum(axis=-1, keepdims=True))
    facts = np.zeros((6, world.references, columns))
    by_chunk = np.zeros((2, world.references, columns, world.chunks))
    for index in range(world.references):
        drawn[index, -1], facts[:4, index, -1], by_chunk[:, index, -1] = _many_values(world, rng)
    facts[3, :, :-1] = SIZES
    rows = np.full((world.references, columns, world.chunks), float(world.rows))
    return CategoryCounts(
        drawn[:, :, :-1], drawn[:, :, -1], by_chunk[0], by_chunk[1], facts[0], facts[1], facts[2], facts[3], rows,
        np.full((world.references, columns), float(world.rows)),
    )  # fmt: skip


def _many_values(world: World, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    base = np.arange(1, MANY + 1) ** -0.8
    bucket = rng.integers(0, BUCKETS, MANY)
    counts = np.empty((world.chunks + 1, MANY))
    for chunk in range(world.chunks + 1):
        wobbly = base * np.exp(rng.normal(0.0, world.wobble, MANY))
        counts[chunk] = rng.multinomial(world.rows, wobbly / wobbly.sum())
    total = counts[:-1].sum(axis=0)
    cell = VOCABULARY + bucket
    cell[np.argsort(-total, kind="stable")[:VOCABULARY]] = np.arange(VOCABULARY)
    cells = np.array([np.bincount(cell, weights=chunk, minlength=VOCABULARY + BUCKETS) for chunk in counts])
    rest = total - counts[:-1]
    new = counts[-1][total == 0]
    facts = np.array([(total == 1).sum(), new.sum(), new.max(initial=0), (total > 0).sum() + (new > 0).sum()])
    return cells, facts, np.array([(counts[:-1] * (rest == 0)).sum(axis=1), (rest == 1).sum(axis=1)])


def draw_moments(world: World, columns: int, rng: np.random.Generator, correlation: float = 0.0) -> PairMoments:
    """Draw covariances of independent columns; in the last chunk the first two are correlated."""
    low, high = np.tril_indices(columns, -1)
    found = np.empty((world.references, len(low), world.chunks + 1))
    mixed = np.eye(columns)
    mixed[1, :2] = correlation, np.sqrt(1.0 - correlation**2)
    for chunk in range(world.chunks + 1):
        root = np.tril(rng.normal(size=(world.references, columns, columns)), -1)  # Bartlett 1933
        freedom = world.rows - 1 - np.arange(columns)
        root[:, range(columns), range(columns)] = np.sqrt(rng.chisquare(freedom, size=(world.references, columns)))
        if chunk == world.chunks:
            root = mixed @ root
        found[..., chunk] = (root @ root.transpose(0, 2, 1) / world.rows)[:, low, high]
    rows = np.full((world.references, world.chunks), float(world.rows))
    now = np.full(world.references, float(world.rows))
    return PairMoments(found[..., :-1], found[..., -1], np.ones(found.shape[:-1]), rows, now)
