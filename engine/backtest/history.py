"""The rows of a history in its periods, and the models of its moments. Read by the replays and by the measurement.

Enters: the artefacts of features, cuts and models. Leaves: rows of one period, of one part of a cut, and their scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from engine.clock import to_microseconds
from engine.components import Catalogue
from engine.contracts import Artefact
from engine.nodes.features import EVENT_TIME, ROW_ID
from engine.nodes.frames import read_document, read_frame
from engine.nodes.matrix import LoadedModel, learnt_rows, load_model
from engine.nodes.target import encode_label


@dataclass(frozen=True, slots=True)
class Periods:
    """The moments of a history; period `k` is `[moments[k], moments[k + 1])`, the last one ends at `end`."""

    moments: tuple[datetime, ...]
    end: datetime

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Periods:
        """Read them from a node's settings."""
        return cls(tuple(map(datetime.fromisoformat, settings["moments"])), datetime.fromisoformat(settings["end"]))

    def bounds(self, index: int) -> tuple[datetime, datetime]:
        """Give start and end of a period."""
        return self.moments[index], self.moments[index + 1] if index + 1 < len(self.moments) else self.end

    def places(self, rows: pl.DataFrame) -> np.ndarray:
        """Give where each period begins among rows in order of time, and at last where the last one ends: (periods + 1,)."""
        edges = [to_microseconds(moment) for moment in (*self.moments, self.end)]
        return np.searchsorted(rows[EVENT_TIME].dt.timestamp("us").to_numpy(), edges, side="left")


@dataclass
class Models:
    """The models of the moments, loaded when first asked for."""

    inputs: Mapping[str, Artefact]
    catalogue: Catalogue
    rows: pl.DataFrame
    _loaded: dict[str, LoadedModel] = field(default_factory=dict)
    _parts: dict[int, pl.Series] = field(default_factory=dict)
    _scores: dict[tuple[int, int, int], np.ndarray] = field(default_factory=dict)

    def place(self, moment: datetime) -> int:
        """Give how many rows lie before a moment."""
        return int(self.rows[EVENT_TIME].search_sorted(moment, side="left"))

    def scores(self, index: int, low: int, high: int) -> np.ndarray:
        """Give what the model of a moment predicts for `rows[low:high]`; monitors ask for what was served, so it is kept."""
        asked = index, low, high
        if asked not in self._scores:
            self._scores[asked] = self.model(index).score(self.rows[low:high])
        return self._scores[asked]

    def model(self, index: int, role: str = "train") -> LoadedModel:
        """Give the model, or the baseline, of a moment."""
        name = f"{role}.{index}"
        if name not in self._loaded:
            self._loaded[name] = load_model(self.inputs[name].path, self.catalogue)
        return self._loaded[name]

    def has(self, index: int, role: str) -> bool:
        """Say whether there is one."""
        return f"{role}.{index}" in self.inputs

    def cut(self, index: int) -> Mapping[str, Any]:
        """Give what is known of the rows of a moment."""
        found: Mapping[str, Any] = read_document(self.inputs[f"cut.{index}"].path / "cut.json")
        return found

    def part(self, index: int, wanted: Sequence[str]) -> pl.DataFrame:
        """Give the rows of some parts of a moment's cut, in order."""
        if index not in self._parts:
            self._parts.clear()  # one moment after the other is asked for
            self._parts[index] = read_frame(self.inputs[f"cut.{index}"].path / "split.parquet")["part"]
        return self.rows.filter(self._parts[index].is_in(list(wanted)))

    def trained_on(self, index: int, rows: pl.DataFrame) -> int:
        """Count the rows that the model of a moment was trained on, or stopped by."""
        hashes = np.load(self.model(index).folder / "trained_on.npy", allow_pickle=False)
        return int(learnt_rows(rows[ROW_ID], hashes).sum())

    def labels(self, index: int, rows: pl.DataFrame) -> np.ndarray:
        """Give labels as the model of a moment sees them, (n,) float64."""
        return encode_label(rows["label"], self.model(index).target)


def read_rows(artefact: Artefact) -> pl.DataFrame:
    """Read the whole history, which the features node left in order of time."""
    return read_frame(artefact.path / "rows.parquet")
