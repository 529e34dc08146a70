"""The comparison of policies on the same rows: quality by period and over all, and regret against retraining always.

The body of a node. A period's metric is measured on its labelled rows; over all periods it is their mean, weighted by rows, so
that a metric of ranks never compares scores of two models. Intervals are percentiles of a bootstrap within each period (Efron &
Tibshirani 1993): every policy is measured on the same resamples, so regret, which is a difference, is paired. They tell of the
luck of the labels drawn, not of other histories. Leaves `measured.json`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import polars as pl

from engine.backtest.history import Periods, read_rows
from engine.backtest.policies import ALWAYS
from engine.backtest_records import Estimate
from engine.components import catalogue_of
from engine.contracts import Scores, Work
from engine.errors import DataError
from engine.evaluation.bootstrap import Drawn, Resampling, draw
from engine.evaluation.names import METRIC_NAMES
from engine.keys import Json
from engine.nodes.features import LABEL
from engine.nodes.frames import read_document, read_frame, write_document
from engine.nodes.matrix import load_model
from engine.nodes.target import encode_label, group_ids

_REPLAY = "replay."
_SEED_STEP = 7919


@dataclass(frozen=True, slots=True)
class _Played:
    """What a replay left: predictions of all periods' rows, and whose model scored each period."""

    predictions: np.ndarray
    served: Sequence[int]


@dataclass(frozen=True, slots=True)
class _Period:
    """One period: its rows, and by model its value and resamples; empty where the metric has no value."""

    rows: int
    values: Mapping[int, float]
    draws: Mapping[int, np.ndarray]


def measure_policies(work: Work) -> Mapping[str, Json]:
    """Measure; raises `DataError` when the metric has a value in no period."""
    settings: Any = work.settings
    metric, periods = settings["metric"], Periods.of(settings)
    rows = read_rows(work.inputs["rows"])
    played = {
        role.removeprefix(_REPLAY): _Played(
            read_frame(item.path / "predictions.parquet")["prediction"].to_numpy(), read_document(item.path / "replay.json")["models"]
        )
        for role, item in work.inputs.items()
        if role.startswith(_REPLAY)
    }  # fmt: skip
    scorer = _Scorer(work, rows, periods.places(rows), played)
    found = []
    for index in range(len(periods.moments)):
        work.progress(settings["moments"][index][:10], None, (index + 1) / len(periods.moments))
        found.append(scorer.period(index))
    if not any(item.values for item in found):
        raise DataError(
            f"{metric} has a value in no period", hint="choose longer periods (--every) or another --metric"
        )
    sign = 1.0 if METRIC_NAMES[metric].higher_is_better else -1.0
    level = settings["level"]
    policies = {name: _outcome(found, item.served, played[ALWAYS].served, sign, level) for name, item in played.items()}
    document = {"metric": metric, "rows": [item.rows for item in found], "policies": policies}
    write_document(work.out / "measured.json", document)
    return {"metric": metric, "rows": sum(item.rows for item in found)}


class _Scorer:
    """Measures the models of a period, each once, however many policies had it."""

    def __init__(self, work: Work, rows: pl.DataFrame, places: np.ndarray, played: Mapping[str, _Played]) -> None:
        settings: Any = work.settings
        catalogue = catalogue_of(work.place)
        model = load_model(work.inputs["model"].path, catalogue)
        self._target, self._metric = model.target, settings["metric"]
        self._resampling = Resampling(settings["resamples"], settings["level"], settings["seed"])
        self._places, self._played = places, played
        whole = rows[int(places[0]) : int(places[-1])]
        self._y = encode_label(whole[LABEL], model.target)
        self._group = group_ids(whole, model.trained.get("group"))
        cluster = settings["cluster"]
        self._cluster = whole[cluster].rank("dense").cast(pl.Int64).to_numpy() if cluster else self._group

    def period(self, index: int) -> _Period:
        """Measure one period."""
        low, high = (int(self._places[place] - self._places[0]) for place in (index, index + 1))
        kept = np.isfinite(self._y[low:high])
        models: dict[str, Scores] = {}
        for played in self._played.values():
            name = str(played.served[index])
            if name not in models:
                models[name] = self._scores(played.predictions[low:high], low, high, kept)
        rows = int(kept.sum())
        if not rows:
            return _Period(0, {}, {})
        seed = self._resampling.seed + _SEED_STEP * (index + 1)
        drawn = draw(models, [self._metric], Resampling(self._resampling.resamples, self._resampling.level, seed))
        if not all(np.isfinite(item.values.get(self._metric, np.nan)) for item in drawn.values()):
            return _Period(rows, {}, {})
        return _Period(
            rows, {int(name): item.values[self._metric] for name, item in drawn.items()},
            {int(name): _filled(item, self._metric) for name, item in drawn.items()},
        )  # fmt: skip

    def _scores(self, prediction: np.ndarray, low: int, high: int, kept: np.ndarray) -> Scores:
        part = [None if values is None else values[low:high][kept] for values in (self._cluster, self._group)]
        return Scores(self._y[low:high][kept], prediction[kept], part[0], part[1], self._target.quantiles)


def _filled(drawn: Drawn, metric: str) -> np.ndarray:
    """Give the resamples; one without a value (a single class was drawn) counts as the value itself."""
    values = drawn.draws[metric]
    return np.where(np.isfinite(values), values, drawn.values[metric])


def _outcome(
    periods: Sequence[_Period], served: Sequence[int], always: Sequence[int], sign: float, level: float
) -> dict[str, Json]:
    """Add a policy's periods up: the mean by rows, of values and of each resample."""
    whole = sum(item.rows for item in periods if item.values)
    quality = regret = 0.0
    drawn: list[Any] = [0.0, 0.0]
    shown: list[Json] = []
    for item, ours, theirs in zip(periods, served, always, strict=True):
        if not item.values:
            shown.append({"quality": {}, "regret": {}})
            continue
        value, gap = item.values[ours], sign * (item.values[theirs] - item.values[ours])
        draws, gaps = item.draws[ours], sign * (item.draws[theirs] - item.draws[ours])
        weight = item.rows / whole
        quality, regret = quality + weight * value, regret + weight * gap
        drawn = [drawn[0] + weight * draws, drawn[1] + weight * gaps]
        shown.append({"quality": _estimate(value, draws, level), "regret": _estimate(gap, gaps, level)})
    return {
        "quality": _estimate(quality, drawn[0], level),
        "regret": _estimate(regret, drawn[1], level),
        "periods": shown,
    }


def _estimate(value: float, draws: np.ndarray, level: float) -> Json:
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    found: Json = msgspec.to_builtins(Estimate(value=float(value), low=float(low), high=float(high)))
    return found
