"""The evaluation document: what `evaluate` measured, as gates, the report and the model card read it.

Upstream of all three and only growing, as everything in `records`. A number that is not defined says why in `reason`.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from engine.analysis_records import AnalysisChart
from engine.records import Metric, Record

DOCUMENT_VERSION = 1


class MeasuredMetric(Metric, frozen=True, kw_only=True):
    """A metric with its interval; `reason` says why the value or the interval is absent."""

    reason: str = ""


class PairedDifference(Record, frozen=True, kw_only=True):
    """`challenger - other` in the metric's own units, resampled together.

    `probability` is the share of resamples in which the challenger is the better one; ties count half.
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    level: float | None = None
    probability: float | None = None
    n: int = 0
    higher_is_better: bool = True
    reason: str = ""


class RocCurve(Record, frozen=True, kw_only=True):
    """Points from (0, 0) to (1, 1), at most 200."""

    fpr: tuple[float, ...] = ()
    tpr: tuple[float, ...] = ()


class PrecisionRecallCurve(Record, frozen=True, kw_only=True):
    """Points in rising order of recall, at most 200."""

    recall: tuple[float, ...] = ()
    precision: tuple[float, ...] = ()


class CalibrationCurve(Record, frozen=True, kw_only=True):
    """Mean prediction, mean label and rows of each bin of equal mass."""

    predicted: tuple[float, ...] = ()
    observed: tuple[float, ...] = ()
    n: tuple[int, ...] = ()


class Curves(Record, frozen=True, kw_only=True):
    """One model's curves; empty for a regression, but for the calibration."""

    roc: RocCurve = RocCurve()
    precision_recall: PrecisionRecallCurve = PrecisionRecallCurve()
    calibration: CalibrationCurve = CalibrationCurve()


class Histogram(Record, frozen=True, kw_only=True):
    """Counts of predictions between `edges`; by label for a binary task, else together."""

    edges: tuple[float, ...] = ()
    positive: tuple[int, ...] = ()
    negative: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()


class ModelEvaluation(Record, frozen=True, kw_only=True):
    """One model on the test rows. `seconds_per_row` is not here: the document is the same on every machine."""

    metrics: dict[str, MeasuredMetric] = {}
    curves: Curves = Curves()
    histogram: Histogram = Histogram()


class SliceMetric(Record, frozen=True, kw_only=True):
    """The primary metric on the rows where `column` is `value`; the others without intervals.

    `insufficient`: fewer rows than asked for; `undefined`: the metric has no value there. `note` says so in words.
    """

    column: str
    value: str
    n: int
    status: Literal["measured", "insufficient", "undefined"]
    metric: MeasuredMetric
    baseline: MeasuredMetric | None = None
    champion: MeasuredMetric | None = None
    note: str = ""


class EvaluationDocument(Record, frozen=True, kw_only=True):
    """`evaluation.json`. `charts` are the task's own, beside the curves.

    `left_out_slices` counts, by column, the smallest slices beyond those listed.

    `refusals` say why the champion was not scored, `refused` by model why its scores do not count.
    """

    schema_version: int = DOCUMENT_VERSION
    task: str
    primary: str
    n: int
    positives: int | None = None
    label_mean: float | None = None
    level: float
    resamples: int
    seed: int
    cluster: str | None = None
    group: str | None = None
    classes: tuple[str, ...] = ()
    quantiles: tuple[float, ...] = ()
    class_counts: dict[str, int] = {}
    min_slice_rows: int = 1
    models: dict[str, ModelEvaluation] = {}
    differences: dict[str, dict[str, PairedDifference]] = {}
    charts: tuple[AnalysisChart, ...] = ()
    slices: tuple[SliceMetric, ...] = ()
    left_out_slices: dict[str, int] = {}
    refusals: tuple[str, ...] = ()
    refused: dict[str, str] = {}


def read_evaluation(document: Any) -> EvaluationDocument | None:
    """Read a document back; `None` for what is not one, which a gate answers by measuring for itself."""
    try:
        return msgspec.convert(document, EvaluationDocument)
    except msgspec.ValidationError:
        return None
