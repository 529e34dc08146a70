"""Counting a chunk on frozen bins, fast: one pass over each column of numbers, one grouping of each category.

Enters: values and a column's scale. Leaves: counts. Called by `profile`. Large columns go through a compiled loop that
looks a value's neighbourhood up in a table and searches within it; small ones through numpy; both count the same.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LARGE = 200_000  # values from which the compiled loop is worth its start
_TABLE = 2048
REGISTERS = 1024


def count_numbers(values: NDArray[np.float64], edges: Sequence[float]) -> NDArray[np.int64]:
    """Count finite values on edges; (len(edges) + 1,): below the first, the bins, above the last.

    >>> count_numbers(np.array([-1.0, 0.0, 1.0, 1.5, 9.0]), (0.0, 1.0, 2.0)).tolist()
    [1, 2, 1, 1]
    """
    if len(values) >= _LARGE and len(edges) > 1 and edges[-1] > edges[0]:
        return _count_many(values, tuple(edges))
    bounds = np.asarray(edges)
    if not len(bounds):
        return np.array([0, len(values)], dtype=np.int64)
    places = np.searchsorted(bounds, values, side="left")
    places[values == bounds[0]] = 1
    return np.bincount(places, minlength=len(bounds) + 1).astype(np.int64)


def _count_many(values: NDArray[np.float64], edges: tuple[float, ...]) -> NDArray[np.int64]:
    from engine.watch.counting_compiled import count_sorted  # noqa: PLC0415 - numba costs half a second

    bounds, table, step = _table(edges)
    counts = np.zeros(len(bounds) + 1, dtype=np.int64)
    count_sorted(values, bounds, table, step, counts)
    return counts


@lru_cache(maxsize=4096)
def _table(edges: tuple[float, ...]) -> tuple[NDArray[np.float64], NDArray[np.int64], float]:
    """For each of many equal steps between the first and the last edge: the first edge that a value there may lie under."""
    bounds = np.asarray(edges)
    step = _TABLE / (bounds[-1] - bounds[0])
    places = np.clip(((bounds - bounds[0]) * step).astype(np.int64), 0, _TABLE - 1)
    table = np.searchsorted(places, np.arange(_TABLE + 1), side="left").astype(np.int64)
    return bounds, table, float(step)


def bucket_of(value: str, buckets: int) -> int:
    """Give the bucket of a value: the same in every process and version."""
    return zlib.crc32(value.encode("utf-8", "surrogatepass")) % buckets


def sketch(values: Sequence[str]) -> NDArray[np.uint8]:
    """Sketch distinct values in 1,024 registers that merge by their maximum (HyperLogLog, Flajolet et al. 2007)."""
    registers = np.zeros(REGISTERS, dtype=np.uint8)
    for value in values:
        word = int.from_bytes(blake2b(value.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
        index, rest = word & (REGISTERS - 1), word >> 10
        rank = 54 - rest.bit_length() + 1
        registers[index] = max(registers[index], rank)
    return registers


def estimate_distinct(registers: NDArray[Any]) -> float:
    """Estimate how many distinct values were sketched; 3 % off, typically; small numbers by linear counting.

    >>> round(estimate_distinct(sketch([str(i) for i in range(100)])) / 100, 1)
    1.0
    """
    count = len(registers)
    raw = 0.7213 / (1 + 1.079 / count) * count**2 / float(np.sum(2.0 ** -registers.astype(np.float64)))
    empty = int((registers == 0).sum())
    return count * math.log(count / empty) if raw <= 2.5 * count and empty else raw
