"""What trainers ask of their rows before they learn from them, so that every one refuses in the same words.

Enters: a matrix and the task. Leaves: nothing, or a `DataError` that says what to do. Called by the trainers in `plugins`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from engine.errors import DataError
from engine.modelling import Matrix

SINGLE = float(np.finfo(np.float32).max)
"""The largest label of a library that keeps labels in 32 bits."""


@dataclass(frozen=True, slots=True)
class RowDemands:
    """So many rows, labels no larger than `largest`, relevances up to `grades` (`None`: any), features if it needs them."""

    least: int = 10
    largest: float = math.inf
    grades: int | None = None
    features: bool = False

    def check(self, matrix: Matrix, task: str) -> None:
        """Raise `DataError` for training rows that nothing can be learnt from."""
        y = matrix.y
        if len(y) < self.least:
            raise DataError(f"{len(y)} training rows are too few: {self.least} are needed", hint="widen the split")
        self.check_labels(matrix, task, "training")
        if y.min() == y.max():
            what = "one class only" if task in {"binary", "multiclass"} else "the same label everywhere"
            raise DataError(
                f"the training rows have {what} ({y[0]:g})", hint="check the label and the split's boundaries"
            )
        if self.features and (matrix.x.shape[1] == 0 or bool(np.isnan(matrix.x).all())):
            hint = "check the sources and their availability"
            raise DataError(f"every feature is null in all {len(y)} training rows", hint=hint)

    def check_labels(self, matrix: Matrix, task: str, part: str) -> None:
        """Raise `DataError` for labels that are missing, infinite, too large, or not those of the task."""
        y = matrix.y
        missing = int((~np.isfinite(y)).sum())
        if missing:
            hint = "check `label`: its expression gave null or infinity"
            raise DataError(f"{missing} of {len(y)} {part} rows have no finite label", hint=hint)
        strange = y[(y != 0) & (y != 1)]
        if task == "binary" and len(strange):
            hint = "set train.task=regression, or fix the label"
            raise DataError(f"a {part} row has the label {strange[0]:g}, and a binary task needs 0 or 1", hint=hint)
        if task == "ranking":
            self._check_relevance(matrix, part)
        if float(np.abs(y).max(initial=0.0)) > self.largest:
            hint = "rescale the label, as in `expr: label / 1e6`"
            raise DataError(
                f"a {part} row has a label beyond {self.largest:.2g}, the most that this trainer holds", hint=hint
            )

    def _check_relevance(self, matrix: Matrix, part: str) -> None:
        y = matrix.y
        if matrix.group is None:
            raise DataError(f"the {part} rows have no queries to be ranked in", hint="set train.group")
        if self.grades is not None and not bool(((y >= 0) & (y <= self.grades) & (y == np.floor(y))).all()):
            hint = "make the label a grade: whole numbers from 0 (not relevant) up"
            raise DataError(f"a {part} row has a relevance that is no whole number of 0 to {self.grades}", hint=hint)
