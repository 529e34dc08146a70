"""Training in small: whether the trainer learns at all, and whether what it wrote down scores as it did.

Leaves `probe.json`, for each gate: the loss after one step against that of a constant, the loss on a tiny batch after the
whole training, and whether predictions of the model written to disk and read again are the same bits, together and one
by one. A trainer whose parameters have `rounds` takes one step with `rounds: 1`; any other one takes its only step.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from engine.components import Component, catalogue_of
from engine.contracts import FitRequest, Matrix, Trainer, Work
from engine.errors import EngineError
from engine.keys import Json
from engine.nodes.features import LABEL, ROW_ID
from engine.nodes.frames import read_document, write_document
from engine.nodes.matrix import LoadedModel, load_model, model_files, read_parts, to_matrix
from engine.nodes.target import group_ids
from engine.spec.probes import TrainingProbe

_REPEATS = 256  # of each row of the tiny batch: so that no usual limit on the size of a leaf stands in the way
_EPSILON = 1e-15
_ONE_BY_ONE = 50
_EACH, _MOST = 500, 5000  # rows of each label, or queries, and rows at all, from which the tiny batch is chosen
_HASH = "hashed"


@dataclass(frozen=True, slots=True)
class Bench:
    """The trainer as declared, and how it is asked."""

    component: Component
    params: Any
    fit: FitRequest

    def losses(self, rows: Matrix, params: Any) -> tuple[float, float]:
        """Train on rows and give the loss there of a constant, and of the model."""
        trainer: Trainer = self.component.build(params)
        files = trainer.train(rows, rows, self.fit)
        predicted = trainer.load(files).predict(rows.x)
        return loss_of(self.fit.task, rows.y, constant_of(self.fit.task, rows.y)), loss_of(
            self.fit.task, rows.y, predicted
        )


def probe_training(work: Work) -> Mapping[str, Json]:
    """Answer every gate that asks; what cannot be trained in small is told, not raised."""
    settings: Any = work.settings
    folder = work.inputs["model"].path
    catalogue = catalogue_of(work.place)
    model = load_model(folder, catalogue)
    trained = read_document(folder / "train.json")
    component = catalogue.get("trainer", trained["component"])
    target = model.target
    fit = FitRequest(
        target.task,
        trained["seed"],
        work.place.threads,
        work.progress,
        classes=target.classes,
        quantiles=target.quantiles,
    )
    bench = Bench(component, msgspec.convert(trained["params"], component.params), fit)
    beside = [trained["group"]] if trained.get("group") else []
    wanted = list(dict.fromkeys((ROW_ID, LABEL, *beside, *model.program.columns_behind(model.columns))))
    train, test = read_parts(work.inputs["rows"], work.inputs["split"], ("train", "test"), wanted)
    few = _candidates(train, model)
    found: dict[str, Any] = {}
    for name, item in settings["asked"].items():
        asked = msgspec.convert(item, TrainingProbe)
        found[name] = {
            "one_step": _one_step(bench, _matrix(model, _sampled(train, asked.sample))),
            "tiny_batch": _tiny_batch(bench, _matrix(model, few), asked.batch),
            "reloaded": _reload(component, bench.params, model, _matrix(model, test.head(1000))),
        }
    write_document(work.out / "probe.json", found)
    return {name: list(item) for name, item in found.items()}


def _matrix(model: LoadedModel, rows: pl.DataFrame) -> Matrix:
    matrix = to_matrix(model.program, model.fitted, rows, model.columns, model.target)
    return replace(matrix, group=group_ids(rows, model.trained.get("group")))


def _sampled(rows: pl.DataFrame, most: int) -> pl.DataFrame:
    if rows.height <= most:
        return rows
    return rows[rows[ROW_ID].cast(pl.String).hash(seed=2).arg_sort().head(most).sort()]


def _candidates(train: pl.DataFrame, model: LoadedModel) -> pl.DataFrame:
    """Choose rows of which a tiny batch may be made: some of every label, of a number some at all, whole queries.

    Encoding and comparing all rows to find a few that differ would take longer than the training.
    """
    task, group = model.target.task, model.trained.get("group")
    if task == "ranking" and group:
        queries = train[group].unique(maintain_order=True).head(_EACH)
        return train.filter(pl.col(group).is_in(queries.implode()))
    hashed = train.with_columns(pl.col(ROW_ID).cast(pl.String).hash(seed=4).alias(_HASH)).sort(_HASH, ROW_ID)
    kept = (
        hashed.group_by(LABEL, maintain_order=True).head(_EACH)
        if task in {"binary", "multiclass"}
        else hashed.head(_MOST)
    )
    return kept.drop(_HASH).head(_MOST)


def _shortened(params: Any) -> tuple[Any, bool]:
    """Give the parameters with one round, and whether the trainer counts rounds at all."""
    known = {field.name for field in msgspec.structs.fields(type(params))}
    if "rounds" not in known:
        return params, False
    return msgspec.structs.replace(
        params, rounds=1, **({"early_stopping": 0} if "early_stopping" in known else {})
    ), True


def _one_step(bench: Bench, rows: Matrix) -> dict[str, Any]:
    params, counts = _shortened(bench.params)
    try:
        before, after = bench.losses(rows, params)
    except EngineError as error:
        return {"error": error.message}
    return {"rows": len(rows.y), "before": before, "after": after, "steps": 1 if counts else None}


def _tiny_batch(bench: Bench, rows: Matrix, size: int) -> dict[str, Any]:
    """Train on a few rows that differ, each many times, without stopping early: it should learn them by heart."""
    order = np.random.default_rng(bench.fit.seed).permutation(len(rows.y))
    _, first = np.unique(rows.x[order], axis=0, return_index=True)
    chosen = order[np.sort(first)]
    labels = rows.y[chosen]
    if bench.fit.task == "binary":  # half and half, or there may be nothing to learn
        half = [chosen[labels == value][: size // 2] for value in (0, 1)]
        chosen = np.concatenate(half)
    chosen = chosen[:size]
    repeated = np.repeat(chosen, _REPEATS)
    known = {field.name for field in msgspec.structs.fields(type(bench.params))}
    params = msgspec.structs.replace(bench.params, **({"early_stopping": 0} if "early_stopping" in known else {}))
    group = None if rows.group is None else rows.group[repeated]
    batch = replace(rows, x=np.ascontiguousarray(rows.x[repeated]), y=rows.y[repeated], group=group)
    try:
        before, after = bench.losses(batch, params)
    except EngineError as error:
        return {"error": error.message}
    return {"rows": len(chosen), "before": before, "after": after}


def _reload(component: Component, params: Any, model: LoadedModel, rows: Matrix) -> dict[str, Any]:
    """Write the model's files, read them, and compare the scores of both, bit by bit."""
    files = model_files(model.folder)
    trainer: Trainer = component.build(params)
    before = trainer.load(files).predict(rows.x)
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        again = trainer.load({name: (Path(folder) / name).read_bytes() for name in files})
    after = again.predict(rows.x)
    alone = [again.predict(rows.x[index : index + 1])[0] for index in range(min(_ONE_BY_ONE, len(rows.y)))]
    differing = int((_bits(before) != _bits(after)).sum())
    differing += (
        int((_bits(np.array(alone).reshape(-1)) != _bits(after[: len(alone)].reshape(-1))).sum()) if alone else 0
    )
    return {"rows": len(rows.y), "differing": differing}


def _bits(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, dtype=np.float64).view(np.uint64)


def constant_of(task: str, y: np.ndarray) -> np.ndarray:
    """Give the best constant prediction under the loss of the task."""
    if task == "multiclass":
        counts = np.bincount(y.astype(int))
        return np.tile(counts / counts.sum(), (len(y), 1))
    return np.full(len(y), y.mean() if len(y) else 0.0)


def loss_of(task: str, y: np.ndarray, predicted: np.ndarray) -> float:
    """Give the mean loss: log loss of probabilities, else squared error (of the middle column, when there are several)."""
    if task == "multiclass":
        picked = predicted[np.arange(len(y)), np.minimum(y.astype(int), predicted.shape[1] - 1)]
        return float(-np.log(np.clip(picked, _EPSILON, 1)).mean())
    if predicted.ndim > 1:
        predicted = predicted[:, predicted.shape[1] // 2]
    if task == "binary":
        kept = np.clip(predicted, _EPSILON, 1 - _EPSILON)
        return float(-np.where(y == 1, np.log(kept), np.log1p(-kept)).mean())
    return float(np.square(y - predicted).mean())
