"""The search space of an optimising sweep, from Hydra's own words: `choice(a, b)`, `range(8, 64, 8)`, `int(interval(8, 256))`.

Enters: overrides as typed, and the sweeper's `params`. Leaves: a distribution a key, and what is fixed. `tag(log, …)` makes a
scale logarithmic. Called by `search`; knows Hydra's grammar through `engine.config`, and nothing of Optuna.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from engine.config import SweptOverride, read_swept
from engine.errors import UsageError


@dataclass(frozen=True, slots=True)
class Choices:
    """One of these words, each as an override would write it."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number from `low` to `high`, both included, in steps."""

    low: int
    high: int
    step: int = 1
    log: bool = False


@dataclass(frozen=True, slots=True)
class Real:
    """A number from `low` to `high`."""

    low: float
    high: float
    step: float | None = None
    log: bool = False


Domain: TypeAlias = Choices | Whole | Real


@dataclass(frozen=True, slots=True)
class Space:
    """What is searched, by key, and the overrides that every trial has."""

    domains: Mapping[str, Domain]
    fixed: tuple[str, ...]

    def grid(self) -> dict[str, list[str | int | float]]:
        """Give every value of every key; raises `UsageError` for an interval, which has no end of them."""
        return {key: _values(key, domain) for key, domain in self.domains.items()}

    def describe(self) -> dict[str, str]:
        """Give the space as text by key, to tell it from another."""
        return {key: repr(domain) for key, domain in sorted(self.domains.items())}


def read_space(overrides: Sequence[str], params: Mapping[str, str]) -> Space:
    """Read overrides and the sweeper's own parameters; the command line wins. Raises `UsageError`."""
    read = [*read_swept([f"{key}={value}" for key, value in params.items()]), *read_swept(overrides)]
    domains: dict[str, Domain] = {}
    fixed: dict[str, str] = {}
    for item in read:
        domains.pop(item.key, None)
        fixed.pop(item.key, None)
        if item.kind == "fixed":
            fixed[item.key] = item.text
        else:
            domains[item.key] = _domain(item)
    if not domains:
        hint = (
            "train.params.num_leaves='int(interval(8, 128))' 'train.params.learning_rate=tag(log, interval(0.01, 0.3))'"
        )
        raise UsageError("nothing is searched: no override has several values", hint=hint)
    return Space(domains, tuple(fixed.values()))


def _domain(item: SweptOverride) -> Domain:
    if item.kind == "choice":
        if not item.words:
            raise UsageError(f"{item.text}: there is no value in it to try")
        return Choices(item.words)
    low, high, step = float(item.start), float(item.stop), float(item.step)
    if item.kind == "range":
        count = math.ceil((high - low) / step)
        if count < 1:
            raise UsageError(
                f"{item.text}: there is no value in it to try", hint="range(start, stop, step) leaves its stop out"
            )
        if item.whole:
            return Whole(int(low), int(low + (count - 1) * step), int(step), item.log)
        return Real(low, low + (count - 1) * step, step, item.log)
    if not low < high:
        raise UsageError(f"{item.text}: the interval is empty", hint="interval(low, high) with low below high")
    if item.log and low <= 0:
        raise UsageError(f"{item.text}: a logarithmic scale starts above 0")
    return Whole(int(low), int(high), 1, item.log) if item.whole else Real(low, high, None, item.log)


def _values(key: str, domain: Domain) -> list[str | int | float]:
    match domain:
        case Choices(words):
            return list(words)
        case Whole(low, high, step, _):
            return list(range(low, high + 1, step))
        case Real(low, high, step, _) if step is not None:
            return [low + index * step for index in range(round((high - low) / step) + 1)]
        case _:
            raise UsageError(f"{key}: an interval has no grid", hint="use choice(…) or range(…), or sampler=tpe")
