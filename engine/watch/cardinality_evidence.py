"""Evidence that a column has more or fewer distinct values than usual: how many a chunk of this many rows has, from sketches.

Enters: a reference and a profile. Leaves: a tail probability and a size by column. Called by `compare`. More rows have more
distinct values: a category's by rarefaction of the reference's counts (Hurlbert 1971), an identifier's by a power of the rows
(Heaps 1978) between single chunks and all of them together; so chunks of unlike sizes compare. What chunks differ by anyway is
measured, never below what one value more or less makes, or the sketch's own error.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import special

from engine.watch.distinct import REGISTERS, codes_of, estimate_distinct
from engine.watch.frozen import FrozenColumn
from engine.watch.profile import ColumnCounts, Profile
from engine.watch.reference import Reference

_SKETCH_ERROR = 1.04 / math.sqrt(REGISTERS)  # of the logarithm, above the small counts that are nearly exact
_EXACT = 200
_MIN_CHUNKS = 5
_ROWS_APART = 0.05  # share of its logarithm by which an extrapolation to other numbers of rows may err


@dataclass(frozen=True, slots=True)
class Cardinality:
    """Distinct values usual and found, the logarithm of their ratio, and the chance of one at least this large."""

    tail: float
    moved: float
    usual: float
    now: float


def judge_cardinality(reference: Reference, profile: Profile) -> dict[str, Cardinality]:
    """Judge every column that has sketches; numbers have none."""
    found = {}
    for column in reference.frozen.columns:
        counts = profile.columns.get(column.name)
        known = [chunk.columns[column.name] for chunk in reference.chunks if column.name in chunk.columns]
        known = [item for item in known if item.registers and item.rows > item.nulls]
        usable = counts is not None and not counts.trouble and counts.registers and counts.rows > counts.nulls
        if counts is not None and usable and len(known) >= _MIN_CHUNKS:
            found[column.name] = _judge(_growth(column, known), known, counts)
    return found


def _judge(expected: Callable[[float], float], known: list[ColumnCounts], counts: ColumnCounts) -> Cardinality:
    rows = [float(item.rows - item.nulls) for item in known]
    apart = np.array([math.log(_distinct(item.registers) / expected(n)) for item, n in zip(known, rows, strict=True)])
    held, now = float(counts.rows - counts.nulls), _distinct(counts.registers)
    usual = expected(held) * math.exp(float(apart.mean()))
    moved = math.log(now / usual)
    least = 1.0 / max(min(now, usual), 1.0)
    sketched = _SKETCH_ERROR if max(now, usual) > _EXACT else 0.0
    further = _ROWS_APART * abs(math.log(held / float(np.mean(rows))))
    spread = math.hypot(max(float(apart.std(ddof=1)), least, sketched) * math.sqrt(1 + 1 / len(known)), further)
    return Cardinality(2.0 * float(special.stdtr(len(known) - 1, -abs(moved) / spread)), moved, usual, now)


def _growth(column: FrozenColumn, known: list[ColumnCounts]) -> Callable[[float], float]:
    """Give how many distinct values so many rows have, up to a factor."""
    if column.kind == "category" and all(item.cells for item in known):
        return _rarefied(column, np.sum([item.cells for item in known], axis=0))
    rows = np.array([item.rows - item.nulls for item in known], dtype=np.float64)
    single = float(np.log([_distinct(item.registers) for item in known]).mean())
    pooled = np.maximum.reduce([np.frombuffer(item.registers, dtype=np.uint8) for item in known])
    apart = math.log(rows.sum()) - float(np.log(rows).mean())
    power = min(max((math.log(max(estimate_distinct(pooled), 1.0)) - single) / apart, 0.0), 1.0)
    return lambda count: max(count, 1.0) ** power


def _rarefied(column: FrozenColumn, cells: np.ndarray) -> Callable[[float], float]:
    """A value of share p is among n rows with probability 1 - exp(-n p); values of one bucket share it evenly."""
    many = _values_of_cells(column.known, len(column.values), column.buckets)
    share = np.asarray(cells, dtype=np.float64) / max(float(cells.sum()), 1.0) / np.maximum(many, 1)
    return lambda rows: max(float((many * -np.expm1(-rows * share)).sum()), 1.0)


@lru_cache(maxsize=128)
def _values_of_cells(known: tuple[str, ...], single: int, buckets: int) -> np.ndarray:
    """Give how many of the known values each cell has: the first `single` ones have one each."""
    rest = np.bincount(codes_of(known[single:]) % buckets, minlength=buckets) if buckets else np.zeros(0)
    return np.concatenate([np.ones(single), rest])


def _distinct(registers: bytes) -> float:
    return max(estimate_distinct(np.frombuffer(registers, dtype=np.uint8)), 1.0)
