"""Fit: a model trained beside the pipeline's own for some analysis, and its scores on rows that did not train it.

Leaves `scores.parquet` (row_id, event_time, y, prediction, and what rows are grouped and clustered by) and `fit.json` (what was
trained). The model itself is not kept. Without a model of its own (input `model`) it scores the pipeline's. Given candidates,
it trains the one whose proofs, other fits' scores, have the best mean.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from engine.components import catalogue_of
from engine.contracts import Work
from engine.errors import DataError
from engine.evaluation.metrics import METRICS, Aside, measure
from engine.evaluation.names import choose_metrics
from engine.keys import Json
from engine.nodes.features import EVENT_TIME, LABEL, ROW_ID
from engine.nodes.frames import read_document, read_frame, write_document, write_frame
from engine.nodes.matrix import LoadedModel, load_model, read_parts
from engine.nodes.target import encode_label, group_ids, target_of
from engine.nodes.train import train_model
from engine.spec import EvaluateSpec

CLUSTER, GROUP = "cluster", "group"


def fit_model(work: Work) -> Mapping[str, Json]:
    """Train unless the model is given, and score; raises `DataError` when there are no rows to score."""
    settings: Any = work.settings
    catalogue = catalogue_of(work.place)
    chosen: dict[str, Json] = {}
    if "model" in work.inputs:
        model = load_model(work.inputs["model"].path, catalogue)
        scored = _score(work, model)
    else:
        if settings.get("among"):
            settings, chosen = _choose(work)
        folder = work.out / "model"
        folder.mkdir()
        train_model(replace(work, settings=settings, out=folder))
        model = load_model(folder, catalogue)
        scored = _score(work, model)
        shutil.rmtree(folder)
    write_frame(work.out / "scores.parquet", scored)
    kept = (
        "component",
        "params",
        "seed",
        "columns",
        "rows",
        "validation_rows",
        "classes",
        "quantiles",
        "task",
        "group",
    )
    facts = {name: model.trained.get(name) for name in kept}
    write_document(work.out / "fit.json", {**facts, **chosen, "score": settings["score"]})
    return {"rows": model.trained["rows"], "scored": scored.height, **({"chosen": chosen["chosen"]} if chosen else {})}


def _score(work: Work, model: LoadedModel) -> pl.DataFrame:
    """Score the part that is asked for."""
    settings: Any = work.settings
    group, cluster = model.trained.get("group"), settings.get("cluster")
    beside = [name for name in (group, cluster) if name]
    wanted = dict.fromkeys((ROW_ID, EVENT_TIME, LABEL, *beside, *model.program.columns_behind(model.columns)))
    (rows,) = read_parts(work.inputs["rows"], work.inputs["split"], (settings["score"],), list(wanted))
    if not rows.height:
        hint = "choose the other part, or make the split leave such rows"
        raise DataError(f"the split leaves no {settings['score']} rows to score", hint=hint)
    kept = rows.select(ROW_ID, EVENT_TIME).with_columns(
        pl.Series("y", encode_label(rows[LABEL], model.target)), pl.Series("prediction", model.score(rows))
    )
    if group:
        kept = kept.with_columns(pl.Series(GROUP, group_ids(rows, group)))
    together = cluster or group
    if together:
        kept = kept.with_columns(rows[together].rank("dense").cast(pl.Int64).alias(CLUSTER))
    return kept


def _choose(work: Work) -> tuple[dict[str, Any], dict[str, Json]]:
    """Give the settings of the candidate whose proofs are best on average; a tie goes to the first."""
    settings: Any = work.settings
    spec = settings["evaluate"]
    asked = EvaluateSpec(primary=spec["primary"], metrics=tuple(spec["metrics"]))
    metric = choose_metrics(settings["task"], asked)[1]
    proofs = [
        [_measured(metric, work.inputs[f"proof.{place}.{index}"].path) for index in range(item["proofs"])]
        for place, item in enumerate(settings["among"])
    ]
    sign = 1 if METRICS[metric].higher_is_better else -1
    means = [float(np.mean(values)) for values in proofs]
    best = max(range(len(means)), key=lambda place: sign * means[place])
    told = [{"params": item["said"], "proofs": values} for item, values in zip(settings["among"], proofs, strict=True)]
    winner = settings["among"][best]
    return {**settings, "params": winner["params"]}, {"chosen": winner["said"], "among": told, "inner": means[best]}


def _measured(metric: str, folder: Path) -> float:
    facts, table = read_document(folder / "fit.json"), read_frame(folder / "scores.parquet")
    group = table[GROUP].to_numpy() if GROUP in table.columns else None
    aside = Aside(group, target_of(facts).quantiles)
    value = measure(metric, table["y"].to_numpy(), table["prediction"].to_numpy(), aside)
    if value is None:
        raise DataError(
            f"{metric} is not defined on an inner fold, so nothing can be chosen by it", hint="use fewer folds"
        )
    return value


__all__ = ["CLUSTER", "GROUP", "fit_model"]
