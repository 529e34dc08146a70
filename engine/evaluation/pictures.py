"""What ROC curves are for a binary task, for the other tasks: charts as data, which the report draws.

Enters: the target, and every model's scores on the same rows. Leaves: charts. Called by `evaluate`. Rows that are not numbers
give no chart; the metrics beside say why.

A regression has residuals by prediction, several classes a confusion matrix and each class's recall, quantiles their coverage
by level and by size of the label, a ranking its NDCG by places looked at.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from engine.analysis_records import AnalysisChart, AnalysisPoint, AnalysisSeries
from engine.contracts import Scores, Target
from engine.evaluation.families import rank_queries
from engine.evaluation.metrics import Floats
from engine.evaluation.names import CUTS
from engine.evaluation.significance import wilson
from engine.evaluation.statistic import Aside, likeliest

_BINS = 10
_MOST_CLASSES = 20
_MIN_ROWS = 20


def pictures_of(target: Target, models: Mapping[str, Scores]) -> tuple[AnalysisChart, ...]:
    """Give the charts of a task; none for a binary one, which has curves, and none of what cannot be drawn."""
    known = {name: scores for name, scores in models.items() if _finite(scores)}
    if "challenger" not in known:
        return ()
    match target.task:
        case "regression":
            return (_residuals(known), _spread(known["challenger"]))
        case "multiclass":
            return (_confusion(known["challenger"], target), _recalls(known, target))
        case "quantile":
            return (_coverage(known), _widths(known["challenger"]))
        case "ranking":
            return (_by_places(known),) if known["challenger"].group is not None else ()
        case _:
            return ()


def _finite(scores: Scores) -> bool:
    return len(scores.y) >= _MIN_ROWS and bool(np.isfinite(scores.y).all() and np.isfinite(scores.prediction).all())


def _bins(values: Floats) -> np.ndarray:
    """Give each row's bin of equal mass, 0 to 9; ties stay together."""
    cuts = np.unique(np.quantile(values, np.arange(1, _BINS) / _BINS))
    return np.searchsorted(cuts, values, side="right")


def _residuals(models: Mapping[str, Scores]) -> AnalysisChart:
    """Give the mean of label less prediction by bin of prediction, with twice its standard error."""
    series = []
    for name, scores in models.items():
        gap, place = scores.y - scores.prediction, _bins(scores.prediction)
        points = []
        for which in np.unique(place):
            inside = place == which
            mean, error = float(gap[inside].mean()), float(gap[inside].std() / np.sqrt(inside.sum()))
            points.append(
                AnalysisPoint(x=float(scores.prediction[inside].mean()), value=mean, low=mean - 2 * error,
                              high=mean + 2 * error, n=int(inside.sum()))
            )  # fmt: skip
        series.append(AnalysisSeries(name=name, points=tuple(points)))
    return AnalysisChart(
        kind="curve", title="Residuals by prediction", x="predicted", y="label less prediction", series=tuple(series),
        reference=0.0,
    )  # fmt: skip


def _spread(scores: Scores) -> AnalysisChart:
    """Give the 10, 50 and 90 % points of the challenger's absolute error by bin of prediction."""
    gap, place = np.abs(scores.y - scores.prediction), _bins(scores.prediction)
    points = []
    for which in np.unique(place):
        low, middle, high = (float(value) for value in np.quantile(gap[place == which], (0.1, 0.5, 0.9)))
        x = float(scores.prediction[place == which].mean())
        points.append(AnalysisPoint(x=x, value=middle, low=low, high=high, n=int((place == which).sum())))
    return AnalysisChart(
        kind="curve", title="Absolute error: median, 10 to 90 %", x="predicted", y="absolute error",
        series=(AnalysisSeries(name="challenger", points=tuple(points)),),
    )  # fmt: skip


