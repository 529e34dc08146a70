"""What a model relies on: shuffled columns, and its own SHAP values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.analysis_contracts import Exhibit, HeldOut, Scored
from engine.analysis_records import AnalysisChart, AnalysisDocument, AnalysisPoint, AnalysisSeries, AnalysisTable
from engine.contracts import Explainer, Matrix
from engine.errors import DataError
from engine.evaluation.metrics import Floats, measure
from engine.evaluation.significance import midranks
from engine.evaluation.statistic import aside_of

from . import PermutationParams, ShapParams, grouped
from .measuring import Estimate, adjusted, harm, metric_better, scores_of


class Permutation:
    """Shuffles columns."""

    def __init__(self, params: PermutationParams) -> None:
        self._params = params

    def examine(self, exhibit: Exhibit) -> AnalysisDocument:
        """Shuffle each column several times and measure the loss against the same rows as they are."""
        given, judged = self._params, exhibit.judgement
        held = _thinned(exhibit, given.part, given.rows)
        groups = grouped(exhibit.subject, given.by)
        found: dict[str, Estimate] = {}
        for number, (name, columns) in enumerate(groups.items()):
            exhibit.progress(f"shuffling {name}", None, number / len(groups))
            found[name] = self._shuffle(exhibit, held, [exhibit.subject.columns.index(column) for column in columns])
        p = adjusted({name: item.p_above() for name, item in found.items()})
        ranked = sorted(found, key=lambda name: (-found[name].value, name))
        matter = [name for name in ranked if p[name] < 1 - judged.level]
        points = []
        for name in ranked:
            low, high = found[name].interval(judged.level)
            note = "matters" if name in matter else "not shown"
            points.append(AnalysisPoint(name=name, value=found[name].value, low=low, high=high, note=note))
        return AnalysisDocument(
            summary=f"The model surely relies on {len(matter)} of {len(ranked)}: {', '.join(matter[:5]) or 'none'}.",
            part=given.part,
            n=len(held.scored.y),
            metric=judged.metric,
            level=judged.level,
            notes=(
                (f"Loss of {judged.metric} when a column is shuffled among {len(held.scored.y):,} {given.part} rows, {given.repeats} "
                f"times; `matters` survives Holm's correction over {len(ranked)}. Shuffling makes rows that cannot be, and "
                "columns that say the same thing share what they are worth."),
            ),
            charts=(
                AnalysisChart(kind="intervals", title=f"Loss of {judged.metric} when shuffled", reference=0.0,
                              series=(AnalysisSeries(name="loss", points=tuple(points)),)),
            ),
            facts={"matters": matter, "importance": {name: found[name].value for name in ranked}, "p_holm": p},
        )  # fmt: skip

    def _shuffle(self, exhibit: Exhibit, held: HeldOut, columns: list[int]) -> Estimate:
        """Give the mean loss over the shuffles; its error is the rows' (of the first one) and the shuffles'."""
        whole = scores_of(exhibit, held.scored)
        aside, metric = aside_of(whole), exhibit.judgement.metric
        sign = -1.0 if metric_better(metric) else 1.0
        base = measure(metric, whole.y, whole.prediction, aside)
        drops, first = [], Estimate(0.0, float("nan"))
        for turn in range(self._params.repeats):
            order = np.random.default_rng((exhibit.judgement.seed, turn)).permutation(len(whole.y))
            x = held.matrix.x.copy()
            x[:, columns] = x[order][:, columns]
            prediction = _predict(exhibit, x)
            if turn == 0:
                first = harm(exhibit, replace(whole, prediction=prediction), whole)
            value = measure(metric, whole.y, prediction, aside)
            if value is None or base is None:
                raise DataError(
                    f"{metric} is not defined on the {self._params.part} rows", hint="choose another primary"
                )
            drops.append(sign * (value - base))
        spread = float(np.var(drops, ddof=1)) / len(drops)
        return Estimate(float(np.mean(drops)), float(np.sqrt(first.error**2 + spread)))


class Shap:
    """Asks the model for its own contributions."""

    def __init__(self, params: ShapParams) -> None:
        self._params = params

    def examine(self, exhibit: Exhibit) -> AnalysisDocument:
        """Average the size of each column's contribution; a trainer that cannot explain is told so, which is no failure."""
        held = _thinned(exhibit, self._params.part, self._params.rows)
        explainer: object = exhibit.plain
        if not isinstance(explainer, Explainer):
            words = "The trainer has no SHAP values of its own; `permutation` works with any."
            return AnalysisDocument(
                summary=words, part=self._params.part, n=len(held.scored.y), facts={"available": False}
            )
        parts = np.asarray(explainer.contributions(held.matrix.x))
        size = np.abs(parts)
        size = size if size.ndim == 2 else size.mean(axis=2)
        direction = _directions(held.matrix.x, parts) if parts.ndim == 2 else {}
        names = exhibit.subject.columns
        means, errors = size.mean(axis=0), size.std(axis=0, ddof=1) / np.sqrt(max(1, len(size)))
        order = sorted(range(len(names)), key=lambda place: (-means[place], names[place]))
        points = []
        for place in order:
            low, high = Estimate(float(means[place]), float(errors[place])).interval(exhibit.judgement.level)
            points.append(AnalysisPoint(name=names[place], value=float(means[place]), low=low, high=high, n=len(size),
                                        note=_arrow(direction.get(place)) if direction else ""))  # fmt: skip
        top = [names[place] for place in order[:5] if means[place] > 0]
        return AnalysisDocument(
            summary=f"Scores are moved most by {', '.join(top) or 'nothing'}.",
            part=self._params.part,
            n=len(size),
            metric="raw score",
            level=exhibit.judgement.level,
            notes=(
                ("Mean size of SHAP values of the raw score (before link and calibration); of several classes, their mean. What "
                "moves the score need not be right: compare with `permutation` and `ablation`."),
            ),
            charts=(
                AnalysisChart(kind="intervals", title="Mean size of SHAP values", reference=0.0,
                              series=(AnalysisSeries(name="columns", points=tuple(points)),)),
            ),
            tables=(
                AnalysisTable(caption="SHAP values by column", columns=("column", "mean size", "as it rises, the score"),
                              rows=tuple((point.name, point.value, point.note) for point in points)),
            ),
            facts={"available": True, "mean_size": {point.name: point.value for point in points},
                   "direction": {names[place]: value for place, value in direction.items()}},
        )  # fmt: skip


