"""Reading the evaluation document for the page: what can be read is shown, what is missing or odd is left out.

Enters: the document as JSON (`evaluation.json`), or nothing. Leaves: typed views. A report is made of runs of any age and
of runs that failed half-way, so nothing here raises for a missing part.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from engine.records import Metric, RunRecord
from engine.report.charts import Bins, Point, Series, Tone

ROLES: tuple[Tone, ...] = ("challenger", "champion", "baseline")
Measures: TypeAlias = "Mapping[str, Measure]"

_METRIC_WORDS = {
    "roc_auc": "ROC AUC",
    "average_precision": "Average precision",
    "log_loss": "Log loss",
    "brier": "Brier score",
    "calibration_error": "Calibration error",
}
_ROC = (("fpr", "false_positive_rate", "x"), ("tpr", "true_positive_rate", "y"))
_PRECISION_RECALL = (("recall", "x"), ("precision", "y"))
_CALIBRATION = (("predicted", "mean_predicted", "mean_prediction", "x"), ("observed", "observed_rate", "mean_observed", "fraction", "y"))
_COUNTS = ("n", "count", "rows", "weight")


@dataclass(frozen=True, slots=True)
class Measure:
    """A value with its interval; `value` is `None` when it is not defined."""

    value: float | None
    low: float | None = None
    high: float | None = None
    level: float | None = None
    n: int = 0
    higher_is_better: bool = True


@dataclass(frozen=True, slots=True)
class Curves:
    """One model's curves; each may be empty."""

    roc: tuple[Point, ...] = ()
    precision_recall: tuple[Point, ...] = ()
    calibration: tuple[Point, ...] = ()
    calibration_counts: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Slice:
    """The primary metric on the rows where `column` is `value`; `note` says why there is none."""

    column: str
    value: str
    n: int
    measure: Measure
    baseline: Measure | None = None
    champion: Measure | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the evaluation shows, by role: challenger, champion, baseline."""

    primary: str | None = None
    rows: int = 0
    positives: int | None = None
    metrics: Mapping[Tone, Measures] = field(default_factory=dict)
    differences: Mapping[Tone, Measures] = field(default_factory=dict)
    curves: Mapping[Tone, Curves] = field(default_factory=dict)
    slices: tuple[Slice, ...] = ()
    importance: tuple[tuple[str, float], ...] = ()
    histograms: tuple[Bins, ...] = ()
    refusals: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Metrics in the document's order, the primary one first."""
        found = dict.fromkeys(name for measures in self.metrics.values() for name in measures)
        return tuple(sorted(found, key=lambda name: name != self.primary))


def read_evidence(document: Mapping[str, Any] | None, run: RunRecord) -> Evidence:
    """Read the document; without one, the metrics that the run's record holds."""
    if not isinstance(document, Mapping):
        recorded: dict[Tone, Measures] = {"challenger": _recorded(run.metrics), "baseline": _recorded(run.baseline_metrics)}
        return Evidence(
            primary=run.metrics[0].name if run.metrics else None,
            metrics={role: measures for role, measures in recorded.items() if measures},
        )
    models = _mapping(document.get("models"))
    metrics = {role: _measures(_mapping(models.get(role)).get("metrics")) for role in ROLES}
    curves = {role: _curves(_mapping(models.get(role))) for role in ROLES}
    differences = _mapping(document.get("differences"))
    challenger = _mapping(models.get("challenger"))
    return Evidence(
        primary=_text(document.get("primary")),
        rows=_count(document.get("n", document.get("rows"))),
        positives=_count(document.get("positives")) if "positives" in document else None,
        metrics={role: measures for role, measures in metrics.items() if measures},
        differences={role: found for role in ROLES if (found := _measures(differences.get(role)))},
        curves={role: found for role, found in curves.items() if found != Curves()},
        slices=tuple(_slices(document.get("slices"))),
        importance=_importance(document.get("importance", challenger.get("importance"))),
        histograms=_histograms(document.get("histogram", challenger.get("histogram"))),
        refusals=tuple(str(item) for item in _items(document.get("refusals"))),
    )


def curve_series(evidence: Evidence, kind: str, names: Mapping[Tone, str]) -> list[Series]:
    """Give one kind of curve (`roc`, `precision_recall`, `calibration`) of every model that has it."""
    found: list[Series] = []
    for role, curves in evidence.curves.items():
        points: tuple[Point, ...] = getattr(curves, kind)
        if points:
            counts = curves.calibration_counts if kind == "calibration" else ()
            found.append(Series(names[role], role, points, counts))
    return found


def read_measure(raw: Any) -> Measure | None:  # noqa: ANN401 - whatever the document holds
    """Read a value with its interval; a bare number is a value without one.

    >>> read_measure({"value": 0.7, "low": 0.6, "high": None}).low
    0.6
    """
    if not isinstance(raw, Mapping):
        return Measure(_number(raw)) if _number(raw) is not None else None
    better = raw.get("higher_is_better", True)
    return Measure(
        value=_number(raw.get("value", raw.get("difference"))),
        low=_number(raw.get("low")),
        high=_number(raw.get("high")),
        level=_number(raw.get("level")),
        n=_count(raw.get("n")),
        higher_is_better=better if isinstance(better, bool) else True,
    )


