"""Counting a chunk on frozen bins, fast: a sort of each column of numbers, block by block, one grouping of each category.

Enters: values and a column's scale. Leaves: counts. Called by `profile`. Edges are looked up among the sorted values, not
values among the edges: NumPy sorts doubles with vector instructions, without the interpreter's lock, and a block fits into
the processor's cache.
"""

from __future__ import annotations

import math
import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BLOCK = 100_000
REGISTERS = 1024


class _Room(threading.local):
    """Where a thread sorts: memory that is asked for again for every block costs as much as the sort."""

    def __init__(self) -> None:
        self.ordered, self.apart = np.empty(_BLOCK), np.empty(_BLOCK)


_room = _Room()


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


def summarise(values: NDArray[np.float64], edges: tuple[float, ...], mean: float, scale: float) -> Summary:
    """Summarise numbers; NaN and infinities are counted apart."""
    made = Summary(np.zeros(max(len(edges), 1) + 1, dtype=np.int64))
    bounds = np.asarray(edges)
    with np.errstate(over="ignore", invalid="ignore"):
        for first in range(0, len(values), _BLOCK):
            block = values[first : first + _BLOCK]
            ordered = _room.ordered[: len(block)]
            np.copyto(ordered, block)
            ordered.sort()
            made += _summarise_block(ordered, bounds, mean, scale)
    return made


def _summarise_block(ordered: NDArray[np.float64], bounds: NDArray[np.float64], mean: float, scale: float) -> Summary:
    """Summarise ascending values, behind which NaN stands."""
    first = int(np.searchsorted(ordered, -np.inf, side="right"))
    last, real = (int(np.searchsorted(ordered, np.inf, side=side)) for side in ("left", "right"))
    finite = ordered[first:last]
    apart = np.subtract(finite, mean, out=_room.apart[: len(finite)])
    squares = float(np.einsum("i,i->", apart, apart)) / scale**2
    extremes = (float(finite[0]), float(finite[-1])) if len(finite) else (None, None)
    counts, infinite = _count_ordered(finite, bounds), real - len(finite)
    return Summary(counts, len(ordered) - real, infinite, float(apart.sum()) / scale, squares, *extremes)


def _count_ordered(finite: NDArray[np.float64], bounds: NDArray[np.float64]) -> NDArray[np.int64]:
    upto = np.searchsorted(finite, bounds, side="right")
    upto[:1] = np.searchsorted(finite, bounds[:1], side="left")  # the lowest edge belongs to the first bin
    return np.diff(upto if len(bounds) else [0], prepend=0, append=len(finite))


def count_numbers(values: NDArray[np.float64], edges: Sequence[float]) -> NDArray[np.int64]:
    """Count finite values on edges; (len(edges) + 1,): below the first, the bins, above the last.

    >>> count_numbers(np.array([-1.0, 0.0, 1.0, 1.5, 9.0]), (0.0, 1.0, 2.0)).tolist()
    [1, 2, 1, 1]
    """
    return summarise(values, tuple(edges), 0.0, 1.0).counts


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
