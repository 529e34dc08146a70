"""The compiled loop of `counting`: nothing but arrays, so that numba makes machine code of it once and keeps that."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(cache=True, nogil=True)
def count_sorted(
    values: NDArray[np.float64],
    bounds: NDArray[np.float64],
    table: NDArray[np.int64],
    step: float,
    counts: NDArray[np.int64],
) -> None:
    """Add each value's bin to `counts`: 0 below the first bound, i for `(bounds[i-1], bounds[i]]`, the last above all.

    NaN counts nowhere. `table[j]` is the first bound that lies in or after step j of the range.
    """
    low, high, last = bounds[0], bounds[-1], len(bounds)
    for value in values:
        if value > low:
            if value > high:
                counts[last] += 1
            else:
                place = int((value - low) * step)
                start, stop = table[min(place, len(table) - 2)], table[min(place + 1, len(table) - 1)]
                while start < stop:
                    middle = (start + stop) >> 1
                    if bounds[middle] < value:
                        start = middle + 1
                    else:
                        stop = middle
                while start > 1 and bounds[start - 1] >= value:
                    start -= 1
                while start < last - 1 and bounds[start] < value:
                    start += 1
                counts[start] += 1
        elif value == low:
            counts[1] += 1
        elif value < low:
            counts[0] += 1
