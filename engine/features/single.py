"""Windows and lookups of one request, from the events of its keys. Called by `prepared`.

The rules are those of `windows` and `lookups`; the integers are the same because they are exact, and the doubles because
the formulas of `exact` make them. Rows that all count by T are slices; where some came late or were replaced, they are chosen.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.features.events import Events, Scalar
from engine.features.exact import (
    QUANTUM_LIMIT,
    mean_formula,
    quantile_rank,
    smoothed_formula,
    sum_formula,
    variance_formula,
)
from engine.features.finalising import absent, fills_nulls, given
from engine.features.frames import Ints
from engine.features.steps import Lookup, Window
from engine.features.timeline import LONGEST
from engine.features.tracks import EXACT, Track, Trees, track_key, track_of

_INT64 = 2**63
Array = npt.NDArray[Any]


@dataclass(slots=True)
class View:
    """The events of one key at one time: those before it, and which of them count (`None`: all).

    `taken`: what steps of one track and window share.
    """

    events: Events
    at: int
    end: int
    shown: Ints | None
    taken: dict[tuple[str, int], tuple[Track, Array]] = field(default_factory=dict)
    _begins: dict[int, int] = field(default_factory=dict)

    def begin(self, window: int) -> int:
        """Where the window of this length begins, among those shown."""
        if window not in self._begins:
            since = self.at - min(window, LONGEST)
            times = self.events.time if self.shown is None else self.events.time[self.shown]
            self._begins[window] = int(times.searchsorted(since))
        return self._begins[window]

    def latest(self) -> int:
        """The latest row that counts; -1 for none."""
        if self.shown is None:
            return self.end - 1
        return int(self.shown[-1]) if len(self.shown) else -1

    def take(self, track: Track, window: int) -> Array:
        """A track's values of the rows that count, in total order."""
        first = self.begin(window)
        if self.shown is not None:
            return track.among(self.shown[first:])
        low, high = track.bounds(min(first, self.end), self.end)
        return track.data[low:high]


def view_of(events: Events, at: int) -> View:
    """Look at events at a time."""
    end = int(events.time.searchsorted(at))
    if not end:
        return View(events, at, 0, None)
    if events.until is None or events.keep("until", lambda kept: int(given_until(kept).min())) >= at:
        known = events.keep("known", lambda kept: np.maximum.accumulate(kept.available))
        if known[end - 1] <= at:
            return View(events, at, end, None)
    counts = events.available[:end] <= at
    if events.until is not None:
        counts &= events.until[:end] >= at
    return View(events, at, end, np.flatnonzero(counts))


def given_until(events: Events) -> Ints:
    """The last moments at which rows count; only where there are any."""
    return events.until if events.until is not None else events.time


def look_up(view: View, step: Lookup) -> Scalar:
    """The column of the latest row that counts; `None` without one, or when it is too old."""
    row = view.latest()
    if row < 0 or (step.max_age is not None and view.events.time[row] < view.at - min(step.max_age, LONGEST)):
        return None
    return view.events.columns[step.column][row]


@dataclass(frozen=True, slots=True)
class Request:
    """The row that is asked about, as one more row of its own window: its value; there is no such object where not."""

    value: Scalar


Aggregate = Callable[[View, Request | None], Scalar]


def aggregate(step: Window, trees: Trees) -> Aggregate:
    """A step as a function of the events of its key, and of the row that is asked about where it counts."""
    finish = _FINISH[step.agg](step)
    empty = _typed(step.empty, step.type) if fills_nulls(step) else None
    kept, exact, of_type = track_key(step), step.agg in EXACT, step.of_type
    shared = kept, step.window

    def run(view: View, request: Request | None) -> Scalar:
        found = view.taken.get(shared)
        if found is None:
            made = track_of(view.events, step, trees, kept)
            found = view.taken[shared] = made, view.take(made, step.window)
        track, values = found
        if request is None:
            value = finish(values, _decoder(of_type, track), track.largest if exact else 0)
        else:
            value = finish(*_extended(values, track, step, request))
        return empty if value is None else value

    return run


def _typed(value: Any, type_: str) -> Any:
    return float(value) if type_ == "f64" and value is not None else value


Decode = Callable[[Any], Scalar]


def _extended(values: Array, track: Track, step: Window, request: Request) -> tuple[Array, Decode, int]:
    """The values with the request's own as the last, how to read one of them, and a bound of integers."""
    decode, own = _decoder(step.of_type, track), request.value
    if step.of is None:
        return np.append(values, 0), decode, 0
    if step.agg in EXACT:
        bound = track.largest
        quantum = None
        if own is not None:
            quantum = int(own) if step.of_type != "f64" else _quantum(float(own), step.decimals or 0)
        if quantum is None:
            return values, decode, bound
        return np.append(values, np.int64(quantum)), decode, max(bound, abs(quantum))
    if own is None:
        return values, decode, 0
    if step.of_type == "str":
        return (*_with_text(values, track, str(own)), 0)
    return np.append(values, values.dtype.type(own)), decode, 0


def _quantum(value: float, decimals: int) -> int | None:
    scaled = value * 10.0**decimals
    if not -math.inf < scaled < math.inf:
        return None
    quantum = round(scaled)
    return quantum if abs(quantum) <= QUANTUM_LIMIT else None