def _confusion(scores: Scores, target: Target) -> AnalysisChart:
    """Count what each class was taken for; of many classes, the most frequent."""
    y, said = scores.y.astype(np.int64), likeliest(scores.prediction)
    counts = np.bincount(y, minlength=len(target.classes))
    shown = sorted(np.argsort(-counts, kind="stable")[:_MOST_CLASSES].tolist())
    series = []
    for actual in shown:
        of = y == actual
        points = tuple(
            AnalysisPoint(name=target.classes[guess], n=int((said[of] == guess).sum()),
                          value=float((said[of] == guess).mean()) if of.any() else None)
            for guess in shown
        )  # fmt: skip
        series.append(AnalysisSeries(name=target.classes[actual], points=points))
    return AnalysisChart(
        kind="matrix", title="What each class is taken for", x="predicted", y="label", series=tuple(series)
    )


def _recalls(models: Mapping[str, Scores], target: Target) -> AnalysisChart:
    """Give each class's recall with Wilson's interval, of the challenger."""
    scores = models["challenger"]
    y, hit = scores.y.astype(np.int64), likeliest(scores.prediction) == scores.y
    points = []
    for place, name in enumerate(target.classes):
        n = int((y == place).sum())
        if n:
            found = wilson(int(hit[y == place].sum()), n)
            points.append(AnalysisPoint(name=name, value=found.value, low=found.low, high=found.high, n=n))
    return AnalysisChart(
        kind="intervals", title="Recall by class", series=(AnalysisSeries(name="challenger", points=tuple(points)),),
        reference=float(hit.mean()),
    )  # fmt: skip


def _coverage(models: Mapping[str, Scores]) -> AnalysisChart:
    """Give the share of labels at or below each level's prediction."""
    series = []
    for name, scores in models.items():
        points = []
        for place, level in enumerate(scores.quantiles):
            found = wilson(int((scores.y <= scores.prediction[:, place]).sum()), len(scores.y))
            points.append(AnalysisPoint(name=f"q{level:g}", x=level, value=found.value, low=found.low, high=found.high))
        series.append(AnalysisSeries(name=name, points=tuple(points)))
    ideal = tuple(AnalysisPoint(x=level, value=level) for level in models["challenger"].quantiles)
    return AnalysisChart(
        kind="curve", title="Coverage by level", x="level", y="share at or below",
        series=(*series, AnalysisSeries(name="as promised", points=ideal)),
    )  # fmt: skip


def _widths(scores: Scores) -> AnalysisChart:
    """Give how often the label lies between the outer quantiles, by bin of the middle one."""
    middle = scores.prediction[:, scores.prediction.shape[1] // 2]
    inside = (scores.y >= scores.prediction[:, 0]) & (scores.y <= scores.prediction[:, -1])
    place = _bins(middle)
    points = []
    for which in np.unique(place):
        found = wilson(int(inside[place == which].sum()), int((place == which).sum()))
        x = float(middle[place == which].mean())
        points.append(
            AnalysisPoint(x=x, value=found.value, low=found.low, high=found.high, n=int((place == which).sum()))
        )
    promised = scores.quantiles[-1] - scores.quantiles[0]
    return AnalysisChart(
        kind="curve", title="Share between the outer quantiles", x="middle quantile", y="share inside",
        series=(AnalysisSeries(name="challenger", points=tuple(points)),), reference=promised if promised > 0 else None,
    )  # fmt: skip


def _by_places(models: Mapping[str, Scores]) -> AnalysisChart:
    """Give NDCG by how many of the first places are looked at."""
    cuts = [cut for cut in CUTS if cut <= 50]
    names = [f"ndcg_at_{cut}" for cut in cuts]
    series = []
    for name, scores in models.items():
        found = rank_queries(scores.y, scores.prediction, names, Aside(scores.group))(np.ones(len(scores.y)))
        points = tuple(
            AnalysisPoint(x=float(cut), value=found[metric])
            for cut, metric in zip(cuts, names, strict=True)
            if np.isfinite(found[metric])
        )
        series.append(AnalysisSeries(name=name, points=points))
    return AnalysisChart(kind="curve", title="NDCG by places looked at", x="places", y="NDCG", series=tuple(series))
