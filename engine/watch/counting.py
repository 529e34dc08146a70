"""Counting a chunk on frozen bins, fast: a few passes over each column of numbers, one grouping of each category.

Enters: values and a column's scale. Leaves: counts. Called by `profile`. Many numbers are first counted on thousands of equal
cells, which takes one multiplication a value; only the few that share a cell with an edge are looked up among the edges.
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
_CELLS = 8_192
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
    """Equal cells between the second edge and the last but one, and one on either side: `bins` of those that have no edge."""

    low: float
    step: float
    mixed: NDArray[np.bool_]
    bins: NDArray[np.int64]


def summarise(values: NDArray[np.float64], edges: tuple[float, ...], mean: float, scale: float) -> Summary:
    """Summarise numbers without nulls; NaN and infinities are counted apart."""
    grid = _grid(edges) if len(values) >= _MANY else None
    origin = grid.low if grid is not None else mean
    apart = values - origin
    total = float(apart.sum())
    if not math.isfinite(total):
        nans, infinite = int(np.isnan(values).sum()), int(np.isinf(values).sum())
        if nans or infinite:
            return summarise(values[np.isfinite(values)], edges, mean, scale) + Summary(
                np.zeros(max(len(edges), 1) + 1, dtype=np.int64), nans, infinite
            )
    count, off = len(values), origin - mean
    squares = float(np.einsum("i,i->", apart, apart)) + 2.0 * off * total + count * off * off
    counts, outer = _counted(values, edges, (grid, apart))
    ends = outer if len(outer) else values
    low = None if not count else float(ends.min() if counts[:2].any() else values.min())
    high = None if not count else float(ends.max() if counts[-2:].any() else values.max())
    return Summary(counts, 0, 0, (total + count * off) / scale, max(squares, 0.0) / scale**2, low, high)


def count_numbers(values: NDArray[np.float64], edges: Sequence[float]) -> NDArray[np.int64]:
    """Count finite values on edges; (len(edges) + 1,): below the first, the bins, above the last.

    >>> count_numbers(np.array([-1.0, 0.0, 1.0, 1.5, 9.0]), (0.0, 1.0, 2.0)).tolist()
    [1, 2, 1, 1]
    """
    grid = _grid(tuple(edges)) if len(values) >= _MANY else None
    return _counted(values, edges, (grid, values - grid.low if grid is not None else values))[0]


def _counted(
    values: NDArray[np.float64], edges: Sequence[float], placed: tuple[_Grid | None, NDArray[np.float64]]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Count, by cells if there is a grid, with the values' distances from its start, which are used up.

    Gives those values too that were looked up: all below the second edge and above the last but one are among them.
    """
    grid, apart = placed
    if not len(edges):
        return np.array([0, len(values)], dtype=np.int64), values
    if grid is None:
        return _looked_up(values, edges), values
    np.multiply(apart, grid.step, out=apart)
    np.add(apart, 1.0, out=apart)
    places = np.clip(apart, 0.0, _CELLS + 1.0, out=apart).astype(np.int64)
    whole = np.bincount(places, minlength=_CELLS + 2)
    whole[grid.mixed] = 0
    counts = np.bincount(grid.bins, weights=whole, minlength=len(edges) + 1).astype(np.int64)
    left = values[grid.mixed[places]]
    return np.asarray(counts + _looked_up(left, edges)), left


def _looked_up(values: NDArray[np.float64], edges: Sequence[float]) -> NDArray[np.int64]:
    bounds = np.asarray(edges)
    places = np.searchsorted(bounds, values, side="left")
    places[values == bounds[0]] = 1
    return np.bincount(places, minlength=len(bounds) + 1).astype(np.int64)


@lru_cache(maxsize=4096)
def _grid(edges: tuple[float, ...]) -> _Grid | None:
    """Make the cells of a scale; `None` where the inner edges span nothing. Placing is monotone, so no cell errs."""
    if len(edges) < 4 or not edges[-2] > edges[1]:
        return None
    low, step = edges[1], _CELLS / (edges[-2] - edges[1])
    if not math.isfinite(step):
        return None
    bounds = np.asarray(edges)
    places = np.clip((bounds - low) * step + 1.0, 0.0, _CELLS + 1.0).astype(np.int64)
    mixed = np.zeros(_CELLS + 2, dtype=bool)
    mixed[places] = mixed[0] = mixed[-1] = True
    return _Grid(low, step, mixed, np.searchsorted(places, np.arange(_CELLS + 2), side="left"))


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
