"""Intervals by the bootstrap: every model on the same resamples, so that differences are paired.

Enters: scores of one or more models on the same rows. Leaves: metrics and differences with percentile intervals (Efron
& Tibshirani 1993). A resample is a multinomial count for each row (each cluster, when rows come in clusters): integer
weights from one PCG64 stream, so the numbers depend on the seed alone, never on threads or on the set of models.

Percentile intervals of small or one-sided samples are too narrow, so there is none below 10 rows (10 clusters) or 5
rows of either class. The calibration error grows by resampling noise: its interval is moved back by the mean of that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from engine.contracts import Scores
from engine.evaluation.document import MeasuredMetric, PairedDifference
from engine.evaluation.metrics import METRICS, Floats, aside_of, measure, prepare, why_undefined
from engine.evaluation.statistic import over

MIN_UNITS = 10
MIN_CLASS_ROWS = 5
_AT_ONCE = 65_536  # weights of the resamples that are evaluated together
_MOST_UNDEFINED = 0.1  # of the resamples; beyond that the defined ones are not a fair sample


@dataclass(frozen=True, slots=True)
class Resampling:
    """How to resample: how often, at which level, from which seed."""

    resamples: int = 500
    level: float = 0.95
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Drawn:
    """Values on all rows, and on every resample, (resamples,) by metric; a metric without a value is in neither."""

    scores: Scores
    values: Mapping[str, float]
    draws: Mapping[str, Floats]


def draw(models: Mapping[str, Scores], metrics: Sequence[str], resampling: Resampling) -> dict[str, Drawn]:
    """Evaluate every model on the same resamples; labels and clusters are the first model's."""
    with np.errstate(over="ignore", invalid="ignore"):  # an overflow becomes "not a finite number", below
        return _draw(models, metrics, resampling)


def _draw(models: Mapping[str, Scores], metrics: Sequence[str], resampling: Resampling) -> dict[str, Drawn]:
    names = {
        model: [name for name in metrics if not why_undefined(name, scores.y, scores.prediction, aside_of(scores))]
        for model, scores in models.items()
    }
    statistics = {
        model: prepare(scores.y, scores.prediction, names[model], aside_of(scores)) for model, scores in models.items()
    }
    table = {model: {name: np.full(resampling.resamples, np.nan) for name in names[model]} for model in models}
    if any(names.values()):
        first = next(iter(models.values()))
        done = 0
        for weights in _weights(first, resampling):
            for model, statistic in statistics.items():
                for name, values in over(statistic, weights).items():
                    table[model][name][done : done + len(weights)] = values
            done += len(weights)
    return {
        model: Drawn(scores, statistics[model](np.ones(len(scores.y))) if names[model] else {}, table[model])
        for model, scores in models.items()
    }


def interval_of(name: str, drawn: Drawn, level: float) -> MeasuredMetric:
    """Give one metric of one model with its interval, or with the reason why there is none."""
    scores, better = drawn.scores, METRICS[name].higher_is_better
    n = len(scores.y)
    value = drawn.values.get(name)
    if value is None or not np.isfinite(value):
        reason = why_undefined(name, scores.y, scores.prediction, aside_of(scores)) or "not a finite number"
        return MeasuredMetric(name=name, value=None, n=n, higher_is_better=better, reason=reason)
    bounds = _bounds(drawn.draws[name], level)
    reason = _too_few(name, scores) or ("" if bounds else "too many resamples without a value")
    if reason or bounds is None:
        return MeasuredMetric(name=name, value=value, n=n, higher_is_better=better, reason=f"no interval: {reason}")
    low, high = bounds
    if METRICS[name].resampling_bias:
        shift = float(np.nanmean(drawn.draws[name])) - value
        low, high = max(0.0, low - shift), max(0.0, high - shift)
    return MeasuredMetric(name=name, value=value, low=low, high=high, level=level, n=n, higher_is_better=better)


