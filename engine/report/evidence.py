"""The evaluation as the page shows it: the document by role, or what the run's record holds when there is none.

Enters: `evaluation.json`, or nothing. Leaves: `Evidence`. A report is made of runs of any age and of runs that failed
half-way, so a document that cannot be read is said on the page and stops nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import msgspec

from engine.analysis_records import AnalysisChart
from engine.evaluation.document import (
    Curves,
    EvaluationDocument,
    Histogram,
    MeasuredMetric,
    PairedDifference,
    SliceMetric,
    read_evaluation,
)
from engine.evaluation.names import CUTS
from engine.records import Metric, RunRecord
from engine.report.charts import Bins, Series, Tone

ROLES: tuple[Tone, ...] = ("challenger", "champion", "baseline")
Measure: TypeAlias = MeasuredMetric | PairedDifference

_CUTS = (("", ""), *((f"_at_{k}", f" at {k}") for k in CUTS))
_METRIC_WORDS = {
    "roc_auc": "ROC AUC",
    "average_precision": "Average precision",
    "log_loss": "Log loss",
    "brier": "Brier score",
    "calibration_error": "Calibration error",
    "accuracy": "Accuracy",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
    "f1": "F1",
    "mcc": "Matthews correlation",
    "macro_f1": "Macro F1",
    "weighted_f1": "Weighted F1",
    "roc_auc_ovr": "ROC AUC, one against the rest",
    "mape": "MAPE",
    "smape": "sMAPE",
    "wape": "WAPE",
    "pinball": "Pinball loss",
    "mrr": "MRR",
    **{f"{name}{at}": f"{name.upper()}{words}" for name in ("ndcg", "map") for at, words in _CUTS},
}


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What the evaluation shows, by role: challenger, champion, baseline. `remark` says what could not be read."""

    binary: bool = True
    primary: str | None = None
    rows: int = 0
    positives: int | None = None
    level: float | None = None
    metrics: Mapping[Tone, Mapping[str, MeasuredMetric]] = {}
    differences: Mapping[Tone, Mapping[str, PairedDifference]] = {}
    curves: Mapping[Tone, Curves] = {}
    histogram: Histogram = Histogram()
    charts: tuple[AnalysisChart, ...] = ()
    slices: tuple[SliceMetric, ...] = ()
    left_out_slices: Mapping[str, int] = {}
    refusals: tuple[str, ...] = ()
    remark: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Metrics in the document's order, the primary one first."""
        found = dict.fromkeys(name for measures in self.metrics.values() for name in measures)
        return tuple(sorted(found, key=lambda name: name != self.primary))

    @property
    def headline(self) -> MeasuredMetric | None:
        """The challenger's primary metric."""
        return self.metrics.get("challenger", {}).get(self.primary) if self.primary else None


def read_evidence(document: Mapping[str, Any] | None, run: RunRecord) -> Evidence:
    """Read the document; without a readable one, give the metrics that the run's record holds."""
    read = read_evaluation(document) if document is not None else None
    return _recorded(run, unreadable=document is not None) if read is None else _documented(read)


def curve_series(evidence: Evidence, kind: str, names: Mapping[Tone, str]) -> list[Series]:
    """Give one kind of curve (`roc`, `precision_recall`, `calibration`) of every model that has it."""
    found: list[Series] = []
    for role, curves in evidence.curves.items():
        weights: tuple[int, ...] = ()
        match kind:
            case "roc":
                x, y = curves.roc.fpr, curves.roc.tpr
            case "precision_recall":
                x, y = curves.precision_recall.recall, curves.precision_recall.precision
            case _:
                x, y, weights = curves.calibration.predicted, curves.calibration.observed, curves.calibration.n
        if x and y:
            found.append(Series(names[role], role, tuple(zip(x, y, strict=False)), weights))
    return found


def score_bins(histogram: Histogram) -> list[Bins]:
    """Give the histogram's counts as shares of their own rows, by label when they are apart."""
    found: list[Bins] = []
    named: tuple[tuple[str, Tone, tuple[int, ...]], ...] = (
        ("label 1", "baseline", histogram.positive),
        ("label 0", "challenger", histogram.negative),
        ("all rows", "challenger", histogram.counts),
    )
    for name, tone, counts in named:
        total = sum(counts)
        if total > 0:
            found.append(Bins(name, tone, histogram.edges, tuple(count / total for count in counts)))
    return found


def metric_words(name: str) -> str:
    """Give a metric's usual name.

    >>> metric_words("roc_auc"), metric_words("mean_error")
    ('ROC AUC', 'mean error')
    """
    return _METRIC_WORDS.get(name, name.replace("_", " "))


def _documented(document: EvaluationDocument) -> Evidence:
    models = {role: document.models[role] for role in ROLES if role in document.models}
    return Evidence(
        binary=document.task == "binary",
        primary=document.primary,
        rows=document.n,
        positives=document.positives,
        level=document.level,
        metrics={role: model.metrics for role, model in models.items() if model.metrics},
        differences={role: document.differences[role] for role in ROLES if document.differences.get(role)},
        curves={role: model.curves for role, model in models.items()},
        histogram=models["challenger"].histogram if "challenger" in models else Histogram(),
        charts=document.charts,
        slices=document.slices,
        left_out_slices=document.left_out_slices,
        refusals=document.refusals,
    )


def _recorded(run: RunRecord, *, unreadable: bool) -> Evidence:
    found: dict[Tone, dict[str, MeasuredMetric]] = {
        "challenger": _measured(run.metrics),
        "baseline": _measured(run.baseline_metrics),
    }
    remark = "The evaluation document cannot be read; these are the metrics in the run's record." if unreadable else ""
    return Evidence(
        primary=run.metrics[0].name if run.metrics else None,
        rows=max((metric.n for metric in run.metrics), default=0),
        level=next((metric.level for metric in run.metrics if metric.level), None),
        metrics={role: metrics for role, metrics in found.items() if metrics},
        remark=remark,
    )


def _measured(metrics: Iterable[Metric]) -> dict[str, MeasuredMetric]:
    return {metric.name: MeasuredMetric(**msgspec.structs.asdict(metric)) for metric in metrics}
