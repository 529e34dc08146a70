"""Tune: measure a trial's model on the validation rows, which no gate sees. Only sweeps have this node.

Leaves `tuned.json` (metrics, and the proof: the digests of the ids of the measured rows and of those that gates judge, and
how many rows are in both) and `predictions.parquet` (row_id, y, prediction), so that two trials can be compared row by row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.components import catalogue_of
from engine.contracts import Work
from engine.errors import DataError
from engine.evaluation.leakage import shared_rows
from engine.evaluation.metrics import Aside, measure
from engine.keys import Json, digest, digest_bytes
from engine.nodes.features import LABEL, ROW_ID
from engine.nodes.frames import write_document, write_frame
from engine.nodes.matrix import LoadedModel, load_model, read_parts, row_hashes
from engine.nodes.prepared import MOST_BYTES
from engine.nodes.target import encode_label, group_ids

Floats: TypeAlias = "NDArray[np.float64]"
MODEL_BYTES = "model_bytes"
"""The one objective besides metrics: how large the model's files are."""


@dataclass(frozen=True, slots=True)
class _Held:
    """The validation rows as the model sees them, and what the record says of them and of the rows that gates judge."""

    ids: pl.Series
    x: Floats
    y: Floats
    aside: Aside
    proof: Mapping[str, Json]


_KEPT: dict[str, _Held] = {}  # of the last trial: most trials of a sweep differ in the trees alone


def tune_model(work: Work) -> Mapping[str, Json]:
    """Measure; raises `DataError` when a row is both measured here and judged by gates."""
    settings: Any = work.settings
    model = load_model(work.inputs["model"].path, catalogue_of(work.place))
    held = _held_rows(work, model)
    prediction = model.predictor.predict(held.x) if len(held.y) else np.empty(0)
    document: dict[str, Json] = {
        **held.proof,
        "metrics": {name: _value(name, model, (held.y, prediction, held.aside)) for name in settings["metrics"]},
    }
    write_document(work.out / "tuned.json", document)
    write_frame(
        work.out / "predictions.parquet", pl.DataFrame([held.ids]).with_columns(y=held.y, prediction=prediction)
    )
    return {"rows": len(held.y), "tuned": document}


def _held_rows(work: Work, model: LoadedModel) -> _Held:
    """Read and encode, or give what was read for the trial before."""
    facts = (model.folder / name for name in ("program.json", "encoders.json"))
    key = digest(
        {
            "inputs": [work.inputs[role].digest for role in ("rows", "split")],
            "model": [digest_bytes(path.read_bytes()) for path in facts],
            "target": {name: model.trained.get(name) for name in ("columns", "task", "classes", "quantiles", "group")},
        }
    )
    if key not in _KEPT:
        _KEPT.clear()
        held = _read_rows(work, model)
        if held.x.nbytes > MOST_BYTES:
            return held
        _KEPT[key] = held
    return _KEPT[key]


def _read_rows(work: Work, model: LoadedModel) -> _Held:
    group = model.trained.get("group")
    needed = model.program.columns_behind(model.columns)
    columns = list(dict.fromkeys((ROW_ID, LABEL, *((group,) if group else ()), *needed)))
    held, judged = read_parts(work.inputs["rows"], work.inputs["split"], ("validation", "test"), columns)
    ours, theirs = row_hashes(held[ROW_ID]), row_hashes(judged[ROW_ID])
    shared = shared_rows(theirs, ours)
    if shared:
        raise DataError(
            f"{shared} rows are in the validation and in the test part, so tuning would see what gates judge",
            hint="make the splitter give every row to one part",
        )
    proof: dict[str, Json] = {
        "part": "validation",
        "rows": held.height,
        "rows_digest": digest_bytes(ours.tobytes()),
        "judged_rows": judged.height,
        "judged_digest": digest_bytes(theirs.tobytes()),
        "shared_rows": shared,
    }
    aside = Aside(group_ids(held, group), model.target.quantiles)
    return _Held(held[ROW_ID], model.matrix(held), encode_label(held[LABEL], model.target), aside, proof)


def _value(name: str, model: LoadedModel, scored: tuple[Floats, Floats, Aside]) -> float | None:
    if name == MODEL_BYTES:
        return float(sum(path.stat().st_size for path in (model.folder / "model").rglob("*") if path.is_file()))
    return measure(name, *scored) if len(scored[0]) else None
