"""The compiled kernel of `Forest`. Importing this module imports numba.

Eight trees go down in step: a step of one waits for memory while the others are counted, and no branch is guessed. Leaves are added
up in the order of the trees, as LightGBM does, and the links are written as it writes them.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from .forest import AS_ZERO, CHILDREN, EXPONENTIAL, SIGMOID, SOFTMAX, ZERO_TOO

_BESIDE = 8
_LEAST = float(np.float32(1e-35))  # what LightGBM reads as zero
_RIGHT, _LEFT, _CHILDREN = np.uint64(1), np.uint64(0), np.uint64(CHILDREN)
_BIT = np.uint32(1)
_CODES = 2.0**31


@njit(nogil=True, cache=True, error_model="numpy")
def score(x, column, threshold, child, first, words, value, root, inner, missing, link, steepness, out):  # type: ignore[no-untyped-def]
    """Score rows `x` (n, k) into `out` (n, classes); the other arguments are fields of `Forest`."""
    trees, classes = len(root), out.shape[1]
    row, at = np.empty(x.shape[1]), np.empty(_BESIDE, np.uint64)
    for index in range(x.shape[0]):
        _read(x[index], missing, row)
        out[index] = 0.0
        for start in range(0, trees, _BESIDE):
            beside = min(_BESIDE, trees - start)
            for lane in range(beside):
                at[lane] = root[start + lane]
            going = True
            while going:
                going = False
                for lane in range(beside):
                    node = at[lane]
                    looked = column[node]
                    if looked < 0:
                        given, side = row[~looked], _RIGHT
                        if given > -1.0 and given < _CODES:
                            code = np.int64(given)
                            word = first[node] + (code >> 5)
                            if word < first[node + _RIGHT] and (words[word] >> np.uint32(code & 31)) & _BIT:
                                side = _LEFT
                    else:
                        given = row[looked]
                        side = np.uint64(given > threshold[node]) + (np.uint64(math.isnan(given)) << _RIGHT)
                    node = np.uint64(child[node * _CHILDREN + side])
                    at[lane] = node
                    going |= node < inner
            for lane in range(beside):
                out[index, (start + lane) % classes] += value[at[lane]]
        _link(out[index], link, steepness)


@njit(nogil=True, cache=True, error_model="numpy")
def _read(given, missing, row):  # type: ignore[no-untyped-def]
    """A row as the trees see it: what is zero, and what is missing."""
    for place in range(len(given)):
        value = given[place]
        if -_LEAST <= value <= _LEAST:
            value = np.nan if missing[place] == ZERO_TOO else 0.0
        elif missing[place] == AS_ZERO and math.isnan(value):
            value = 0.0
        row[place] = value


@njit(nogil=True, cache=True, error_model="numpy")
def _link(sums, link, steepness):  # type: ignore[no-untyped-def]
    """The objective's link, in place."""
    if link == SIGMOID:
        for place in range(len(sums)):
            sums[place] = 1.0 / (1.0 + math.exp(-steepness * sums[place]))
    elif link == EXPONENTIAL:
        for place in range(len(sums)):
            sums[place] = math.exp(sums[place])
    elif link == SOFTMAX:
        most, total = sums.max(), 0.0
        for place in range(len(sums)):
            sums[place] = math.exp(sums[place] - most)
            total += sums[place]
        for place in range(len(sums)):
            sums[place] /= total
