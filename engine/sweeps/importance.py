"""Which parameter mattered: the share of the objective's variance that a parameter's own groups explain. Pure.

For each parameter the trials fall into groups (equal values; numbers into at most five of equal count). Epsilon squared
(Kelley 1935) is the correlation ratio (Pearson 1905) less what chance alone gives to that many groups: 0 for a parameter
that does nothing. Main effects only: what two parameters do together is in neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.records import TunedMetric  # noqa: F401 - for the doctest
from engine.sweep_records import TrialRecord

_MOST_GROUPS = 5
_FEWEST_TRIALS = 4


def importances(trials: Sequence[TrialRecord], objective: str) -> dict[str, float]:
    """Give each swept parameter's importance from 0 to 1, the largest first; empty for too few trials.

    >>> def trial(n, a, b, v):
    ...     metric = TunedMetric(name="m", value=v)
    ...     return TrialRecord(number=n, state="succeeded", params={"a": a, "b": b}, tuned=(metric,))
    >>> importances([trial(0, 1, 1, 0.1), trial(1, 1, 2, 0.1), trial(2, 2, 1, 0.9), trial(3, 2, 2, 0.9)], "m")
    {'a': 1.0, 'b': 0.0}
    """
    valued = [(trial.params, value) for trial in trials if (value := value_of(trial, objective)) is not None]
    if len(valued) < _FEWEST_TRIALS:
        return {}
    names = dict.fromkeys(name for params, _ in valued for name in params)
    found = {name: _epsilon_squared([(params.get(name), value) for params, value in valued]) for name in names}
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def value_of(trial: TrialRecord, objective: str) -> float | None:
    """Give a trial's value of an objective."""
    return next((metric.value for metric in trial.tuned if metric.name == objective), None)


def _epsilon_squared(pairs: Sequence[tuple[object, float]]) -> float:
    groups = _group(pairs)
    n, k = len(pairs), len(groups)
    if k < 2 or n <= k:
        return 0.0
    mean = sum(value for _, value in pairs) / n
    total = sum((value - mean) ** 2 for _, value in pairs)
    within = 0.0
    for values in groups.values():
        centre = sum(values) / len(values)
        within += sum((value - centre) ** 2 for value in values)
    if total <= 0:
        return 0.0
    return max(0.0, 1.0 - (within / (n - k)) / (total / (n - 1)))


def _group(pairs: Sequence[tuple[object, float]]) -> Mapping[object, list[float]]:
    keys = [_number(key) for key, _ in pairs]
    groups: dict[object, list[float]] = {}
    if any(key is None for key in keys) or len(set(keys)) <= _MOST_GROUPS:
        for key, value in pairs:
            groups.setdefault(str(key), []).append(value)
        return groups
    ranked = sorted(range(len(pairs)), key=lambda index: float(keys[index] or 0.0))
    for place, index in enumerate(ranked):
        groups.setdefault(place * _MOST_GROUPS // len(ranked), []).append(pairs[index][1])
    return groups


def _number(key: object) -> float | None:
    try:
        return float(str(key))
    except ValueError:
        return None
