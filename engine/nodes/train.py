"""Train: fit encoders and a model on the training rows, stopping by the validation rows.

Leaves `model/` (the trainer's own text files), `program.json`, `encoders.json`, `importance.json`, `profile.json`,
`train.json` (component, target, columns, rows) and `trained_on.npy` (sorted 64-bit hashes of the training and validation row ids).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from engine.components import catalogue_of
from engine.contracts import FitRequest, PartedTrainer, Trainer, Work
from engine.features.program import FeatureProgram
from engine.keys import Json
from engine.nodes.calibrators import fit_calibrator
from engine.nodes.frames import write_document
from engine.nodes.matrix import CALIBRATION
from engine.nodes.parted import RowsOnDisk, prepare_parted
from engine.nodes.prepared import prepare_rows


def train_model(work: Work) -> Mapping[str, Json]:
    """Fit; raises `DataError` for rows that no model can be learnt from."""
    settings: Any = work.settings
    program = FeatureProgram.from_json(settings["program"])
    columns = settings["columns"]
    component = catalogue_of(work.place).get("trainer", settings["component"])
    trainer: Trainer = component.build(msgspec.convert(settings["params"], component.params))
    parted: RowsOnDisk | None = None
    if isinstance(trainer, PartedTrainer) and "share" not in settings:
        parted, prepared = prepare_parted(work, program, columns)
    else:
        prepared = prepare_rows(work, program, columns)
    target = prepared.target
    request = FitRequest(
        target.task,
        settings["seed"],
        work.place.threads,
        work.progress,
        work.measured,
        target.classes,
        target.quantiles,
        work.place.cluster,
    )
    work.progress("fitting", prepared.rows, None)
    if parted is not None and isinstance(trainer, PartedTrainer):
        files = trainer.train_parts(parted, tuple(columns), request)
    else:
        files = trainer.train(prepared.train, prepared.held, request)
    if settings.get("calibration"):
        work.progress("calibrating", prepared.calibration_rows, None)
        prediction = trainer.load(files).predict(prepared.kept.x)
        calibrator = fit_calibrator(settings["calibration"]["method"], prediction, prepared.kept.y)
        write_document(work.out / CALIBRATION, calibrator.to_json())
    for name, content in files.items():
        path = work.out / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    write_document(work.out / "program.json", program.to_json())
    write_document(work.out / "encoders.json", prepared.fitted.to_json())
    write_document(work.out / "importance.json", dict(trainer.importance(files)))
    write_document(
        work.out / "train.json",
        {
            "component": settings["component"],
            "params": settings["params"],
            "task": settings["task"],
            "classes": list(target.classes),
            "quantiles": list(target.quantiles),
            **{name: settings.get(name) for name in ("group", "weight", "calibration")},
            "class_weights": prepared.weights,
            "seed": settings["seed"],
            "columns": columns,
            "rows": prepared.rows,
            "validation_rows": prepared.validation_rows,
            "calibration_rows": prepared.calibration_rows,
        },
    )
    write_document(work.out / "profile.json", prepared.profile)
    np.save(work.out / "trained_on.npy", prepared.hashes, allow_pickle=False)
    return {"rows": prepared.rows, "columns": len(columns)}
