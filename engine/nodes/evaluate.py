"""Evaluate: score challenger, baseline and champion on the same test rows and measure them, with intervals.

Leaves `predictions.parquet` (row_id, event_time, y, slices, one column a model) and `evaluation.json`. The champion is
scored by its own package: its own feature program over the same snapshot, its own encoders, its own model. When that
cannot be done honestly, the reason is kept as a refusal, and the gate that needs it is inconclusive.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from engine.components import catalogue_of
from engine.contracts import Scores, Target, Work
from engine.errors import DataError, EngineError
from engine.evaluation.document import EvaluationDocument
from engine.evaluation.evaluate import evaluate_scores
from engine.features.compute import compute, spine_of
from engine.features.program import FeatureProgram
from engine.keys import Json
from engine.nodes.features import EVENT_TIME, LABEL, ROW_ID, read_history
from engine.nodes.frames import write_document, write_frame
from engine.nodes.matrix import LoadedModel, learnt_rows, load_model, read_parts
from engine.nodes.target import encode_label, group_ids
from engine.package_format import check_readable
from engine.spec import EvaluateSpec
from engine.stores.artefacts import LocalArtefactStore


def evaluate_models(work: Work) -> Mapping[str, Json]:
    """Measure; raises `DataError` when there are no test rows, and nothing for a champion that cannot be scored."""
    settings: Any = work.settings
    spec = msgspec.convert(settings["evaluate"], EvaluateSpec)
    catalogue = catalogue_of(work.place)
    challenger = load_model(work.inputs["model"].path, catalogue)
    rows = _test_rows(work, spec, challenger)
    table = {"challenger": challenger.score(rows)}
    if "baseline" in work.inputs:
        baseline = load_model(work.inputs["baseline"].path, catalogue)
        table["baseline"] = _same_outputs(baseline, challenger.target, "baseline").score(rows)
    refusal = None
    if settings["champion"] is not None:
        work.progress("scoring the champion", rows.height, None)
        try:
            table["champion"] = _score_champion(work, settings["champion"], challenger, rows)
        except EngineError as error:
            refusal = error.message
    judged = _Judged(challenger.target, challenger.trained.get("group"), refusal)
    document = msgspec.structs.replace(_measure(work, spec, rows, table, judged), refused=_refused(work, rows))
    write_document(work.out / "evaluation.json", msgspec.to_builtins(document))
    write_frame(work.out / "predictions.parquet", _predictions(rows, spec, table, challenger))
    return {"rows": rows.height, "models": list(table), "refusal": refusal}


def _test_rows(work: Work, spec: EvaluateSpec, challenger: LoadedModel) -> pl.DataFrame:
    """Read the test rows: what models need of them, and what they are cut by. The baseline shares the program."""
    program = challenger.program
    cut = _cut_by(spec, challenger)
    needed = program.columns_behind(name for name, type_ in program.output_types.items() if type_ != "str")
    columns = dict.fromkeys((ROW_ID, EVENT_TIME, LABEL, *cut, *needed))
    return read_parts(work.inputs["rows"], work.inputs["split"], ("test",), list(columns))[0]


def _cut_by(spec: EvaluateSpec, challenger: LoadedModel) -> tuple[str, ...]:
    """Name the columns beside the label by which rows are cut, clustered and grouped."""
    beside = (spec.cluster, challenger.trained.get("group"))
    return (*spec.slices, *(name for name in beside if name))


def _same_outputs(model: LoadedModel, target: Target, name: str) -> LoadedModel:
    """Refuse a model that predicts something else; raises `DataError`."""
    if model.target == target:
        return model
    theirs, ours = (f"{one.task} {', '.join(one.outputs)}".strip() for one in (model.target, target))
    raise DataError(f"the {name} predicts something else ({theirs}, and the challenger {ours})")


def _score_champion(work: Work, package: str, challenger: LoadedModel, rows: pl.DataFrame) -> np.ndarray:
    """Score the rows with the champion's own package; raises `EngineError` when that would not be an honest comparison."""
    folder = LocalArtefactStore(Path(work.place.artefacts)).open(package)
    check_readable(folder)
    champion = load_model(folder, catalogue_of(work.place))
    program = challenger.program
    _same_outputs(champion, challenger.target, "champion")
    seen = _seen(folder, rows)
    if seen:
        raise DataError(
            f"the champion was trained on {seen} of the {rows.height} test rows, so the comparison would flatter it"
        )
    if champion.program.digest == program.digest:
        return champion.score(rows)
    return champion.score(_own_features(work, champion.program, rows))


