"""Measure challenger, baseline and champion on the same rows, and write one document of it.

Enters: each model's scores, the slices' values, what the pipeline asks to measure, and why a champion could not be
scored. Leaves: an `EvaluationDocument`, the same for the same scores on any machine. Called by the `evaluate` node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.contracts import Scores, Target
from engine.errors import DataError
from engine.evaluation.bootstrap import Drawn, Resampling, difference_of, draw, interval_of
from engine.evaluation.curves import curves_of, histogram_of
from engine.evaluation.document import EvaluationDocument, ModelEvaluation
from engine.evaluation.names import BINARY, choose_metrics
from engine.evaluation.pictures import pictures_of
from engine.evaluation.slices import SlicePlan, measure_slices
from engine.spec import EvaluateSpec

MODELS = ("challenger", "baseline", "champion")


def evaluate_scores(
    target: str | Target,
    models: Mapping[str, Scores],
    slices: Mapping[str, NDArray[Any]],
    spec: EvaluateSpec,
    refusals: Sequence[str] = (),
) -> EvaluationDocument:
    """Measure everything; raises `DataError` only when the models were not scored on the same rows.

    Bad numbers are told, not raised. `target` may be just the task when it has neither classes nor levels.
    """
    _refuse_unequal_rows(models, slices)
    target = Target(target) if isinstance(target, str) else target
    task = target.task
    names, primary = choose_metrics(task, spec)
    resampling = Resampling(spec.resamples, spec.level, spec.seed)
    present = {model: models[model] for model in MODELS if model in models}
    drawn = draw(present, names, resampling)
    measured, left_out = measure_slices(present, slices, SlicePlan(primary, spec.min_slice_rows, resampling))
    y = models["challenger"].y
    return EvaluationDocument(
        task=task,
        primary=primary,
        n=len(y),
        positives=int((y == 1).sum()) if task == BINARY else None,
        label_mean=None if target.classes else _mean(y),
        level=spec.level,
        resamples=spec.resamples,
        seed=spec.seed,
        cluster=spec.cluster,
        classes=target.classes,
        quantiles=target.quantiles,
        class_counts={name: int((y == place).sum()) for place, name in enumerate(target.classes)},
        min_slice_rows=spec.min_slice_rows,
        models={model: _model(task, item, names, spec.level) for model, item in drawn.items()},
        differences={
            model: {name: difference_of(name, drawn["challenger"], item, spec.level) for name in names}
            for model, item in drawn.items()
            if model != "challenger"
        },
        charts=pictures_of(target, present),
        slices=measured,
        left_out_slices=left_out,
        refusals=tuple(refusals),
    )


def _model(task: str, drawn: Drawn, names: Sequence[str], level: float) -> ModelEvaluation:
    y, prediction = drawn.scores.y, drawn.scores.prediction
    return ModelEvaluation(
        metrics={name: interval_of(name, drawn, level) for name in names},
        curves=curves_of(task, y, prediction),
        histogram=histogram_of(task, y, prediction),
    )


def _mean(y: NDArray[np.float64]) -> float | None:
    if len(y) == 0 or not bool(np.isfinite(y).all()):
        return None
    with np.errstate(over="ignore"):
        mean = float(y.mean())
    return mean if np.isfinite(mean) else None


def _refuse_unequal_rows(models: Mapping[str, Scores], slices: Mapping[str, NDArray[Any]]) -> None:
    if "challenger" not in models:
        raise DataError("there are no scores of the challenger to evaluate")
    first = models["challenger"]
    for name, scores in models.items():
        same = np.array_equal(scores.y, first.y, equal_nan=True) and len(scores.prediction) == len(scores.y)
        if not same or (scores.cluster is not None and len(scores.cluster) != len(scores.y)):
            raise DataError(f"the {name} was not scored on the same rows as the challenger, so they cannot be compared")
    for column, values in slices.items():
        if len(values) != len(first.y):
            raise DataError(f"slice `{column}` has {len(values)} values for {len(first.y)} rows")
