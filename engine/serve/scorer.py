"""What an answer is: rows at their times, the events that the state finds, the program, the encoders, the model.

Enters: `Rows`. Leaves: `Scored`, with the model's inputs as they were, so that they can be logged and computed again. The
same code scores one row and many, so a batch has the bits of its rows. Called by the batcher and by `engine predict`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from engine.errors import IntegrityError
from engine.features.compute import compute
from engine.features.events import EventReader, FrameReader
from engine.features.lowered_functions import DTYPES
from engine.features.prepared import prepare
from engine.features.prepared_encoders import prepare_columns
from engine.features.steps import EVENT_TIME, FeatureProgram
from engine.nodes.matrix import to_matrix
from engine.nodes.package import headline
from engine.online.reader import StateReader
from engine.online.reading import StaleError
from engine.online.state import EventState
from engine.serve.package import Served
from engine.serve.schema import RequestSchema, Rows

Doubles = npt.NDArray[np.float64]
Observe = Callable[[str, float], None]
"""`observe(stage, seconds)`: hears how long each stage took."""

ROW_BY_ROW = 64
"""Rows up to which they are evaluated one by one, from arrays; both ways give the same bits."""
STAGES = ("frame", "state", "compute", "encode", "predict")


class History(Protocol):
    """Where the events of a request come from; `engine.online_contracts.OnlineState` is one."""

    @property
    def program_digest(self) -> str:
        """The program that the state was filled for."""
        ...

    def read(self, spine: pl.DataFrame) -> Mapping[str, pl.DataFrame]:
        """Find at least the events that the program needs for these rows at their times."""
        ...


@dataclass(frozen=True, slots=True)
class Scored:
    """`scores` (n,) and the model's inputs `x` (n, k), both float64, with NaN for null.

    A model of several outputs, such as classes or quantiles, gives them in `outputs` (n, c); the score is then the one
    that monitors follow: the place of the likeliest class, or the middle quantile.
    """

    scores: Doubles
    x: Doubles
    outputs: Doubles | None = None


def _unheard(stage: str, seconds: float) -> None:
    """Nobody listens."""


class Scorer:
    """A model with the state that its program reads. Immutable, so a batch that has begun ends with the same model."""

    def __init__(self, served: Served, history: History, observe: Observe = _unheard) -> None:
        """Raises `IntegrityError` when the state is another program's, naming both."""
        check_state(served.program, history, served.label)
        self.served = served
        self._history = history
        self._observe = observe
        self._types = {
            EVENT_TIME: DTYPES["timestamp"],
            **{n: DTYPES[t] for n, t in served.program.spine.request.items()},
        }
        self._reader = StateReader(history) if isinstance(history, EventState) else None
        self._prepared = prepare(served.program)
        self._numbers = prepare_columns(self._prepared, served.model.fitted, served.columns)
        self._repeated = [name for name in served.program.computed_names if name in self._types]

    def behind(self, schema: RequestSchema) -> Scorer:
        """The same scorer behind another request schema."""
        return Scorer(replace(self.served, schema=schema), self._history, self._observe)

    def score(self, rows: Rows) -> Scored:
        """Score; raises `EngineError` when the state cannot be read."""
        x = self._inputs(rows)
        began = perf_counter()
        made = self.served.model.predictor.predict(x)
        self._lap("predict", began)
        if made.ndim == 1:
            return Scored(made, x)
        return Scored(headline(made, self.served.model.target), x, np.ascontiguousarray(made))

    def _inputs(self, rows: Rows) -> Doubles:
        """The model's inputs, by the cheaper of two ways that give the same bits."""
        program = self.served.program
        if not program.feature_sources and rows.count <= ROW_BY_ROW:
            return self._by_row(rows, FrameReader(program, {}))
        if rows.count <= ROW_BY_ROW and self._reader is not None:
            with suppress(StaleError), self._reader.moment():
                return self._by_row(rows, self._reader)
        began = perf_counter()
        spine = self.spine(rows)
        began = self._lap("frame", began)
        history = self._history.read(spine)
        self._lap("state", began)
        return self._by_frame(spine, history)

    def _by_row(self, rows: Rows, reader: EventReader) -> Doubles:
        """Evaluate a few rows one by one: for them a frame costs more than its content."""
        began = perf_counter()
        fields = (EVENT_TIME, *self.served.program.spine.request)
        values = zip(rows.times, *(rows.columns[name] for name in fields[1:]), strict=True)
        made = [self._prepared.row(dict(zip(fields, row, strict=True)), reader) for row in values]
        began = self._lap("compute", began)
        x = np.array([self._numbers(row) for row in made], dtype=np.float64).reshape(
            rows.count, len(self.served.columns)
        )
        self._lap("encode", began)
        return x

    def _by_frame(self, spine: pl.DataFrame, history: Mapping[str, pl.DataFrame]) -> Doubles:
        """Evaluate many rows, or rows with many events, as training does."""
        program, model = self.served.program, self.served.model
        began = perf_counter()
        features = compute(program, spine, history)
        began = self._lap("compute", began)
        table = pl.concat([spine, features.drop(self._repeated)], how="horizontal")
        x = to_matrix(program, model.fitted, table, self.served.columns).x
        self._lap("encode", began)
        return x

    def spine(self, rows: Rows) -> pl.DataFrame:
        """Rows as the program takes them."""
        fields = self.served.program.spine.request
        columns: dict[str, object] = {EVENT_TIME: rows.times, **{name: rows.columns[name] for name in fields}}
        plain = {name: pl.Int64 if dtype == DTYPES["timestamp"] else dtype for name, dtype in self._types.items()}
        frame = pl.DataFrame(columns, schema=plain)
        moments = [name for name, dtype in plain.items() if dtype != self._types[name]]
        return frame.with_columns(pl.col(moments).cast(DTYPES["timestamp"]))

    def _lap(self, stage: str, began: float) -> float:
        now = perf_counter()
        self._observe(stage, now - began)
        return now


def check_state(program: FeatureProgram, history: History, label: str) -> None:
    """Refuse a state that was filled for another program."""
    if history.program_digest != program.digest:
        raise IntegrityError(
            f"{label} evaluates the feature program {program.digest[:12]}, and this online state was filled for"
            f" {history.program_digest[:12]}",
            hint="fill one for this program: engine features materialize",
        )
