"""Analysis: one component's look at the model and at what was trained beside it.

Leaves `analysis.json` (`AnalysisDocument`). Reads the scores that the fits left, and for components that look at the model
itself the model and rows of the pipeline's own split, as far as they are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import polars as pl

from engine.analysis_contracts import Analysis, Exhibit, HeldOut, Judgement, Scored
from engine.components import catalogue_of
from engine.contracts import Artefact, Predictor, Work
from engine.errors import DataError
from engine.evaluation.names import choose_metrics
from engine.keys import Json
from engine.nodes.calibrators import CalibratedPredictor
from engine.nodes.features import EVENT_TIME, LABEL, ROW_ID
from engine.nodes.fit import CLUSTER, GROUP
from engine.nodes.frames import read_document, read_frame, write_document
from engine.nodes.matrix import LoadedModel, load_model, read_parts, to_matrix
from engine.nodes.target import group_ids, target_of
from engine.spec import EvaluateSpec
from engine.spec.analysis import Subject

_PREFIX = "fit."


def analyse(work: Work) -> Mapping[str, Json]:
    """Look; the notes carry the finding in one sentence."""
    settings: Any = work.settings
    catalogue = catalogue_of(work.place)
    component = catalogue.get("analysis", settings["component"])
    analysis: Analysis = component.build(msgspec.convert(settings["params"], component.params))
    model = load_model(work.inputs["model"].path, catalogue) if "model" in work.inputs else None
    found = analysis.examine(_exhibit(work, model))
    document = msgspec.structs.replace(found, name=work.node.removeprefix("analysis."), kind=settings["component"])
    write_document(work.out / "analysis.json", msgspec.to_builtins(document))
    return {"summary": document.summary}


def _exhibit(work: Work, model: LoadedModel | None) -> Exhibit:
    settings: Any = work.settings
    inputs = {role.removeprefix(_PREFIX): item for role, item in work.inputs.items() if role.startswith(_PREFIX)}
    fits = {label: read_scored(item) for label, item in inputs.items()}
    said = settings["evaluate"]
    asked = EvaluateSpec(primary=said["primary"], metrics=tuple(said["metrics"]))
    task = settings["subject"]["task"]
    return Exhibit(
        subject=msgspec.convert(settings["subject"], Subject),
        target=model.target if model else target_of(next(iter(fits.values())).facts),
        judgement=Judgement(choose_metrics(task, asked)[1], said["resamples"], said["level"], said["seed"]),
        fits=fits,
        progress=work.progress,
        held=(lambda part: _held(work, model, part)) if model else None,
        predictor=model.predictor if model else None,
        plain=_plain(model.predictor) if model else None,
    )


def _plain(predictor: Predictor) -> Predictor:
    return predictor.model if isinstance(predictor, CalibratedPredictor) else predictor


def read_scored(artefact: Artefact) -> Scored:
    """Read what a fit left."""
    table = read_frame(artefact.path / "scores.parquet")
    return Scored(
        y=table["y"].to_numpy(),
        prediction=table["prediction"].to_numpy(),
        ids=table[ROW_ID].cast(pl.String).to_numpy(),
        moments=table[EVENT_TIME].dt.epoch("us").to_numpy(),
        cluster=table[CLUSTER].to_numpy() if CLUSTER in table.columns else None,
        group=table[GROUP].to_numpy() if GROUP in table.columns else None,
        facts=read_document(artefact.path / "fit.json"),
    )


def _held(work: Work, model: LoadedModel, part: str) -> HeldOut:
    """Read rows of the pipeline's split: request fields and computed features as they are, and as the model sees them."""
    settings: Any = work.settings
    program, cluster, group = model.program, settings["evaluate"]["cluster"], model.trained.get("group")
    beside = [name for name in (cluster, group) if name]
    wanted = dict.fromkeys((ROW_ID, EVENT_TIME, LABEL, *program.spine.request, *program.computed_names, *beside))
    (rows,) = read_parts(work.inputs["rows"], work.inputs["split"], (part,), list(wanted))
    if not rows.height:
        raise DataError(f"the split leaves no {part} rows to look at", hint="choose the other part")
    matrix = to_matrix(program, model.fitted, rows, model.columns, model.target)
    by = cluster or group
    together = rows[by].rank("dense").cast(pl.Int64).to_numpy() if by else None
    scored = Scored(
        y=matrix.y,
        prediction=np.asarray(model.predictor.predict(matrix.x)),
        ids=rows[ROW_ID].cast(pl.String).to_numpy(),
        moments=rows[EVENT_TIME].dt.epoch("us").to_numpy(),
        cluster=together,
        group=group_ids(rows, group),
        facts=model.trained,
    )
    return HeldOut(rows, matrix, scored, _baseline(work, model, rows))


def _baseline(work: Work, model: LoadedModel, rows: pl.DataFrame) -> np.ndarray | None:
    """Score the rows by the pipeline's simple model, as it sees them."""
    if "baseline" not in work.inputs:
        return None
    simple = load_model(work.inputs["baseline"].path, catalogue_of(work.place))
    matrix = to_matrix(model.program, simple.fitted, rows, simple.columns, model.target)
    return np.asarray(simple.predictor.predict(matrix.x))