def _with_text(values: Array, track: Track, own: str) -> tuple[Array, Decode]:
    """Places twice as large, so that a text that is not among them has one of its own, between two."""
    place = bisect_left(track.texts, own)
    known = place < len(track.texts) and track.texts[place] == own
    code = 2 * place if known else 2 * place - 1
    texts = track.texts
    return np.append(values * 2, code), lambda found: own if found == code else texts[int(found) // 2]


def _decoder(type_: str | None, track: Track) -> Decode:
    match type_:
        case "f64":
            return float
        case "bool":
            return bool
        case "str":
            texts = track.texts
            return lambda found: texts[int(found)]
        case _:
            return int


# --- aggregates: from the values of a window to the feature ----------------------------------------------------------

Finish = Callable[[Array, Decode, int], Scalar]


def exact_sum(values: Array, bound: int) -> int:
    """The exact sum of integers, none of which is larger than `bound` in size."""
    return int(values.sum()) if bound * len(values) < _INT64 else sum(values.tolist())


def exact_squares(values: Array, bound: int) -> int:
    """The exact sum of the squares of integers."""
    if bound * bound * len(values) < _INT64:
        return int(np.dot(values, values))
    return sum(value * value for value in values.tolist())


def _sum(step: Window) -> Finish:
    scale, none, whole = 10.0 ** (step.decimals or 0), absent(step), step.type != "f64"

    def finish(values: Array, _decode: Decode, bound: int) -> Scalar:
        if not len(values) and none:
            return none
        total = exact_sum(values, bound)
        if whole:
            return total if -_INT64 <= total < _INT64 else None
        return sum_formula(float(total), scale)

    return finish


def _mean(step: Window) -> Finish:
    scale = 10.0 ** (step.decimals or 0)

    def finish(values: Array, _decode: Decode, bound: int) -> Scalar:
        return mean_formula(float(len(values)), float(exact_sum(values, bound)), scale) if len(values) else None

    return finish


def _smoothed(step: Window) -> Finish:
    scale, prior = 10.0 ** (step.decimals or 0), (given(step, step.prior), given(step, step.weight))
    none = absent(step)

    def finish(values: Array, _decode: Decode, bound: int) -> Scalar:
        if not len(values):
            return none
        return smoothed_formula(float(len(values)), float(exact_sum(values, bound)), scale, prior)

    return finish


def _std(step: Window) -> Finish:
    scale = 10.0 ** (step.decimals or 0)

    def finish(values: Array, _decode: Decode, bound: int) -> Scalar:
        count = len(values)
        if count < 2:
            return None
        total = exact_sum(values, bound)
        spread = float(count * exact_squares(values, bound) - total * total)
        return sum_formula(math.sqrt(variance_formula(float(count), spread)), scale)

    return finish


def _distinct(values: Array) -> tuple[Array, Array]:
    """The distinct values, rising, and how often each occurs: places among texts, and other small numbers, are counted."""
    if values.dtype.kind == "i" and len(values):
        low, high = int(values.min()), int(values.max())
        if high - low <= 4 * len(values) + 64:
            counts = np.bincount(values - low)
            found = np.flatnonzero(counts)
            return found + low, counts[found]
    return np.unique(values, return_counts=True)


def _counted(count: Callable[[Array], int]) -> Callable[[Window], Finish]:
    def build(step: Window) -> Finish:
        none = absent(step)

        def finish(values: Array, _decode: Decode, _bound: int) -> Scalar:
            return count(values) if len(values) or not none else int(none)

        return finish

    return build


def _histogram(step: Window) -> Finish:
    low, high = step.bounds or (None, None)
    whole = step.of_type != "f64"

    def finish(values: Array, _decode: Decode, _bound: int) -> Scalar:
        inside = np.ones(len(values), dtype=np.bool_)
        if low is not None:
            inside &= values >= (_ceiling(low) if whole else low)  # 2**63 is above every integer, also for NumPy
        if high is not None and not (whole and _ceiling(high) == _INT64):
            inside &= values < (_ceiling(high) if whole else high)
        return int(inside.sum())

    return finish


def _ceiling(value: float) -> int:
    """The least integer that is not below a bound, as far as 64 bits have it."""
    if math.isinf(value):
        return _INT64 if value > 0 else -_INT64
    return min(max(math.ceil(value), -_INT64), _INT64)


def _picked(pick: Callable[[Array], Any]) -> Callable[[Window], Finish]:
    def build(_step: Window) -> Finish:
        return lambda values, decode, _bound: decode(pick(values)) if len(values) else None

    return build


def _last_k(step: Window) -> Finish:
    rank = given(step, step.rank)
    return lambda values, decode, _bound: decode(values[-rank]) if len(values) >= rank else None


def _quantile(step: Window) -> Finish:
    share = given(step, step.q)

    @lru_cache(4096)
    def rank(count: int) -> int:
        return int(quantile_rank(np.array([count]), share)[0])

    def finish(values: Array, decode: Decode, _bound: int) -> Scalar:
        if not len(values):
            return None
        place = rank(len(values)) - 1
        return decode(np.partition(values, place)[place])

    return finish


def _top_k(step: Window) -> Finish:
    rank = given(step, step.rank)

    def finish(values: Array, decode: Decode, _bound: int) -> Scalar:
        found, counts = _distinct(values)
        if len(found) < rank:
            return None
        return decode(found[np.argsort(-counts, kind="stable")[rank - 1]])

    return finish


_FINISH: dict[str, Callable[[Window], Finish]] = {
    "count": _counted(len),
    "n_distinct": _counted(lambda values: len(_distinct(values)[0])),
    "histogram": _histogram,
    "sum": _sum,
    "mean": _mean,
    "smoothed_mean": _smoothed,
    "std": _std,
    "min": _picked(lambda values: values.min()),
    "max": _picked(lambda values: values.max()),
    "first": _picked(lambda values: values[0]),
    "last": _picked(lambda values: values[-1]),
    "last_k": _last_k,
    "quantile": _quantile,
    "top_k": _top_k,
}
