"""Training by a program, and scoring by another that stays alive.

Files in the job's folder: `train.parquet`, `validation.parquet` (one column a feature, `label`, and `weight` or `group` when
there are any), `params.json`, and the empty `artefact/`, which the program fills.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from engine.contracts import FitRequest, Matrix, Predictor
from engine.durations import MICROSECONDS, microseconds
from engine.errors import DataError, IntegrityError
from engine.keys import canonical_json
from engine.training_rows import RowDemands

from . import CommandParams
from .process import ScoringProcess, run_to_end

DOCUMENT, ARTEFACT, PROGRAM = "command.json", "artefact", "program"
_DEMANDS = RowDemands(least=2)


class CommandTrainer:
    """Runs the programs of a pipeline."""

    def __init__(self, params: CommandParams) -> None:
        self._params = params

    def train(self, train: Matrix, validation: Matrix, fit: FitRequest) -> Mapping[str, bytes]:
        """Run the training program; raises `DataError` when it fails, takes too long or leaves nothing."""
        _DEMANDS.check(train, fit.task)
        with tempfile.TemporaryDirectory(prefix="plumbline-command-") as name:
            folder = Path(name)
            _copy_program(self._params.files, folder / PROGRAM)
            _write_rows(folder / "train.parquet", train)
            _write_rows(folder / "validation.parquet", validation)
            (folder / "params.json").write_bytes(canonical_json(self._request(train, fit) | {"threads": fit.threads}))
            (folder / ARTEFACT).mkdir()
            fit.progress("the program trains", len(train.y), None)
            run_to_end((*self._params.train, name), folder / PROGRAM, _seconds(self._params.timeout), fit.progress)
            left, program = _read(folder, ARTEFACT), _read(folder, PROGRAM)
        if not left:
            hint = "the program's last argument is the job's folder; write into its `artefact/`"
            raise DataError("the training program ended well and left no artefact", hint=hint)
        fit.progress("the program has trained", len(train.y), 1.0)
        document = {"kind": "command", "score": list(self._params.score), **self._request(train, fit)}
        return {DOCUMENT: canonical_json(document), **left, **program}

    def load(self, files: Mapping[str, bytes]) -> Predictor:
        """Give a predictor whose program is started with its first rows."""
        return CommandPredictor(files, _read_document(files), self._params)

    def importance(self, files: Mapping[str, bytes]) -> Mapping[str, float]:
        """Read what the program left as `artefact/importance.json` (column to number); without it, 0 for each column."""
        document = _read_document(files)
        said = json.loads(files.get(f"{ARTEFACT}/importance.json", b"{}"))
        return {name: float(said.get(name, 0.0)) for name in document["columns"]}

    def _request(self, train: Matrix, fit: FitRequest) -> dict[str, Any]:
        return {
            "task": fit.task,
            "classes": list(fit.classes),
            "quantiles": list(fit.quantiles),
            "seed": fit.seed,
            "columns": list(train.names),
            "categorical": list(train.categorical),
            "params": dict(self._params.params),
        }


class CommandPredictor:
    """Scores by the model's own program, which is started once and asked again and again."""

    def __init__(self, files: Mapping[str, bytes], document: Mapping[str, Any], params: CommandParams) -> None:
        self._files, self._document, self._params = files, document, params
        outputs = len(document["classes"]) or len(document["quantiles"])
        self._shape = (outputs,) if outputs else ()
        self._running: ScoringProcess | None = None

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Score rows; raises `DataError` for another width, a program that fails, and answers that are no predictions."""
        names = self._document["columns"]
        if x.ndim != 2 or x.shape[1] != len(names):
            raise DataError(f"the model has {len(names)} columns, the rows have shape {x.shape}")
        wanted = (len(x), *self._shape)
        if not len(x):
            return np.empty(wanted)
        found = self._program().score(pl.DataFrame(_columns(x, names)))
        hint = "write one column `prediction`, or one for each class or quantile, without nulls"
        if found.shape != wanted:
            raise DataError(f"the scoring program gave numbers of shape {found.shape}, not {wanted}", hint=hint)
        lost = int((~np.isfinite(found).reshape(len(x), -1).all(axis=1)).sum())
        if lost:
            raise DataError(f"the scoring program gave {lost} of {len(x)} rows NaN, infinity or null", hint=hint)
        return np.sort(found, axis=1) if self._document["task"] == "quantile" else found

    def _program(self) -> ScoringProcess:
        if self._running is None or not self._running.alive:
            limits = (_seconds(self._params.start_timeout), _seconds(self._params.score_timeout))
            self._running = ScoringProcess.start(tuple(self._document["score"]), self._files, limits)
        return self._running


def _columns(x: np.ndarray, names: list[str]) -> dict[str, pl.Series]:
    return {name: pl.Series(name, np.ascontiguousarray(x[:, index])).fill_nan(None) for index, name in enumerate(names)}


def _write_rows(path: Path, rows: Matrix) -> None:
    table = pl.DataFrame({**_columns(rows.x, list(rows.names)), "label": rows.y})
    beside = {"weight": rows.weight, "group": rows.group}
    known = [pl.Series(name, values) for name, values in beside.items() if values is not None]
    table.with_columns(known).write_parquet(path)


def _copy_program(files: tuple[str, ...], folder: Path) -> None:
    folder.mkdir()
    for name in files:
        source = Path(name)
        if not source.is_file():
            raise DataError(
                f"train.files: there is no {name} in the project", hint="give paths relative to the project"
            )
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def _read(folder: Path, part: str) -> dict[str, bytes]:
    paths = sorted(path for path in (folder / part).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def _seconds(duration: str) -> float:
    return microseconds(duration) / MICROSECONDS["s"]


def _read_document(files: Mapping[str, bytes]) -> dict[str, Any]:
    try:
        document = json.loads(files[DOCUMENT])
    except (KeyError, ValueError) as error:
        raise IntegrityError(f"the model has no readable {DOCUMENT}: {error!r}") from error
    if not isinstance(document, dict) or document.get("kind") != "command":
        raise IntegrityError(f"{DOCUMENT} does not describe a model of a command")
    return document