def _thinned(exhibit: Exhibit, part: str, most: int) -> HeldOut:
    """Read the part; of more than `most` rows keep some by a hash of their ids, whole queries of a ranking."""
    if exhibit.held is None:
        raise DataError("there is no model to look at")
    held = exhibit.held(part)
    n = len(held.scored.y)
    if n <= most:
        return held
    names = pl.Series(held.scored.ids if held.scored.group is None else held.scored.group.astype(str))
    hashed = names.hash(seed=3).to_numpy()
    kept = np.flatnonzero(hashed <= np.sort(hashed)[most - 1])
    return HeldOut(held.rows[kept], _rows(held, kept), _scored(held.scored, kept))


def _rows(held: HeldOut, kept: NDArray[np.int64]) -> Matrix:
    return replace(held.matrix, x=held.matrix.x[kept], y=held.matrix.y[kept])


def _scored(scored: Scored, kept: NDArray[np.int64]) -> Scored:
    return replace(
        scored, y=scored.y[kept], prediction=scored.prediction[kept], ids=scored.ids[kept], moments=scored.moments[kept],
        cluster=None if scored.cluster is None else scored.cluster[kept], group=None if scored.group is None else scored.group[kept],
    )  # fmt: skip


def _predict(exhibit: Exhibit, x: Floats) -> Floats:
    if exhibit.predictor is None:
        raise DataError("there is no model to ask")
    return np.asarray(exhibit.predictor.predict(np.ascontiguousarray(x)))


def _directions(x: Floats, parts: Floats) -> dict[int, float]:
    """Give the rank correlation of a column with its own contribution; constant ones have none."""
    found = {}
    for place in range(x.shape[1]):
        known = np.isfinite(x[:, place])
        value, part = x[known, place], parts[known, place]
        if len(value) > 2 and value.min() < value.max() and part.min() < part.max():
            found[place] = float(np.corrcoef(midranks(value), midranks(part))[0, 1])
    return found


def _arrow(rho: float | None) -> str:
    if rho is None or abs(rho) < 0.2:
        return "goes both ways"
    return "rises" if rho > 0 else "falls"