def difference_of(name: str, ours: Drawn, other: Drawn, level: float) -> PairedDifference:
    """Give `ours - other` with its interval; both must be drawn by the same call."""
    n, better = len(ours.scores.y), METRICS[name].higher_is_better
    for drawn in (ours, other):
        if not np.isfinite(drawn.values.get(name, np.nan)):
            scores = drawn.scores
            undefined = why_undefined(name, scores.y, scores.prediction, aside_of(scores))
            reason = undefined or "not a finite number"
            return PairedDifference(name=name, value=None, n=n, higher_is_better=better, reason=reason)
    value = ours.values[name] - other.values[name]
    gaps = ours.draws[name] - other.draws[name]
    bounds = _bounds(gaps, level)
    reason = _too_few(name, ours.scores) or ("" if bounds else "too many resamples without a value")
    if reason or bounds is None:
        return PairedDifference(name=name, value=value, n=n, higher_is_better=better, reason=f"no interval: {reason}")
    known = gaps[np.isfinite(gaps)] * (1 if better else -1)
    probability = float(((known > 0) + 0.5 * (known == 0)).mean())
    low, high = bounds
    return PairedDifference(
        name=name, value=value, low=low, high=high, level=level, probability=probability, n=n, higher_is_better=better
    )


def bootstrap_intervals(scores: Scores, metrics: Sequence[str], resampling: Resampling) -> dict[str, MeasuredMetric]:
    """Measure one model, with intervals; clusters are resampled whole when the scores have them."""
    drawn = draw({"model": scores}, metrics, resampling)["model"]
    return {name: interval_of(name, drawn, resampling.level) for name in metrics}


def paired_bootstrap(ours: Scores, other: Scores, metric: str, resampling: Resampling) -> PairedDifference:
    """Measure `ours - other` on the same resamples of the same rows; `value: null` when their rows differ."""
    if not np.array_equal(ours.y, other.y, equal_nan=True):
        better = METRICS[metric].higher_is_better
        return PairedDifference(
            name=metric,
            value=None,
            n=len(ours.y),
            higher_is_better=better,
            reason="the two were scored on different rows",
        )
    drawn = draw({"ours": ours, "other": other}, [metric], resampling)
    return difference_of(metric, drawn["ours"], drawn["other"], resampling.level)


def point_metric(name: str, scores: Scores) -> MeasuredMetric:
    """Measure without an interval."""
    value = measure(name, scores.y, scores.prediction, aside_of(scores))
    reason = "" if value is not None else why_undefined(name, scores.y, scores.prediction, aside_of(scores))
    return MeasuredMetric(
        name=name, value=value, n=len(scores.y), higher_is_better=METRICS[name].higher_is_better, reason=reason
    )


def _weights(scores: Scores, resampling: Resampling) -> Iterator[Floats]:
    """Give the rows' weights in one resample after the other, (b, n): small samples many at a time, with the same draws."""
    random = np.random.Generator(np.random.PCG64(resampling.seed))
    rows, member = len(scores.y), None
    units = rows
    if scores.cluster is not None:
        _, member = np.unique(scores.cluster, return_inverse=True)
        units = int(member.max()) + 1
    most = max(1, _AT_ONCE // max(rows, 1))
    for start in range(0, resampling.resamples, most):
        size = min(most, resampling.resamples - start)
        drawn = random.integers(0, units, (size, units)) + np.arange(size)[:, np.newaxis] * units
        counts = np.bincount(drawn.ravel(), minlength=size * units).astype(np.float64).reshape(size, units)
        yield counts if member is None else np.take(counts, member, axis=1)


def _bounds(draws: Floats, level: float) -> tuple[float, float] | None:
    known = draws[np.isfinite(draws)]
    if len(known) < (1 - _MOST_UNDEFINED) * len(draws):
        return None
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _too_few(name: str, scores: Scores) -> str:
    """Say why an interval would mislead; empty when it would not."""
    units = len(scores.y) if scores.cluster is None else len(np.unique(scores.cluster))
    if units < MIN_UNITS:
        return f"{units} {'rows' if scores.cluster is None else 'clusters'}, {MIN_UNITS} needed"
    if METRICS[name].both_classes:
        smaller = int(np.unique(scores.y, return_counts=True)[1].min())
        if smaller < MIN_CLASS_ROWS:
            return f"{smaller} rows of the rarer class, {MIN_CLASS_ROWS} needed"
    return ""
