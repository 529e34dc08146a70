"""Compiled sweeps over sorted queries. Called by `coverage_compiled` only; importing this module imports numba.

A kernel visits the query positions in order and keeps a state. Events are added at their `low` and removed at their
`high`: two streams, each sorted, of (position, value). Everything is a 64-bit integer, so the order of additions changes
no result.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_HALF = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_ZERO, _ONE = np.uint64(0), np.uint64(1)


@njit(nogil=True, cache=True)
def find(starts, times, codes, moments, out):  # type: ignore[no-untyped-def]
    """Per event, the first position of its key (`starts[code]` to `starts[code + 1]`) whose time is `moments` or later.

    It gallops on from the last answer, so events in order of time cost constant time each.
    """
    key, begin, end, at = -1, 0, 0, 0
    for event in range(len(codes)):
        if codes[event] != key:
            key = codes[event]
            begin, end = starts[key], starts[key + 1]
            at = begin
        moment = moments[event]
        low, high = begin, at
        if at == begin or times[at - 1] < moment:
            low, step = at, 1
            while low + step <= end and times[low + step - 1] < moment:
                low, step = low + step, step * 2
            high = min(low + step - 1, end)
        while low < high:
            middle = (low + high) >> 1
            if times[middle] < moment:
                low = middle + 1
            else:
                high = middle
        at = low
        out[event] = at


@njit(nogil=True, cache=True)
def place(codes, starts, out):  # type: ignore[no-untyped-def]
    """Counting sort: `out` gets the indices by code, stable; `starts` (one a code) is advanced on the way."""
    for index in range(len(codes)):
        code = codes[index]
        if code >= 0:
            out[starts[code]] = index
            starts[code] += 1


@njit(nogil=True, cache=True)
def ascending(values):  # type: ignore[no-untyped-def]
    """Whether no value is below the one before it."""
    for index in range(1, len(values)):
        if values[index] < values[index - 1]:
            return False
    return True


@njit(nogil=True, cache=True)
def count(low, high, counts):  # type: ignore[no-untyped-def]
    """How many events there are at each position."""
    adding, removing, held = 0, 0, 0
    for at in range(len(counts)):
        while adding < len(low) and low[adding] <= at:
            held += 1
            adding += 1
        while removing < len(high) and high[removing] <= at:
            held -= 1
            removing += 1
        counts[at] = held


@njit(nogil=True, cache=True)
def total(low, added, high, removed, totals):  # type: ignore[no-untyped-def]
    """Sums of the events' values; 64 bits wrap, so a sum that fits is exact."""
    adding, removing, held = 0, 0, 0
    for at in range(len(totals)):
        while adding < len(low) and low[adding] <= at:
            held += added[adding]
            adding += 1
        while removing < len(high) and high[removing] <= at:
            held -= removed[removing]
            removing += 1
        totals[at] = held


@njit(nogil=True, cache=True)
def _product(left, right):  # type: ignore[no-untyped-def]
    """Two unsigned 64-bit integers multiplied: the high and the low half."""
    a, b, c, d = left >> _HALF, left & _LOW, right >> _HALF, right & _LOW
    low, cross, other = b * d, a * d, b * c
    middle = (low >> _HALF) + (cross & _LOW) + (other & _LOW)
    return a * c + (cross >> _HALF) + (other >> _HALF) + (middle >> _HALF), (middle << _HALF) | (low & _LOW)


@njit(nogil=True, cache=True)
def _nearest(high, low):  # type: ignore[no-untyped-def]
    """An unsigned 128-bit integer as the nearest double, half to even."""
    if high == _ZERO:
        return np.float64(low)
    shift = 0
    while high != _ZERO:
        sticky = low & _ONE
        low = (low >> _ONE) | (high << np.uint64(63)) | sticky
        high >>= _ONE
        shift += 1
    return np.float64(low) * 2.0**shift


@njit(nogil=True, cache=True)
def spread(low, added, high, removed, spreads):  # type: ignore[no-untyped-def]
    """Compute n * sum(x^2) - sum(x)^2, exact in 128 bits, as the nearest doubles; the caller has checked that it fits."""
    adding, removing = 0, 0
    held, summed, top, bottom = 0, 0, _ZERO, _ZERO
    for at in range(len(spreads)):
        while adding < len(low) and low[adding] <= at:
            value = added[adding]
            size = np.uint64(abs(value))
            more, less = _product(size, size)
            bottom += less
            top += more + (_ONE if bottom < less else _ZERO)
            held, summed, adding = held + 1, summed + value, adding + 1
        while removing < len(high) and high[removing] <= at:
            value = removed[removing]
            size = np.uint64(abs(value))
            more, less = _product(size, size)
            top -= more + (_ONE if bottom < less else _ZERO)
            bottom -= less
            held, summed, removing = held - 1, summed - value, removing + 1
        size = np.uint64(abs(summed))
        whole, part = _product(np.uint64(held), bottom)
        whole += np.uint64(held) * top
        more, less = _product(size, size)
        whole -= more + (_ONE if part < less else _ZERO)
        spreads[at] = _nearest(whole, part - less)


