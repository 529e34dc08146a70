"""Coordinates in which the loss of a linear model curves about the same in every direction, so that few steps find its minimum.

Enters: encoded rows. Leaves: a map between weights and such coordinates: the Cholesky factor of the Hessian where all rows have
the same chance. Called by the trainer `linear`, within its one thread. The map decides how fast the minimum is found, never which
one it is: a part of the rows is enough to make it of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy.linalg import cholesky, solve_triangular

from .encoding import Encoding, Floats

_ROWS = 32_768  # enough for the curvature of some hundred weights
_DENSE = 400  # weights that are seen together; levels beyond are seen one by one
_RIDGE = 1e-6  # of the mean curvature: columns that are sums of others leave directions without any


class Rows(Protocol):
    """Some encoded rows: weights (rows,), numbers (k, rows), null rows of each indicator, places of each category."""

    @property
    def weight(self) -> Floats: ...  # noqa: D102
    @property
    def numbers(self) -> Floats: ...  # noqa: D102
    @property
    def absent(self) -> tuple[Any, ...]: ...  # noqa: D102
    @property
    def levels(self) -> tuple[Any, ...]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Conditioning:
    """Coordinates are `lower.T` times the first weights; the others are only scaled."""

    lower: Floats
    scales: Floats

    def coordinates(self, weights: Floats) -> Floats:
        """Give the coordinates of weights, (d,)."""
        size = len(self.lower)
        return np.concatenate([self.lower.T @ weights[:size], weights[size:] * self.scales])

    def weights(self, coordinates: Floats) -> Floats:
        """Give the weights at coordinates, (d,)."""
        size = len(self.lower)
        first = solve_triangular(self.lower, coordinates[:size], lower=True, trans="T", check_finite=False)
        return np.concatenate([first, coordinates[size:] / self.scales])

    def gradient(self, gradient: Floats) -> Floats:
        """Give the gradient by coordinates from that by weights, (d,)."""
        size = len(self.lower)
        first = solve_triangular(self.lower, gradient[:size], lower=True, check_finite=False)
        return np.concatenate([first, gradient[size:] / self.scales])


def condition(blocks: Sequence[Rows], encoding: Encoding, l2: float, curvature: float) -> Conditioning:
    """Make the map of evenly chosen blocks; `curvature` is the mean second derivative of a row's loss by its score."""
    n = sum(len(block.weight) for block in blocks)
    chosen = blocks[:: max(1, n // _ROWS)]
    narrow = 1 + len(encoding.numbers) + len(encoding.indicators)
    seen = _seen_together(narrow, encoding)
    square = np.zeros((seen[-1], seen[-1]))
    counts = [np.zeros(len(levels)) for levels in encoding.levels[len(seen) - 1 :]]
    for block in chosen:
        dense = _dense(block, seen)
        square += (dense * block.weight) @ dense.T
        for place, member in enumerate(block.levels[len(seen) - 1 :]):
            counts[place] += np.bincount(member, weights=block.weight, minlength=len(counts[place]) + 1)[:-1]
    share = curvature / sum(len(block.weight) for block in chosen)
    square *= share
    square[np.diag_indices(len(square))] += l2 / n + _RIDGE * float(np.trace(square)) / len(square)
    return Conditioning(cholesky(square, lower=True), np.sqrt(np.concatenate([[], *counts]) * share + l2 / n))


def _seen_together(narrow: int, encoding: Encoding) -> list[int]:
    """Give where the intercept, numbers and indicators end, and each category whose levels are seen with them."""
    ends = [narrow]
    for levels in encoding.levels:
        if ends[-1] + len(levels) > _DENSE:
            break
        ends.append(ends[-1] + len(levels))
    return ends


def _dense(block: Rows, ends: Sequence[int]) -> Floats:
    """Write rows out, (weights seen together, rows)."""
    found = np.zeros((ends[-1], len(block.weight)))
    found[0] = 1.0
    found[1 : 1 + len(block.numbers)] = block.numbers
    for place, rows in enumerate(block.absent, start=1 + len(block.numbers)):
        found[place, rows] = 1.0
    for start, end, member in zip(ends, ends[1:], block.levels, strict=False):  # those that are seen
        rows = np.flatnonzero(member < end - start)
        found[start + member[rows], rows] = 1.0
    return found