def _refused(work: Work, rows: pl.DataFrame) -> dict[str, str]:
    """Say which of the models of this run were trained on test rows: scores of those rows show nothing."""
    roles = {"challenger": "model", "baseline": "baseline"}
    seen = {name: _seen(work.inputs[role].path, rows) for name, role in roles.items() if role in work.inputs}
    return {
        name: f"the {name} was trained on {count} of the {rows.height} test rows"
        for name, count in seen.items()
        if count
    }


def _seen(folder: Path, rows: pl.DataFrame) -> int:
    """Count the rows that a model was trained on, or stopped by."""
    trained_on = np.load(folder / "trained_on.npy", allow_pickle=False)
    return int(learnt_rows(rows[ROW_ID], trained_on).sum())


def _own_features(work: Work, program: FeatureProgram, rows: pl.DataFrame) -> pl.DataFrame:
    """Evaluate another program on the same spine rows."""
    lacking = [name for name in program.source_names if f"source.{name}" not in work.inputs]
    if lacking:
        raise DataError(f"the champion reads sources that this pipeline no longer has: {', '.join(lacking)}")
    history = read_history(work, program)
    settings: Any = work.settings
    spine = spine_of(program, history, settings["as_of"])
    aligned = rows.select(ROW_ID).join(spine, on=ROW_ID, how="left", maintain_order="left")
    if aligned[EVENT_TIME].null_count():
        raise DataError("the champion's spine does not have every test row")
    return pl.concat([aligned, compute(program, aligned, history, as_of=settings["as_of"])], how="horizontal")


@dataclass(frozen=True, slots=True)
class _Judged:
    """What the models predict, which column names the queries of a ranking, and why the champion was not scored."""

    target: Target
    group: str | None
    refusal: str | None


def _measure(
    work: Work, spec: EvaluateSpec, rows: pl.DataFrame, table: Mapping[str, np.ndarray], judged: _Judged
) -> EvaluationDocument:
    y = encode_label(rows[LABEL], judged.target)
    unknown = int(np.isnan(y).sum())
    if unknown and judged.target.classes:
        work.progress(f"warning: {unknown} test rows have a class that no training row has", unknown, None)
    group = group_ids(rows, judged.group)
    # Rows of one query come and go together, unless the pipeline says what else does.
    cluster = rows[spec.cluster].rank("dense").cast(pl.Int64).to_numpy() if spec.cluster else group
    scores = {name: Scores(y, values, cluster, group, judged.target.quantiles) for name, values in table.items()}
    slices = {name: rows[name].cast(pl.String).to_numpy() for name in spec.slices}
    work.progress("measuring", rows.height, None)
    refusals = [judged.refusal] if judged.refusal else []
    document = evaluate_scores(judged.target, scores, slices, spec, refusals)
    return msgspec.structs.replace(document, group=judged.group, cluster=spec.cluster or judged.group)


def _predictions(
    rows: pl.DataFrame, spec: EvaluateSpec, table: Mapping[str, np.ndarray], challenger: LoadedModel
) -> pl.DataFrame:
    """Lay out the scores; those of several classes or quantiles are one array a row."""
    kept = dict.fromkeys((ROW_ID, EVENT_TIME, *_cut_by(spec, challenger)))
    y = pl.Series("y", encode_label(rows[LABEL], challenger.target))
    return rows.select(*kept).with_columns(y, *(pl.Series(name, values) for name, values in table.items()))
