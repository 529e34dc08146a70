"""Train: fit encoders and a model on the training rows, stopping by the validation rows.

Leaves `model/` (the trainer's own text files), `program.json`, `encoders.json`, `importance.json`, `profile.json`,
`train.json` (component, columns, rows) and `trained_on.npy` (sorted 64-bit hashes of the training and validation row ids).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import polars as pl

from engine.components import load_catalogue
from engine.contracts import FitRequest, Trainer, Work
from engine.features.encoders import fit_encoders
from engine.features.program import FeatureProgram
from engine.keys import Json
from engine.nodes.features import LABEL, ROW_ID
from engine.nodes.frames import write_document
from engine.nodes.matrix import read_parts, row_hashes, to_matrix
from engine.nodes.profile import profile_of


def train_model(work: Work) -> Mapping[str, Json]:
    """Fit; raises `DataError` for rows that no model can be learnt from."""
    settings: Any = work.settings
    program = FeatureProgram.from_json(settings["program"])
    columns = settings["columns"]
    wanted = list(dict.fromkeys((ROW_ID, LABEL, *program.columns_behind(columns))))
    train, validation = read_parts(work.inputs["rows"], work.inputs["split"], ("train", "validation"), wanted)
    fitted = fit_encoders(program, train)
    component = load_catalogue(work.place.root, work.place.plugins).get("trainer", settings["component"])
    trainer: Trainer = component.build(msgspec.convert(settings["params"], component.params))
    request = FitRequest(settings["task"], settings["seed"], work.place.threads, work.progress)
    matrix, held = (to_matrix(program, fitted, rows, columns) for rows in (train, validation))
    work.progress("fitting", train.height, None)
    files = trainer.train(matrix, held, request)
    for name, content in files.items():
        path = work.out / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    write_document(work.out / "program.json", program.to_json())
    write_document(work.out / "encoders.json", fitted.to_json())
    write_document(work.out / "importance.json", dict(trainer.importance(files)))
    write_document(
        work.out / "train.json",
        {
            "component": settings["component"],
            "params": settings["params"],
            "task": settings["task"],
            "seed": settings["seed"],
            "columns": columns,
            "rows": train.height,
            "validation_rows": validation.height,
        },
    )
    write_document(work.out / "profile.json", {name: profile_of(matrix.x[:, i]) for i, name in enumerate(columns)})
    np.save(work.out / "trained_on.npy", row_hashes(pl.concat([train[ROW_ID], validation[ROW_ID]])), allow_pickle=False)
    return {"rows": train.height, "columns": len(columns)}
