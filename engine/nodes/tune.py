"""Tune: measure a trial's model on the validation rows, which no gate sees. Only sweeps have this node.

Leaves `tuned.json` (metrics, and the proof: the digests of the ids of the measured rows and of those that gates judge, and
how many rows are in both) and `predictions.parquet` (row_id, y, prediction), so that two trials can be compared row by row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from engine.components import load_catalogue
from engine.contracts import Work
from engine.errors import DataError
from engine.evaluation.metrics import Aside, measure
from engine.keys import Json, digest_bytes
from engine.nodes.features import LABEL, ROW_ID
from engine.nodes.frames import write_document, write_frame
from engine.nodes.matrix import LoadedModel, load_model, read_parts, row_hashes
from engine.nodes.target import encode_label, group_ids

MODEL_BYTES = "model_bytes"
"""The one objective besides metrics: how large the model's files are."""


def tune_model(work: Work) -> Mapping[str, Json]:
    """Measure; raises `DataError` when a row is both measured here and judged by gates."""
    settings: Any = work.settings
    model = load_model(work.inputs["model"].path, load_catalogue(work.place.root, work.place.plugins))
    needed = model.program.columns_behind(model.columns)
    group = model.trained.get("group")
    columns = list(dict.fromkeys((ROW_ID, LABEL, *((group,) if group else ()), *needed)))
    held, judged = read_parts(work.inputs["rows"], work.inputs["split"], ("validation", "test"), columns)
    ours, theirs = row_hashes(held[ROW_ID]), row_hashes(judged[ROW_ID])
    shared = int(np.isin(ours, theirs).sum())
    if shared:
        raise DataError(
            f"{shared} rows are in the validation and in the test part, so tuning would see what gates judge",
            hint="make the splitter give every row to one part",
        )
    y = encode_label(held[LABEL], model.target)
    aside = Aside(group_ids(held, group), model.target.quantiles)
    prediction = model.score(held) if held.height else np.empty(0)
    document: dict[str, Json] = {
        "part": "validation",
        "rows": held.height,
        "rows_digest": digest_bytes(ours.tobytes()),
        "judged_rows": judged.height,
        "judged_digest": digest_bytes(theirs.tobytes()),
        "shared_rows": shared,
        "metrics": {name: _value(name, model, (y, prediction, aside)) for name in settings["metrics"]},
    }
    write_document(work.out / "tuned.json", document)
    write_frame(work.out / "predictions.parquet", held.select(ROW_ID).with_columns(y=y, prediction=prediction))
    return {"rows": held.height, "tuned": document}


def _value(name: str, model: LoadedModel, scored: tuple[np.ndarray, np.ndarray, Aside]) -> float | None:
    if name == MODEL_BYTES:
        return float(sum(path.stat().st_size for path in (model.folder / "model").rglob("*") if path.is_file()))
    return measure(name, *scored) if len(scored[0]) else None
