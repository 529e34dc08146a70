"""Windows and lookups of one request, from the events of its keys. Called by `prepared`.

The rules are those of `windows` and `lookups`; the integers are the same because they are exact, and the doubles because
the formulas of `exact` make them. Rows that all count by T are slices; where some came late or were replaced, they are chosen.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from engine.features.events import Events, Scalar
from engine.features.exact import QUANTUM_LIMIT
from engine.features.finalising import fills_nulls
from engine.features.frames import Ints
from engine.features.single_aggregates import FINISH, Array, Decode, Taken
from engine.features.steps import Lookup, Window
from engine.features.timeline import LONGEST
from engine.features.tracks import EXACT, Track, Trees, track_key, track_of


@dataclass(slots=True)
class View:
    """The events of one key at one time: those before it, and which of them count (`None`: all).

    `taken`: what steps of one track and window share.
    """

    events: Events
    at: int
    end: int
    shown: Ints | None
    taken: dict[tuple[str, int], tuple[Track, Taken]] = field(default_factory=dict)
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
    finish = FINISH[step.agg](step)
    empty = _typed(step.empty, step.type) if fills_nulls(step) else None
    shared = track_key(step), step.window

    def run(view: View, request: Request | None) -> Scalar:
        found = view.taken.get(shared)
        if found is None:
            found = view.taken[shared] = _take(view, step, trees, shared[0])
        track, taken = found
        decode = _decoder(step.of_type, track)
        if request is not None:
            taken, decode = _extended(taken, track, step, request)
        value = finish(taken, decode)
        return empty if value is None else value

    return run


def _take(view: View, step: Window, trees: Trees, kept: str) -> tuple[Track, Taken]:
    track = track_of(view.events, step, trees, kept)
    values = view.take(track, step.window)
    places = len(track.texts) if step.of_type == "str" and step.agg not in EXACT else None
    return track, Taken(values, track.largest if step.agg in EXACT else 0, places)


def _typed(value: Any, type_: str) -> Any:
    return float(value) if type_ == "f64" and value is not None else value


def _extended(taken: Taken, track: Track, step: Window, request: Request) -> tuple[Taken, Decode]:
    """The same with the request's own value as the last, and how to read one of them."""
    decode, own, values = _decoder(step.of_type, track), request.value, taken.values
    if step.of is None:
        return Taken(np.append(values, 0)), decode
    if own is None:
        return taken, decode
    if step.agg in EXACT:
        quantum = int(own) if step.of_type != "f64" else _quantum(float(own), step.decimals or 0)
        if quantum is None:
            return taken, decode
        return Taken(np.append(values, np.int64(quantum)), max(taken.bound, abs(quantum))), decode
    if step.of_type == "str":
        return _with_text(values, track, str(own))
    return Taken(np.append(values, values.dtype.type(own))), decode


def _quantum(value: float, decimals: int) -> int | None:
    scaled = value * 10.0**decimals
    if not -math.inf < scaled < math.inf:
        return None
    quantum = round(scaled)
    return quantum if abs(quantum) <= QUANTUM_LIMIT else None


def _with_text(values: Array, track: Track, own: str) -> tuple[Taken, Decode]:
    """Places twice as large, so that a text that is not among them has one of its own, between two."""
    place = bisect_left(track.texts, own)
    known = place < len(track.texts) and track.texts[place] == own
    code = 2 * place if known else 2 * place - 1
    texts = track.texts
    return Taken(np.append(values * 2, code)), lambda found: own if found == code else texts[int(found) // 2]


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
