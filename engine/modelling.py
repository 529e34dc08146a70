"""What models are made of: rows, targets, and the Protocols of trainers, predictors and splitters.

Entered by `nodes` and plugins, through `engine.contracts`, which gives all names of this module too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

Progress = Callable[[str, int | None, float | None], None]
"""`progress(message, rows, fraction_done)`; cheap, may be called often, never raises."""


Measured = Callable[[int, float], None]
"""`measured(step, value)`: an intermediate metric, lower is better; a sweep may stop the training for it."""


def is_told(step: int) -> bool:
    """Say whether a step's metric is passed on: 1, 2, 3, 4, 6, 8, 12, 16, … few enough to journal, the same in every trial.

    >>> [step for step in range(1, 20) if is_told(step)]
    [1, 2, 3, 4, 6, 8, 12, 16]
    """
    return step > 0 and step // (step & -step) in {1, 3}


def UNMEASURED(step: int, value: float) -> None:  # noqa: N802 - a constant: that nobody compares
    """Nobody compares."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows for a trainer: `x` (n, k) float64 with NaN for null, `y` (n,) float64, one name a column.

    `y` is 0 or 1 for `binary`, the place of the class among `Target.classes` for `multiclass`, a relevance of 0 or more for
    `ranking`, else the value. `weight` (n,) are row weights, all above 0; `group` (n,) int64 names the query of each row of
    a `ranking`, whose rows need not stand together. Two matrices with the same `key` (other than empty) hold the same rows: a
    trainer may keep what it made of them.
    """

    x: np.ndarray
    y: np.ndarray
    names: tuple[str, ...]
    categorical: tuple[str, ...] = ()
    key: str = ""
    weight: np.ndarray | None = None
    group: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """What a model predicts.

    `classes` are the labels of a `multiclass` as text, in the order of its probabilities; `quantiles` the levels of a
    `quantile`, rising.
    """

    task: str
    classes: tuple[str, ...] = ()
    quantiles: tuple[float, ...] = ()

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the columns of a prediction (n, k); empty when it is one number a row, (n,).

        >>> Target("quantile", quantiles=(0.1, 0.5)).outputs, Target("binary").outputs
        (('q0.1', 'q0.5'), ())
        """
        return self.classes or tuple(f"q{level:g}" for level in self.quantiles)


class Predictor(Protocol):
    """A loaded model. `predict` maps (n, k) float64 to what the task asks for.

    (n,) for `binary` (a probability), `regression` (a value) and `ranking` (a score, higher comes first); (n, classes) for
    `multiclass` (probabilities that add up to one) and (n, quantiles) for `quantile` (never falling in a row).
    """

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Score rows; the same bits for one row as for many."""
        ...


@runtime_checkable
class ServingPredictor(Predictor, Protocol):
    """A predictor that can be made quicker for a server's many small batches."""

    def prepare(self) -> None:
        """Make ready, once, before the first request; may take seconds, and changes no bit of any score."""
        ...


class Trainer(Protocol):
    """A learner. Training is bit-for-bit reproducible, for any number of threads."""

    def train(self, train: Matrix, validation: Matrix, fit: FitRequest) -> Mapping[str, bytes]:
        """Fit and return the model's files (native text formats, never a pickle); raises `DataError` for unusable data."""
        ...

    def load(self, files: Mapping[str, bytes]) -> Predictor:
        """Load what `train` returned; the digests have been verified before."""
        ...

    def importance(self, files: Mapping[str, bytes]) -> Mapping[str, float]:
        """Importance by column name, in the model's own terms (gain, absolute standardised weight)."""
        ...


@runtime_checkable
class OnnxTrainer(Protocol):
    """A trainer whose models can be written as ONNX: `x` (n, k) float64 to `prediction`, of the shape `Predictor` says.

    One whose library adds up in less than 64 bits may have a number `onnx_tolerance`: how far its outputs may be from ours.
    """

    def to_onnx(self, files: Mapping[str, bytes]) -> bytes:
        """Write a model; raises `UsageError` for one that has no counterpart."""
        ...


@dataclass(frozen=True, slots=True)
class FitRequest:
    """What a training gets besides its rows. `threads` never changes the result; `classes` and `quantiles` as in `Target`.

    `cluster` is the address of the Dask scheduler that the run uses, if any.
    `measured` hears the validation loss of each round, of trainers that go in rounds.
    """

    task: str
    seed: int
    threads: int
    progress: Progress
    measured: Measured = UNMEASURED
    classes: tuple[str, ...] = ()
    quantiles: tuple[float, ...] = ()
    cluster: str | None = None


class PartedRows(Protocol):
    """Rows on disk that any machine which sees the artefact store can read a part of; it can be pickled."""

    def count(self, part: str) -> int:
        """Count the rows of `train`, `validation` or `calibration`."""
        ...

    def labels(self, part: str) -> np.ndarray:
        """Read the labels of a part alone, (n,), as in `Matrix`."""
        ...

    def read(self, part: str, index: int = 0, of: int = 1) -> Matrix:
        """Read and encode one of so many shares of a part, in order; queries of a ranking stay whole."""
        ...


@runtime_checkable
class PartedTrainer(Protocol):
    """A trainer whose rows need not fit into one machine's memory. Its `train` fits rows in memory as any other's does."""

    def train_parts(self, rows: PartedRows, columns: tuple[str, ...], fit: FitRequest) -> Mapping[str, bytes]:
        """As `Trainer.train`, reading rows where they are needed."""
        ...


class Splitter(Protocol):
    """Assigns rows to training, validation, calibration and test."""

    def split(self, rows: pl.DataFrame, seed: int) -> pl.Series:
        """Give each row's part: `train`, `validation`, `calibration`, `test` or `unused`.

        Rows have `row_id`, `event_time`, `label_known_at` and the request fields.
        """
        ...


@runtime_checkable
class Explainer(Protocol):
    """A predictor that can say what each column did to a score."""

    def contributions(self, x: np.ndarray) -> np.ndarray:
        """Give SHAP values of the raw score, (n, k), or (n, k, classes); they add up to the score less its base."""
        ...
