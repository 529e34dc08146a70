"""Counting a chunk on frozen bins, fast: a few passes over each column of numbers, one grouping of each category.

Enters: values and a column's scale. Leaves: counts. Called by `profile`. Many numbers are first put into thousands of equal
cells, which takes one multiplication a value; only the few that share a cell with an edge are looked up among the edges. It
goes block by block, small enough for the processor's cache. (Compiled by numba the pass takes half, and its import a second.)
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MANY = 4_000  # values from which cells are worth their set-up
_BLOCK = 50_000
_CELLS = 8_192
_MIXED = 255
REGISTERS = 1024


@dataclass(frozen=True, slots=True)
class Summary:
    """A column of numbers counted: `counts` as `count_numbers`, and what goes with them. Sums are of scaled values."""

    counts: NDArray[np.int64]
    nans: int = 0
    infinite: int = 0
    total: float = 0.0
    squares: float = 0.0
    low: float | None = None
    high: float | None = None

    def __add__(self, other: Summary) -> Summary:
        """Give the summary of both."""
        return Summary(
            self.counts + other.counts, self.nans + other.nans, self.infinite + other.infinite, self.total + other.total,
            self.squares + other.squares, min((item for item in (self.low, other.low) if item is not None), default=None),
            max((item for item in (self.high, other.high) if item is not None), default=None),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Grid:
    """Equal cells from `low`, `step` a unit: one beyond on either side, the others between the second edge and the last but one.

    `bins` says the bin of a cell, `_MIXED` where an edge lies in it.
    """

    low: float
    step: float
    bins: NDArray[np.uint8]


def summarise(values: NDArray[np.float64], edges: tuple[float, ...], mean: float, scale: float) -> Summary:
    """Summarise numbers; NaN and infinities are counted apart."""
    grid = _grid(edges) if len(values) >= _MANY else None
    if grid is None:
        with np.errstate(invalid="ignore", over="ignore"):
            return _summarise_few(values, edges, (mean, scale))
    made = Summary(np.zeros(len(edges) + 1, dtype=np.int64))
    with np.errstate(
        invalid="ignore", over="ignore"
    ):  # what is no number lies in the lowest cell, whose values are looked up
        for first in range(0, len(values), _BLOCK):
            made += _summarise_block(values[first : first + _BLOCK], edges, grid, (mean, scale))
    return made


def _summarise_block(
    values: NDArray[np.float64], edges: tuple[float, ...], grid: _Grid, standard: tuple[float, float]
) -> Summary:
    mean, scale = standard
    apart = values - grid.low
    total, nans = float(apart.sum()), 0
    if math.isnan(total):
        missing = np.isnan(values)
        nans = int(np.count_nonzero(missing))
        np.copyto(apart, 0.0, where=missing)
        total = float(apart.sum())
    count, off = len(values) - nans, grid.low - mean
    if not math.isfinite(total) or not count:
        return _summarise_few(values, edges, standard)
    squares = float(np.einsum("i,i->", apart, apart)) + 2.0 * off * total + count * off * off
    np.multiply(apart, grid.step, out=apart)
    found = np.take(grid.bins, apart.astype(np.int64), mode="clip")
    counts = np.bincount(found, minlength=_MIXED + 1)[: len(edges) + 1]
    left = values[np.flatnonzero(found == _MIXED)]
    left = left[~np.isnan(left)] if nans else left
    counts = counts + _looked_up(left, edges)
    # The lowest and the highest value are among those looked up when any is beyond the inner edges.
    ends = left if counts[:2].any() and counts[-2:].any() else values[~np.isnan(values)]
    extremes = (float(ends.min()), float(ends.max()))
    return Summary(counts, nans, 0, (total + count * off) / scale, max(squares, 0.0) / scale**2, *extremes)


def _summarise_few(values: NDArray[np.float64], edges: tuple[float, ...], standard: tuple[float, float]) -> Summary:
    mean, scale = standard
    finite = values[np.isfinite(values)]
    nans = int(np.isnan(values).sum())
    counts = _looked_up(finite, edges) if len(edges) else np.array([0, len(finite)], dtype=np.int64)
    apart = finite - mean
    squares = float(np.einsum("i,i->", apart, apart)) / scale**2
    extremes = (float(finite.min()), float(finite.max())) if len(finite) else (None, None)
    return Summary(counts, nans, len(values) - len(finite) - nans, float(apart.sum()) / scale, squares, *extremes)


def count_numbers(values: NDArray[np.float64], edges: Sequence[float]) -> NDArray[np.int64]:
    """Count finite values on edges; (len(edges) + 1,): below the first, the bins, above the last.

    >>> count_numbers(np.array([-1.0, 0.0, 1.0, 1.5, 9.0]), (0.0, 1.0, 2.0)).tolist()
    [1, 2, 1, 1]
    """
    return summarise(values, tuple(edges), 0.0, 1.0).counts


def _looked_up(values: NDArray[np.float64], edges: Sequence[float]) -> NDArray[np.int64]:
    bounds = np.asarray(edges)
    places = np.searchsorted(bounds, values, side="left")
    places[values == bounds[0]] = 1
    return np.bincount(places, minlength=len(bounds) + 1).astype(np.int64)


@lru_cache(maxsize=4096)
def _grid(edges: tuple[float, ...]) -> _Grid | None:
    """Make the cells of a scale; `None` where the inner edges span nothing. Placing is monotone, so no cell errs."""
    if not 4 <= len(edges) < _MIXED or not edges[-2] > edges[1]:
        return None
    step = _CELLS / (edges[-2] - edges[1])
    low = edges[1] - 1.0 / step
    if not (math.isfinite(step) and math.isfinite(low)):
        return None
    places = np.clip((np.asarray(edges) - low) * step, 0.0, _CELLS + 1.0).astype(np.int32)
    bins = np.searchsorted(places, np.arange(_CELLS + 2), side="left").astype(np.uint8)
    bins[places] = bins[0] = bins[-1] = _MIXED
    return _Grid(low, step, bins)


@lru_cache(maxsize=1 << 17)
def bucket_of(value: str, buckets: int) -> int:
    """Give the bucket of a value: the same in every process and version."""
    return zlib.crc32(value.encode("utf-8", "surrogatepass")) % buckets


def sketch(values: Sequence[str]) -> NDArray[np.uint8]:
    """Sketch distinct values in 1,024 registers that merge by their maximum (HyperLogLog, Flajolet et al. 2007)."""
    registers = bytearray(REGISTERS)
    for value in values:
        index, rank = _register_of(value)
        registers[index] = max(registers[index], rank)
    return np.frombuffer(bytes(registers), dtype=np.uint8)


@lru_cache(maxsize=1 << 17)
def _register_of(value: str) -> tuple[int, int]:
    word = int.from_bytes(blake2b(value.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
    return word & (REGISTERS - 1), 54 - (word >> 10).bit_length() + 1


def estimate_distinct(registers: NDArray[Any]) -> float:
    """Estimate how many distinct values were sketched; 3 % off, typically; small numbers by linear counting.

    >>> round(estimate_distinct(sketch([str(i) for i in range(100)])) / 100, 1)
    1.0
    """
    count = len(registers)
    raw = 0.7213 / (1 + 1.079 / count) * count**2 / float(np.sum(2.0 ** -registers.astype(np.float64)))
    empty = int((registers == 0).sum())
    return count * math.log(count / empty) if raw <= 2.5 * count and empty else raw