def metric_words(name: str) -> str:
    """Give a metric's usual name.

    >>> metric_words("roc_auc"), metric_words("mean_error")
    ('ROC AUC', 'mean error')
    """
    return _METRIC_WORDS.get(name, name.replace("_", " "))


def _recorded(metrics: Iterable[Metric]) -> Measures:
    return {one.name: Measure(one.value, one.low, one.high, one.level, one.n, one.higher_is_better) for one in metrics}


def _measures(raw: Any) -> Measures:  # noqa: ANN401
    """Read metrics by name, or a list of metrics that say their names."""
    named = raw.items() if isinstance(raw, Mapping) else ((_mapping(item).get("name"), item) for item in _items(raw))
    return {str(name): measure for name, item in named if name and (measure := read_measure(item))}


def _curves(model: Mapping[str, Any]) -> Curves:
    held = _mapping(model.get("curves")) or model
    calibration = held.get("calibration")
    points = _points(calibration, _CALIBRATION)
    counts = _column(calibration, _COUNTS)
    return Curves(
        roc=_points(held.get("roc"), _ROC),
        precision_recall=_points(held.get("precision_recall"), _PRECISION_RECALL),
        calibration=points,
        calibration_counts=tuple(count or 0.0 for count in counts) if len(counts) == len(points) else (),
    )


def _points(raw: Any, axes: tuple[Sequence[str], Sequence[str]]) -> tuple[Point, ...]:  # noqa: ANN401
    """Read points as pairs, as records with named axes, or as two named columns."""
    if isinstance(raw, Mapping):
        raw = raw.get("points", raw.get("bins", raw))
    rows = [(row[0], row[1]) for row in _items(raw) if isinstance(row, list | tuple) and len(row) > 1]
    pairs = rows or list(zip(_column(raw, axes[0]), _column(raw, axes[1]), strict=False))
    known = ((_number(x), _number(y)) for x, y in pairs)
    return tuple((x, y) for x, y in known if x is not None and y is not None)


def _column(raw: Any, names: Sequence[str]) -> list[float | None]:  # noqa: ANN401
    if isinstance(raw, Mapping):
        inner = raw.get("points", raw.get("bins"))
        if inner is not None:
            return _column(inner, names)
        return next(([_number(item) for item in _items(raw[name])] for name in names if name in raw), [])
    records = [item for item in _items(raw) if isinstance(item, Mapping)]
    return [next((_number(record[name]) for name in names if name in record), None) for record in records]


def _slices(raw: Any) -> Iterable[Slice]:  # noqa: ANN401
    for item in _items(raw):
        if isinstance(item, Mapping) and "column" in item:
            measure = read_measure(item.get("metric", item.get("challenger"))) or Measure(None)
            yield Slice(
                column=str(item["column"]),
                value=str(item.get("value")),
                n=_count(item.get("n", item.get("rows"))),
                measure=measure,
                baseline=read_measure(item.get("baseline")),
                champion=read_measure(item.get("champion")),
                note=_text(item.get("note", item.get("status"))) or "",
            )


def _importance(raw: Any) -> tuple[tuple[str, float], ...]:  # noqa: ANN401
    if isinstance(raw, Mapping):
        pairs = list(raw.items())
    else:
        pairs = [_pair(item) for item in _items(raw)]
    known = [(str(name), number) for name, value in pairs if name is not None and (number := _number(value)) is not None]
    return tuple(sorted(known, key=lambda pair: (-pair[1], pair[0])))


def _pair(item: Any) -> tuple[Any, Any]:  # noqa: ANN401
    if isinstance(item, Mapping):
        return item.get("name", item.get("feature")), item.get("value", item.get("importance"))
    return (item[0], item[1]) if isinstance(item, list | tuple) and len(item) > 1 else (None, None)


_CLASSES: tuple[tuple[str, str, Tone], ...] = (
    ("positive", "label 1", "baseline"),
    ("negative", "label 0", "challenger"),
    ("counts", "all rows", "challenger"),
)


def _histograms(raw: Any) -> tuple[Bins, ...]:  # noqa: ANN401
    """Read counts between `edges`, apart for both labels when they are there, as shares of each histogram's rows."""
    held = _mapping(raw)
    edges = [edge for edge in map(_number, _items(held.get("edges"))) if edge is not None]
    found: list[Bins] = []
    for key, name, tone in _CLASSES:
        counts = [_number(item) or 0.0 for item in _items(held.get(key))]
        total = sum(counts)
        if total > 0 and len(counts) == len(edges) - 1 and not (key == "counts" and found):
            found.append(Bins(name, tone, tuple(edges), tuple(count / total for count in counts)))
    return tuple(found)


def _mapping(raw: Any) -> Mapping[str, Any]:  # noqa: ANN401
    return raw if isinstance(raw, Mapping) else {}


def _items(raw: Any) -> Sequence[Any]:  # noqa: ANN401
    return raw if isinstance(raw, list | tuple) else ()


def _number(raw: Any) -> float | None:  # noqa: ANN401
    known = isinstance(raw, int | float) and not isinstance(raw, bool) and math.isfinite(raw)
    return float(raw) if known else None


def _count(raw: Any) -> int:  # noqa: ANN401
    number = _number(raw)
    return int(number) if number is not None else 0


def _text(raw: Any) -> str | None:  # noqa: ANN401
    return raw if isinstance(raw, str) else None
