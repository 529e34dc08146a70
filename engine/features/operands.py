"""What a window aggregates, as 64-bit integers in the order of the values. Called by `windows` and `events`.

Every column type maps to integers that compare as its values do (doubles by their bits, texts by their rank), so that
minimum, quantile and all other selections are one algorithm, and the integer that is selected gives back the same value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from engine.features.exact import Doubles, Flags
from engine.features.frames import Ints

_SIGN = np.int64(2**63 - 1)
_EDGE = 2**63


@dataclass(frozen=True)
class Operand:
    """`physical` (n,) and `valid` (n,), in the order of the rows."""

    physical: Ints
    valid: Flags
    type: str

    @cached_property
    def dense(self) -> tuple[Ints, Ints]:
        """Codes from 0 in the order of the values (0 where invalid), and the distinct physical values by code."""
        levels, codes = np.unique(self.physical[self.valid], return_inverse=True)
        made = np.zeros(len(self.physical), dtype=np.int64)
        made[self.valid] = codes
        return made, levels

    def between(self, low: float | None, high: float | None) -> Flags:
        """Where `low <= value < high`, for numbers; `None` is open."""
        inside = self.valid.copy()
        if low is not None:
            inside &= self.physical >= self._bound(low)
        if high is not None:
            limit = self._bound(high)
            inside &= self.physical < limit if limit < _EDGE else self.physical <= limit
        return inside

    def _bound(self, value: float) -> int:
        """The physical value that a value at or above `value` is not below."""
        if self.type == "f64":
            return int(sortable(np.array([value + 0.0]))[0])
        if math.isinf(value):
            return _EDGE if value > 0 else -_EDGE
        return min(max(math.ceil(value), -_EDGE), _EDGE)


def operand_of(values: pl.Series, type_: str) -> Operand:
    """Values as integers: doubles are finite and have no negative zero, texts are already numbered in their order."""
    valid = values.is_not_null().to_numpy()
    if type_ == "f64":
        return Operand(sortable(values.fill_null(0.0).to_numpy()), valid, type_)
    plain = values.dt.epoch("us") if type_ == "timestamp" else values
    return Operand(plain.cast(pl.Int64).fill_null(0).to_numpy(), valid, type_)


def sortable(values: Doubles) -> Ints:
    """Doubles as integers in the same order; the reverse of `unsortable`.

    >>> unsortable(sortable(np.array([-1.5, 0.0, 2.0]))).tolist()
    [-1.5, 0.0, 2.0]
    """
    return _mirrored(values.view(np.int64))


def unsortable(physical: Ints) -> Doubles:
    """Integers back as the doubles that they stand for."""
    return _mirrored(physical).view(np.float64)


def _mirrored(bits: Ints) -> Ints:
    """Turn the order of the negative ones round: their doubles are stored as sign and size."""
    flip = bits >> 63
    flip &= _SIGN
    flip ^= bits
    return flip
