"""Package: the model with all that is needed to serve, audit and reproduce it, as one directory of readable files.

    model/            the trainer's own text files       encoders.json    fitted encoders
    calibration.json  the calibration, when there is one
    program.json      the feature program                schema.json      input and output
    sources.json      how pushed events are typed and derived, as ingest does it
    package.json      what it is: trainer, task, columns, digests of data and split
    evidence.json     evaluation and gate verdicts       baseline.json    reference profile for monitors
    golden.json       inputs and outputs of test rows, as bits           trained_on.npy   hashes of the training rows

`promote` adds `card.md`, `card.json`, `provenance.json` (run, git, environment, config, commits) and `manifest.json` (a digest for
each file): what is told to people, or is true of one run only, does not make another model.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from engine.components import catalogue_of
from engine.contracts import Target, Work
from engine.features.program import FeatureProgram
from engine.keys import Json
from engine.nodes.features import EVENT_TIME, ROW_ID
from engine.nodes.frames import read_document, source_inputs, write_document
from engine.nodes.matrix import CALIBRATION, LoadedModel, load_model, read_parts, to_matrix
from engine.nodes.profile import profile_of
from engine.package_format import PACKAGE_VERSION

_GOLDEN_ROWS = 32


def package_model(work: Work) -> Mapping[str, Json]:
    """Assemble the package's content; its digest depends on nothing but what it holds."""
    settings: Any = work.settings
    folder = work.inputs["model"].path
    model = load_model(folder, catalogue_of(work.place))
    shutil.copytree(folder / "model", work.out / "model", copy_function=shutil.copyfile)
    for name in ("program.json", "encoders.json", "importance.json", "train.json", "trained_on.npy"):
        shutil.copyfile(folder / name, work.out / name)
    if (folder / CALIBRATION).is_file():
        shutil.copyfile(folder / CALIBRATION, work.out / CALIBRATION)
    evidence = {
        "evaluation": read_document(work.inputs["evaluation"].path / "evaluation.json"),
        "gates": read_document(work.inputs["gate"].path / "gates.json"),
    }
    looked = _analyses(work)
    evidence |= {"analyses": looked} if looked else {}
    data = {name: _source_identity(artefact.path) for name, artefact in source_inputs(work).items()}
    described = _describe(settings, model, data, work)
    write_document(work.out / "schema.json", _schema(model.program, model.target))
    write_document(work.out / "sources.json", settings["sources"])
    write_document(work.out / "package.json", described)
    write_document(work.out / "evidence.json", evidence)
    write_document(work.out / "golden.json", _golden(work, model))
    profile = {
        "features": read_document(folder / "profile.json"),
        "prediction": profile_of(headline(read_predictions(work).to_numpy(), model.target)),
        "outputs": _output_profiles(read_predictions(work).to_numpy(), model.target),
    }
    write_document(work.out / "baseline.json", profile)
    metrics = {name: item["value"] for name, item in evidence["evaluation"]["models"]["challenger"]["metrics"].items()}
    return {"metrics": metrics, "columns": len(model.columns)}


def _analyses(work: Work) -> dict[str, Json]:
    """Keep what analyses of this run found, for the model card and whoever asks later; their charts stay in the report."""
    prefix = "analysis."
    found: dict[str, Json] = {}
    for role, artefact in sorted(work.inputs.items()):
        if role.startswith(prefix):
            document = read_document(artefact.path / "analysis.json")
            found[role.removeprefix(prefix)] = {name: document[name] for name in ("kind", "summary", "facts")}
    return found


def _describe(settings: Mapping[str, Any], model: LoadedModel, data: Mapping[str, Json], work: Work) -> dict[str, Json]:
    return {
        "package_version": PACKAGE_VERSION,
        "pipeline": settings["pipeline"],
        "task": settings["task"],
        "trainer": dict(model.trained),
        "program_digest": model.program.digest,
        "program": model.program.to_json(),  # once more, so that an edited program.json is refused by what was edited
        "data": dict(data),
        "split": {"digest": work.inputs["split"].digest, **read_document(work.inputs["split"].path / "summary.json")},
    }


def _source_identity(folder: Any) -> dict[str, Json]:
    described = read_document(folder / "source.json")
    return {key: described[key] for key in ("objects", "rows", "first", "last")}


def _schema(program: FeatureProgram, target: Target) -> dict[str, Json]:
    """Input: the request fields and the event time. Output: one number a row, or one for each of `outputs`."""
    bounded = target.task in {"binary", "multiclass"}
    output: dict[str, Json] = {"type": "f64", **({"minimum": 0.0, "maximum": 1.0} if bounded else {})}
    if target.outputs:
        output["outputs"] = list(target.outputs)
    return {"input": {**program.spine.request, EVENT_TIME: "timestamp"}, "output": output}


def _golden(work: Work, model: LoadedModel) -> dict[str, Json]:
    """Keep some test rows with the model's inputs and outputs as hexadecimal doubles: equal bits or a broken package."""
    needed = (ROW_ID, *model.program.columns_behind(model.columns))
    (rows,) = read_parts(work.inputs["rows"], work.inputs["split"], ("test",), list(dict.fromkeys(needed)))
    step = max(1, rows.height // _GOLDEN_ROWS)
    chosen = rows.gather_every(step).head(_GOLDEN_ROWS)
    matrix = to_matrix(model.program, model.fitted, chosen, model.columns)
    return {
        "columns": list(model.columns),
        "rows": chosen[ROW_ID].cast(pl.String).to_list(),
        "inputs": [[value.hex() for value in row] for row in matrix.x.tolist()],
        "outputs": as_bits(model.predictor.predict(matrix.x)),
    }


def as_bits(prediction: np.ndarray) -> list[Json]:
    """Write predictions as hexadecimal doubles; of several outputs, a list a row."""
    if prediction.ndim == 1:
        return [value.hex() for value in prediction.tolist()]
    return [[value.hex() for value in row] for row in prediction.tolist()]


def headline(prediction: np.ndarray, target: Target) -> np.ndarray:
    """Give one number a row that monitors can follow, (n,).

    Of several classes it is the place of the likeliest, of quantiles the middle one.
    """
    if prediction.ndim == 1:
        return prediction
    if target.classes:
        return np.asarray(np.argmax(prediction, axis=1), dtype=np.float64)
    return np.ascontiguousarray(prediction[:, prediction.shape[1] // 2])


def _output_profiles(prediction: np.ndarray, target: Target) -> dict[str, Json]:
    return {name: profile_of(np.ascontiguousarray(prediction[:, i])) for i, name in enumerate(target.outputs)}


def read_predictions(work: Work) -> pl.Series:
    """Read the challenger's scores of the test rows."""
    return pl.read_parquet(work.inputs["evaluation"].path / "predictions.parquet", columns=["challenger"])["challenger"]
