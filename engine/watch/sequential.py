"""Slow change: the same comparison over growing windows of the last chunks, with a declared average run length.

Enters: the reference and the profiles of the last chunks, newest last. Leaves: a tail probability a column, and the window
that tells most. Called by the drift monitor. A scan over windows that end now is the window-limited generalised likelihood
ratio scheme (Lai 1995, after Page's CUSUM of 1954): a jump shows in a short window, a creep in a long one. Profiles are
additive, so a window is the merged profile of its chunks, and what chunks wobble by averages out over them.

The run length is declared: when nothing changes, the expected number of chunks until the first alarm is at least that, over
all columns together. `benchmarks/monitor_simulation.py` measures it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from engine.watch.compare import MIN_CHUNKS, Part, component_tails
from engine.watch.moderation import Floats
from engine.watch.profile import Profile, merge_profiles
from engine.watch.reference import Reference
from engine.watch.scores import combine

WINDOWS = (1, 2, 3, 4, 6, 8, 12, 16)
RUN_LENGTH = 200
COMPONENTS: Mapping[str, float] = {"location": 0.6, "spread": 0.2, "mix": 0.8, "nulls": 0.2}
"""What creeps, and how a column's share of the level goes to it."""
_CLUSTERING = (
    1.8  # alarms come in clusters, so the level at one moment may be this many times 1 / run length (measured)
)


@dataclass(frozen=True, slots=True)
class Trend:
    """One column's slow change: `tail` over all windows, `adjusted` by the number of columns, the telling window."""

    column: str
    tail: float
    adjusted: float
    window: int
    component: str
    effect: float


def level_of(run_length: float) -> float:
    """Give the level, at one moment and over all columns, that keeps to an average run length without change."""
    return _CLUSTERING / run_length


def windows_of(count: int, longest: int = WINDOWS[-1]) -> tuple[int, ...]:
    """Give the windows that so many chunks fill."""
    return tuple(window for window in WINDOWS if window <= min(count, longest))


def combine_windows(tails: Floats) -> Floats:
    """Combine the windows of one component, along the last axis."""
    return combine(tails, np.ones(tails.shape))


def find_trends(reference: Reference, recent: Sequence[Profile]) -> tuple[Trend, ...]:
    """Judge every column over every window, the most telling first; nothing without enough reference chunks."""
    if len(reference.chunks) < MIN_CHUNKS or not recent:
        return ()
    found: dict[str, dict[str, dict[int, Part]]] = {}
    merged: Profile | None = None
    for age, profile in enumerate(reversed(recent), start=1):
        merged = profile if merged is None else merge_profiles(profile, merged)
        if age not in windows_of(len(recent)):
            continue
        for column, parts in component_tails(reference, merged, merged.rows / age).items():
            for part in parts:
                if part.name in COMPONENTS:
                    found.setdefault(column, {}).setdefault(part.name, {})[age] = part
    trends = [_trend(column, components, len(found)) for column, components in found.items()]
    return tuple(sorted(trends, key=lambda item: item.adjusted))


def _trend(column: str, components: Mapping[str, Mapping[int, Part]], columns: int) -> Trend:
    names = list(components)
    tails = []
    best: tuple[float, int, str, float] = (2.0, 1, names[0], 0.0)
    for name in names:
        parts = components[name]
        tails.append(float(combine_windows(np.array([part.tail for part in parts.values()]))))
        age = min(parts, key=lambda item: parts[item].tail)
        best = min(best, (parts[age].tail / COMPONENTS[name], age, name, parts[age].effect))
    tail = float(combine(np.array(tails), np.array([COMPONENTS[name] for name in names])))
    return Trend(column, tail, min(1.0, tail * columns), best[1], best[2], best[3])
