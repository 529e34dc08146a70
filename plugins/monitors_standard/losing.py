"""Estimated loss of a regression before labels: a second model learns how large the loss is from features and prediction.

Direct loss estimation, as NannyML has it. Enters: held-out chunks with labels. Leaves: the expected loss of rows, and how far the
mean of as many rows is from it by chance. Called by `performing`. Two models, each of every other chunk: a held-out chunk is
judged by the one that has not seen it, a new one by both; so what is usual is no better than what comes. Blind, as every
estimate, to a relation that changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from engine.evaluation.metrics import Floats
from engine.watch.frozen import FrozenTable
from engine.watch.observed import LABEL, PREDICTION
from engine.watch.performance import Measured, losses_of

from .encoding import matrix_of

_SETTINGS: dict[str, Any] = {
    "objective": "regression", "num_leaves": 15, "learning_rate": 0.1, "min_data_in_leaf": 50, "verbosity": -1,
    "deterministic": True, "force_col_wise": True, "num_threads": 1, "seed": 1,
}  # fmt: skip
_ROUNDS = 60


@dataclass(frozen=True)
class LossModel:
    """The models of one metric's loss; `spread` is the variance of a row's loss about what is expected of it."""

    metric: str
    table: FrozenTable
    models: tuple[Any, Any]
    scale: float
    spread: float

    def expect(self, rows: pl.DataFrame, half: int | None = None) -> Measured:
        """Give the expected metric of rows; `half` is the fold of a held-out chunk, whose own model is left out."""
        known = usable(rows)
        if not known.height:
            return Measured(None, why="no scores")
        x = inputs(known, self.table)
        models = self.models if half is None else (self.models[1 - half],)
        loss = np.mean([np.maximum(model.predict(x, num_threads=1), 0.0) for model in models], axis=0) * self.scale
        value, error = float(loss.mean()), float(np.sqrt(self.spread / len(loss)))
        if self.metric == "rmse":
            return Measured(float(np.sqrt(value)), error / (2 * np.sqrt(value)) if value > 0 else 0.0, len(loss))
        return Measured(value, error, len(loss))


def usable(rows: pl.DataFrame) -> pl.DataFrame:
    """Give the rows with a finite prediction."""
    if PREDICTION not in rows.columns:
        return rows.clear()
    return rows.filter(pl.col(PREDICTION).cast(pl.Float64).is_finite().fill_null(value=False))


def inputs(rows: pl.DataFrame, table: FrozenTable) -> np.ndarray:
    """Give features and prediction; a column that the rows lack is missing."""
    made = matrix_of(rows, table)
    return np.column_stack([made, rows[PREDICTION].cast(pl.Float64).to_numpy()])


def fit_losses(metric: str, chunks: Sequence[pl.DataFrame], table: FrozenTable) -> LossModel:
    """Fit both models to chunks that all have labels, predictions and the table's columns."""
    import lightgbm  # noqa: PLC0415 - start-up time

    kept = [usable(chunk).drop_nulls(LABEL) for chunk in chunks]
    x = [inputs(chunk, table) for chunk in kept]
    y = [_losses(metric, chunk) for chunk in kept]
    models = tuple(
        lightgbm.train(
            _SETTINGS,
            lightgbm.Dataset(np.concatenate(x[half::2]), np.concatenate(y[half::2]), params={"verbosity": -1, "num_threads": 1}),
            _ROUNDS,
        )
        for half in (0, 1)
    )  # fmt: skip
    expected = np.concatenate([
        np.maximum(np.asarray(models[1 - place % 2].predict(item, num_threads=1)), 0.0) for place, item in enumerate(x)
    ])  # fmt: skip
    truth = np.concatenate(y)
    scale = float(truth.mean() / expected.mean()) if expected.mean() > 0 else 1.0
    return LossModel(metric, table, (models[0], models[1]), scale, float(np.mean((truth - expected * scale) ** 2)))


def _losses(metric: str, rows: pl.DataFrame) -> Floats:
    y, prediction = (rows[name].cast(pl.Float64).to_numpy() for name in (LABEL, PREDICTION))
    return losses_of(metric, y, prediction)
