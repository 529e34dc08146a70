"""From rows to what a trainer sees: encoded, numeric, in one fixed column order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from engine.components import Catalogue
from engine.contracts import Artefact, Matrix, Predictor, Target, Trainer
from engine.features.encoders import FittedEncoders, encode
from engine.features.program import FeatureProgram
from engine.nodes.calibrators import CalibratedPredictor, calibrator_from_json
from engine.nodes.features import LABEL
from engine.nodes.frames import read_document, read_frame
from engine.nodes.target import encode_label, target_of

CALIBRATION = "calibration.json"


def read_parts(rows: Artefact, split: Artefact, parts: Sequence[str], columns: Sequence[str]) -> list[pl.DataFrame]:
    """Read the rows of some parts of the split, each in order; only these columns."""
    part = read_frame(split.path / "split.parquet")["part"]
    table = read_frame(rows.path / "rows.parquet", columns)
    return [table.filter(part == name) for name in parts]


def to_matrix(
    program: FeatureProgram,
    fitted: FittedEncoders,
    rows: pl.DataFrame,
    columns: Sequence[str],
    target: Target | None = None,
) -> Matrix:
    """Encode rows to float64 with NaN for null; the label is all NaN where the rows have none.

    Without a target the label is a number as it is; text then is no label.
    """
    encoded = encode(program, fitted, rows).select(columns)
    x = encoded.cast(pl.Float64).to_numpy(order="c") if encoded.height else np.empty((0, len(columns)))
    y = np.full(rows.height, np.nan)
    if LABEL in rows.columns and (target is not None or rows.schema[LABEL] != pl.String):
        y = encode_label(rows[LABEL], target or Target("regression"))
    categorical = tuple(name for name in columns if name in program.categorical_names)
    return Matrix(np.ascontiguousarray(x), y, tuple(columns), categorical)


def model_files(folder: Path) -> dict[str, bytes]:
    """Read the trainer's own files of a model, verified when the artefact was opened."""
    model = folder / "model"
    return {
        path.relative_to(model).as_posix(): path.read_bytes() for path in sorted(model.rglob("*")) if path.is_file()
    }


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to score: what a `train` node left, or a package; both hold the same files."""

    program: FeatureProgram
    fitted: FittedEncoders
    predictor: Predictor
    trained: Mapping[str, Any]
    folder: Path

    @property
    def columns(self) -> tuple[str, ...]:
        """The model's columns, in order."""
        return tuple(self.trained["columns"])

    @property
    def target(self) -> Target:
        """What the model predicts."""
        return target_of(self.trained)

    def score(self, rows: pl.DataFrame) -> np.ndarray:
        """Predict for rows of this model's own raw features; (n,) or (n, k) float64, as `Predictor` says."""
        return self.predictor.predict(self.matrix(rows))

    def matrix(self, rows: pl.DataFrame) -> np.ndarray:
        """Encode rows of this model's own raw features to what its predictor takes, (n, columns) float64."""
        return to_matrix(self.program, self.fitted, rows, self.columns).x


def load_model(folder: Path, catalogue: Catalogue) -> LoadedModel:
    """Load a model from a verified folder, by the component that trained it; raises `NotFoundError` without that component."""
    trained = read_document(folder / "train.json")
    component = catalogue.get("trainer", trained["component"])
    trainer: Trainer = component.build(msgspec.convert(trained["params"], component.params))
    predictor = trainer.load(model_files(folder))
    if (folder / CALIBRATION).is_file():
        predictor = CalibratedPredictor(predictor, calibrator_from_json(read_document(folder / CALIBRATION)))
    return LoadedModel(
        FeatureProgram.from_json(read_document(folder / "program.json")),
        FittedEncoders.from_json(read_document(folder / "encoders.json")),
        predictor,
        trained,
        folder,
    )


def row_hashes(ids: pl.Series) -> Any:
    """Hash row ids to 64 bits, sorted: enough to tell whether a model was trained on a row."""
    return _hashed(ids).unique().sort().to_numpy()


def learnt_rows(ids: pl.Series, hashes: np.ndarray) -> np.ndarray:
    """Say which rows a model was trained on, (n,) bool: `hashes` are its `trained_on.npy`, as `row_hashes` gave them."""
    own = _hashed(ids).to_numpy()
    if not len(hashes):
        return np.zeros(len(own), dtype=np.bool_)
    places = np.minimum(np.searchsorted(hashes, own), len(hashes) - 1)
    return np.asarray(hashes[places] == own)


def _hashed(ids: pl.Series) -> pl.Series:
    return ids.cast(pl.String).hash(seed=0)
