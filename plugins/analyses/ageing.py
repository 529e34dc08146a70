"""Decay: what age costs a model, by comparing it with fresh ones on the same rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import isotonic_regression

from engine.analysis_contracts import Exhibit, Scored
from engine.analysis_records import AnalysisChart, AnalysisDocument, AnalysisPoint, AnalysisSeries, AnalysisTable
from engine.durations import MICROSECONDS, microseconds
from engine.errors import DataError

from . import DecayParams
from .measuring import Estimate, harm, measured, pool, scores_of


@dataclass(frozen=True, slots=True)
class Age:
    """The loss of models that are `days` older than the fresh one, over `pairs` periods."""

    days: float
    loss: Estimate
    pairs: int


class Decay:
    """Ages models."""

    def __init__(self, params: DecayParams) -> None:
        self._params = params

    def examine(self, exhibit: Exhibit) -> AnalysisDocument:
        """Compare in each period every older model with the fresh one, average by age, and say when to train again."""
        given, judged = self._params, exhibit.judgement
        fits = [exhibit.fits[f"origin/{place}"] for place in range(given.origins)]
        step = microseconds(given.step)
        begins = _begins(fits, step)
        ages = _ages(exhibit, fits, begins, step)
        cadence = self._cadence(ages, judged.level)
        points = tuple(
            AnalysisPoint(name=f"{age.days:g} days", x=age.days, value=age.loss.value, n=age.pairs,
                          low=age.loss.interval(judged.level)[0], high=age.loss.interval(judged.level)[1])
            for age in ages
        )  # fmt: skip
        periods = _periods(exhibit, fits, begins, step)
        return AnalysisDocument(
            summary=cadence["words"],
            part="every row after an origin",
            n=len(fits[0].y),
            metric=judged.metric,
            level=judged.level,
            notes=(
                (f"{given.origins} models, {given.step} apart, each trained on what was known at its origin. In each period the older "
                "ones and the fresh one score the same rows, so a hard month does not look like age."),
                "An age with few periods rests on those; the number of periods is in the table.",
            ),
            charts=(
                AnalysisChart(
                    kind="curve", title=f"Loss of {judged.metric} by age", x="days older than the fresh model",
                    y=f"loss of {judged.metric}", reference=given.tolerance if given.tolerance is not None else 0.0,
                    series=(AnalysisSeries(name="against the fresh model", points=points),),
                ),
                AnalysisChart(
                    kind="curve", title=f"{judged.metric} by period", x="days after the first origin", y=judged.metric,
                    series=periods,
                ),
            ),
            tables=(
                AnalysisTable(
                    caption="Loss by age", columns=("age", "loss", "low", "high", "periods"),
                    rows=tuple((item.name, item.value, item.low, item.high, item.n) for item in points),
                ),
            ),
            facts={**{key: value for key, value in cadence.items() if key != "words"}, "ages_days": [age.days for age in ages],
                   "loss": [age.loss.value for age in ages], "fits": len(fits)},
        )  # fmt: skip

    def _cadence(self, ages: list[Age], level: float) -> dict[str, Any]:
        """Find the first age at which the loss is more than may be; between two ages on the straight line.

        The curve is made to rise first (pool adjacent violators), since a model does not grow younger.
        """
        allowed = self._params.tolerance
        fitted = isotonic_regression([age.loss.value for age in ages], weights=[float(age.pairs) for age in ages])
        rising = [float(value) for value in fitted.x]
        sure = next((age.days for age in ages if (age.loss.interval(level)[0] or 0.0) > 0), None)
        observed = ages[-1].days
        if allowed is None:
            words = (
                f"Models of up to {observed:g} days are not surely worse than fresh ones: retraining need not be more frequent."
                if sure is None
                else f"A model that is {sure:g} days older than a fresh one is surely worse: retrain before that."
            )
            return {"cadence_days": sure, "surely_worse_days": sure, "observed_days": observed, "words": words}
        days, before = None, (0.0, 0.0)
        for age, loss in zip(ages, rising, strict=True):
            if loss > allowed:
                reach = (allowed - before[1]) / (loss - before[1]) if loss > before[1] else 1.0
                days = before[0] + max(0.0, reach) * (age.days - before[0])
                break
            before = (age.days, max(0.0, loss))
        words = (
            f"A loss of {allowed:g} is not reached within {observed:g} days."
            if days is None
            else f"A loss of {allowed:g} is reached at about {days:.3g} days: retrain at least that often."
        )
        return {"cadence_days": days, "surely_worse_days": sure, "observed_days": observed, "words": words}


def _begins(fits: list[Scored], step: int) -> list[int]:
    """Give each origin: periods end with the last row."""
    end = int(max(fit.moments.max() for fit in fits)) + 1
    return [end - step * (len(fits) - place) for place in range(len(fits))]


def _inside(fit: Scored, begin: int, step: int) -> np.ndarray:
    return np.asarray((fit.moments >= begin) & (fit.moments < begin + step))


def _ages(exhibit: Exhibit, fits: list[Scored], begins: list[int], step: int) -> list[Age]:
    losses: dict[int, list[Estimate]] = {}
    for period, begin in enumerate(begins):
        fresh = _rows(exhibit, fits[period], begin, step)
        for place in range(period):
            exhibit.progress(f"age {period - place} in period {period}", None, None)
            try:
                found = harm(exhibit, _rows(exhibit, fits[place], begin, step), fresh)
            except DataError:  # a period in which the metric is not defined says nothing of age
                continue
            if np.isfinite(found.error):
                losses.setdefault(period - place, []).append(found)
    if not losses:
        hint = "make `step` longer, so that a period has rows of every class"
        raise DataError("in no period could an older model be compared with a fresh one", hint=hint)
    unit = step / MICROSECONDS["d"]
    return [Age(age * unit, pool(items, same_rows=False), len(items)) for age, items in sorted(losses.items())]


def _rows(exhibit: Exhibit, fit: Scored, begin: int, step: int) -> Any:
    return scores_of(exhibit, fit, _inside(fit, begin, step))


def _periods(exhibit: Exhibit, fits: list[Scored], begins: list[int], step: int) -> tuple[AnalysisSeries, ...]:
    """Give the metric of the oldest model and of each period's fresh one, by period."""
    found: dict[str, list[AnalysisPoint]] = {"fresh model": [], "oldest model": []}
    for period, begin in enumerate(begins):
        for name, fit in (("fresh model", fits[period]), ("oldest model", fits[0])):
            value = measured(exhibit, _rows(exhibit, fit, begin, step))
            days = (begin - begins[0]) / MICROSECONDS["d"]
            found[name].append(AnalysisPoint(x=days, value=value.value, low=value.low, high=value.high, n=value.n))
    return tuple(AnalysisSeries(name=name, points=tuple(points)) for name, points in found.items())
