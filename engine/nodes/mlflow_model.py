"""A model package as MLflow loads it: feature rows in, predictions out. The loader module that exported models name.

Enters: a folder with a package, then pandas frames with the model's raw features (before encoding). Leaves: predictions,
(n,) float64. A project's own plugins are not in the package: a model of such a trainer needs them installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from engine.components import load_catalogue
from engine.errors import DataError
from engine.features.lowered_functions import DTYPES
from engine.nodes.frames import read_document
from engine.nodes.matrix import LoadedModel, load_model
from engine.package_format import check_readable


class PackagedModel:
    """Scores pandas frames of feature rows."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model

    def predict(self, frame: Any, params: Mapping[str, Any] | None = None) -> np.ndarray:  # noqa: ARG002 - MLflow's signature
        """Predict; raises `DataError` naming the columns that are missing or of another type."""
        return self._model.score(to_rows(self._model, frame))


def _load_pyfunc(path: str) -> PackagedModel:
    """Load the package at a path: MLflow calls this by its name."""
    return PackagedModel(load_folder(Path(path)))


def load_folder(folder: Path) -> LoadedModel:
    """Load a package from a folder, with the plugins that it names."""
    check_readable(folder)
    plugins = tuple(read_document(folder / "provenance.json")["plugins"])
    return load_model(folder, load_catalogue(Path.cwd(), plugins))


def feature_columns(model: LoadedModel) -> dict[str, str]:
    """Give the raw columns that the model needs, with their types."""
    types = {**model.program.spine.request, **model.program.output_types}
    return {name: types[name] for name in model.program.columns_behind(model.columns)}


def to_rows(model: LoadedModel, frame: Any) -> pl.DataFrame:
    """Turn a pandas frame (or anything with columns of that name) into the model's columns; NaN and None are null."""
    columns = feature_columns(model)
    missing = [name for name in columns if name not in frame]
    if missing:
        raise DataError(f"no column {', '.join(missing)}; the model needs {', '.join(columns)}")
    try:
        return pl.DataFrame([_column(name, type_, list(frame[name])) for name, type_ in columns.items()])
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as error:
        raise DataError(f"a column has another type than the model's: {error}") from error


def _column(name: str, type_: str, values: list[Any]) -> pl.Series:
    kept = [None if value is None or value != value else value for value in values]  # noqa: PLR0124 - NaN is not itself
    if type_ == "i64":
        kept = [None if value is None else round(float(value)) for value in kept]
    elif type_ == "f64":
        kept = [None if value is None else float(value) for value in kept]
    return pl.Series(name, kept, dtype=DTYPES[type_])


def golden_frame(model: LoadedModel, folder: Path) -> pl.DataFrame:
    """Give feature rows to compare on: the golden inputs where they are the features, else each fitted value in turn."""
    golden = read_document(folder / "golden.json")
    inputs = np.array([[float.fromhex(value) for value in row] for row in golden["inputs"]], dtype=np.float64)
    encoded = {name: model.fitted.encoders[name] for name in model.program.encoded_names if name in model.columns}
    made = {}
    for name, type_ in feature_columns(model).items():
        if name in golden["columns"]:
            column = inputs[:, golden["columns"].index(name)]
            made[name] = _column(name, type_, [value if type_ != "bool" else bool(value) for value in column.tolist()])
            continue
        step = next(step for step in map(model.program.by_name.get, encoded) if getattr(step, "column", None) == name)
        values: list[Any] = list(encoded[step.name].values) if step is not None else []
        if not values and step is not None:  # a scale or bins: the values themselves were not kept
            edges = encoded[step.name].edges or (encoded[step.name].mean or 0.0,)
            values = list(edges)
        cycle = [*values[: len(inputs) - 1], None]
        made[name] = _column(name, type_, [cycle[index % len(cycle)] for index in range(len(inputs))])
    return pl.DataFrame(list(made.values()))
