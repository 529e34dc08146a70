"""What an analysis gets and what it leaves: the Protocol of the role `analysis`, and the values that pass.

Enters: models and scores that the planner had made for it. Leaves: an `AnalysisDocument`. Called by the `analysis` node.
Heavy types appear in annotations only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from engine.analysis_records import AnalysisDocument
from engine.modelling import Matrix, Predictor, Target
from engine.spec.analysis import Subject

if TYPE_CHECKING:
    import numpy as np
    import polars as pl


@dataclass(frozen=True, slots=True)
class Scored:
    """What one fit scored: labels, predictions, ids and moments (microseconds) of the rows, (n,), in their order.

    `facts` say what was trained: `rows`, `columns`, `params`, and of a choice `chosen` and each candidate's `proofs`.
    `cluster` and `group` (n,) name what comes together.
    """

    y: np.ndarray
    prediction: np.ndarray
    ids: np.ndarray
    moments: np.ndarray
    cluster: np.ndarray | None
    group: np.ndarray | None
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The pipeline's model with rows that did not train it: raw request fields and features, what the model sees, its scores.

    `baseline` are the predictions of the pipeline's simple model for the same rows, of the same shape; `None`: it has none.
    """

    rows: pl.DataFrame
    matrix: Matrix
    scored: Scored
    baseline: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """How analyses measure: the primary metric, and the bootstrap of the evaluation."""

    metric: str
    resamples: int
    level: float
    seed: int


@dataclass(frozen=True, slots=True)
class Exhibit:
    """All that an analysis may look at.

    `held(part)` reads rows of the pipeline's own split, `predictor` is its model and `plain` the same without calibration;
    they are there for components whose parameters say `needs_model`.
    """

    subject: Subject
    target: Target
    judgement: Judgement
    fits: Mapping[str, Scored]
    progress: Callable[[str, int | None, float | None], None]
    held: Callable[[str], HeldOut] | None = None
    predictor: Predictor | None = None
    plain: Predictor | None = None


class Analysis(Protocol):
    """One way to look at a model."""

    def examine(self, exhibit: Exhibit) -> AnalysisDocument:
        """Look; raises `DataError` for rows with which nothing can be shown."""
        ...