@njit(nogil=True, cache=True)
def largest_in_order(low, high, values, queue, best):  # type: ignore[no-untyped-def]
    """The largest value at each position, where events leave in the order in which they came: a monotone queue.

    `queue` is a ring of a power of two, larger than the most events at one position. `best` keeps what it has where
    there is none.
    """
    mask, head, tail, adding = len(queue) - 1, 0, 0, 0
    for at in range(len(best)):
        while head < tail and high[queue[head & mask]] <= at:
            head += 1
        while adding < len(low) and low[adding] <= at:
            if high[adding] > at:
                while head < tail and values[queue[(tail - 1) & mask]] <= values[adding]:
                    tail -= 1
                queue[tail & mask] = adding
                tail += 1
            adding += 1
        if head < tail:
            best[at] = values[queue[head & mask]]


@njit(nogil=True, cache=True)
def _sink(heap, size, values, event):  # type: ignore[no-untyped-def]
    """Put an event at the root of a heap (largest value first) and let it sink."""
    at = 0
    while 2 * at + 1 < size:
        child = 2 * at + 1
        if child + 1 < size and values[heap[child + 1]] > values[heap[child]]:
            child += 1
        if values[heap[child]] <= values[event]:
            break
        heap[at] = heap[child]
        at = child
    heap[at] = event


@njit(nogil=True, cache=True)
def largest(low, until, values, heap, best):  # type: ignore[no-untyped-def]
    """The same for events that leave in any order: a heap whose root is dropped when it has left.

    `until` is where each event of the stream of additions leaves; `heap` has room for all of them.
    """
    size, adding = 0, 0
    for at in range(len(best)):
        while adding < len(low) and low[adding] <= at:
            child = size
            while child and values[heap[(child - 1) >> 1]] < values[adding]:
                heap[child] = heap[(child - 1) >> 1]
                child = (child - 1) >> 1
            heap[child] = adding
            size, adding = size + 1, adding + 1
        while size and until[heap[0]] <= at:
            size -= 1
            if size:
                _sink(heap, size, values, heap[size])
        if size:
            best[at] = values[heap[0]]


@njit(nogil=True, cache=True)
def distinct(low, added, high, removed, held, counts):  # type: ignore[no-untyped-def]
    """How many different codes there are at each position; `held` is zeros, one a code."""
    adding, removing, different = 0, 0, 0
    for at in range(len(counts)):
        while adding < len(low) and low[adding] <= at:
            held[added[adding]] += 1
            different += held[added[adding]] == 1
            adding += 1
        while removing < len(high) and high[removing] <= at:
            held[removed[removing]] -= 1
            different -= held[removed[removing]] == 0
            removing += 1
        counts[at] = different


@njit(nogil=True, cache=True)
def nth(low, added, high, removed, tree, targets, found):  # type: ignore[no-untyped-def]
    """The code with rank `targets` (from 1) among those at each position: a binary indexed tree (Fenwick, 1994).

    `tree` is zeros, one more than a power of two above every code; `found` keeps what it has where the rank is below 1.
    The caller asks for no rank above the number of events.
    """
    adding, removing, width = 0, 0, len(tree) - 1
    for at in range(len(found)):
        while adding < len(low) and low[adding] <= at:
            node = added[adding] + 1
            while node <= width:
                tree[node] += 1
                node += node & -node
            adding += 1
        while removing < len(high) and high[removing] <= at:
            node = removed[removing] + 1
            while node <= width:
                tree[node] -= 1
                node += node & -node
            removing += 1
        rest = targets[at]
        if rest < 1:
            continue
        node, step = 0, width
        while step:
            if node + step <= width and tree[node + step] < rest:
                node += step
                rest -= tree[node]
            step >>= 1
        found[at] = node


@njit(nogil=True, cache=True)
def frequent(low, added, high, removed, work, rank, found):  # type: ignore[no-untyped-def]
    """The code that is the `rank`-th most frequent at each position, the smaller code first among equals.

    `work` has three rows of zeros, one a code: counts, the codes that are there, and where each stands among those. A
    query costs the number of different codes times the rank.
    """
    adding, removing, different = 0, 0, 0
    counts, present, place_of = work[0], work[1], work[2]
    chosen = np.zeros(rank, np.int64)
    for at in range(len(found)):
        while adding < len(low) and low[adding] <= at:
            code = added[adding]
            if counts[code] == 0:
                present[different], place_of[code] = code, different
                different += 1
            counts[code] += 1
            adding += 1
        while removing < len(high) and high[removing] <= at:
            code = removed[removing]
            counts[code] -= 1
            if counts[code] == 0:
                different -= 1
                last = present[different]
                present[place_of[code]], place_of[last] = last, place_of[code]
            removing += 1
        if different < rank:
            continue
        size = 0
        for index in range(different):
            code, slot = present[index], size
            while slot and (
                counts[code] > counts[chosen[slot - 1]]
                or (counts[code] == counts[chosen[slot - 1]] and code < chosen[slot - 1])
            ):
                if slot < rank:
                    chosen[slot] = chosen[slot - 1]
                slot -= 1
            if slot < rank:
                chosen[slot] = code
                size = min(size + 1, rank)
        found[at] = chosen[rank - 1]
