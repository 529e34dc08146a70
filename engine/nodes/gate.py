"""Gate: put the evidence before every declared gate and add their verdicts up.

Leaves `gates.json` (each gate's result, and the verdict). A gate never raises for bad numbers: they are a verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import polars as pl

from engine.components import catalogue_of
from engine.contracts import Evidence, Gate, Scores, Target, Work
from engine.evaluation.names import NULL_SLICE
from engine.evaluation.verdict import decide_verdict
from engine.keys import Json
from engine.nodes.frames import read_document, read_frame, source_inputs, write_document
from engine.nodes.target import group_ids
from engine.records import GateResult


def judge(work: Work) -> Mapping[str, Json]:
    """Ask every gate; the notes carry the verdict and each gate's status."""
    settings: Any = work.settings
    evidence = _evidence(work)
    catalogue = catalogue_of(work.place)
    results: list[GateResult] = []
    for name, declared in settings["gates"].items():
        component = catalogue.get("gate", declared["kind"])
        gate: Gate = component.build(msgspec.convert(declared["params"], component.params))
        result = gate.decide(name, evidence)
        results.append(msgspec.structs.replace(result, name=name, kind=declared["kind"], severity=declared["severity"]))
        work.progress(f"{name}: {result.status}", None, len(results) / len(settings["gates"]))
    verdict = decide_verdict(results)
    write_document(work.out / "gates.json", {"verdict": verdict, "results": msgspec.to_builtins(results)})
    return {"verdict": verdict, "gates": {result.name: result.status for result in results}}


def _evidence(work: Work) -> Evidence:
    settings: Any = work.settings
    folder = work.inputs["evaluation"].path
    document = read_document(folder / "evaluation.json")
    table = read_frame(folder / "predictions.parquet")
    names = set(table.columns)
    return Evidence(
        task=settings["task"],
        challenger=_scores(table, "challenger", document),
        baseline=_scores(table, "baseline", document) if "baseline" in names else None,
        champion=_scores(table, "champion", document) if "champion" in names else None,
        champion_name="champion" if "champion" in names or document["refusals"] else None,
        slices=_slices(table, document),
        validation={name: read_document(item.path / "validation.json") for name, item in source_inputs(work).items()},
        metrics=document,
        seed=settings["seed"],
        refusals=tuple(document["refusals"]),
        probes=_probes(work),
        columns=_columns(work),
        refused=document.get("refused", {}).get("challenger", ""),
        target=Target(settings["task"], tuple(document["classes"]), tuple(document["quantiles"])),
    )


def _probes(work: Work) -> dict[str, Mapping[str, Json]]:
    """Read what was demanded beyond the evaluation, by probe."""
    prefix = "probe."
    inputs = {role.removeprefix(prefix): item for role, item in work.inputs.items() if role.startswith(prefix)}
    return {probe: read_document(item.path / "probe.json") for probe, item in inputs.items()}


def _columns(work: Work) -> dict[str, np.ndarray]:
    """Read the columns that gates demand, as text with None for null."""
    found = work.inputs.get("probe.columns")
    if found is None:
        return {}
    table = read_frame(found.path / "columns.parquet")
    return {name: table[name].cast(pl.String).to_numpy() for name in table.columns}


def _scores(table: pl.DataFrame, model: str, document: Mapping[str, Any]) -> Scores:
    cluster = document.get("cluster")
    ids = table[cluster].rank("dense").cast(pl.Int64).to_numpy() if cluster else None
    group = group_ids(table, document.get("group"))
    return Scores(table["y"].to_numpy(), table[model].to_numpy(), ids, group, tuple(document["quantiles"]))


def _slices(table: pl.DataFrame, document: Mapping[str, Any]) -> dict[str, dict[str, np.ndarray]]:
    """Give a mask of the rows of each slice that was measured, by column and value."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for item in document["slices"]:
        mask = table[item["column"]].cast(pl.String).fill_null(NULL_SLICE) == item["value"]
        found.setdefault(item["column"], {})[item["value"]] = mask.to_numpy()
    return found
