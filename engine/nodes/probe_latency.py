"""Latency and size: how long the model takes for a request whose features are known, and how many bytes it is.

Leaves `probe.json`. Times are of this machine and moment: a cached probe keeps what was measured when the model was made,
and the run's record has it too, since a run that is done again is judged by what was measured then.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import msgspec
import polars as pl

from engine.components import catalogue_of
from engine.contracts import Work
from engine.keys import Json
from engine.nodes.features import ROW_ID
from engine.nodes.frames import write_document
from engine.nodes.matrix import load_model, model_files, read_parts
from engine.plan.code import MEASURED
from engine.spec.probes import LatencyProbe

_WARM_UP = 10


def probe_latency(work: Work) -> Mapping[str, Json]:
    """Time encoding and scoring, on test rows in turn; milliseconds, sorted."""
    settings: Any = work.settings
    model = load_model(work.inputs["model"].path, catalogue_of(work.place))
    wanted = list(dict.fromkeys((ROW_ID, *model.program.columns_behind(model.columns))))
    (rows,) = read_parts(work.inputs["rows"], work.inputs["split"], ("test",), wanted)
    found: dict[str, Any] = {}
    for name, item in settings["asked"].items():
        asked = msgspec.convert(item, LatencyProbe)
        batches = _batches(rows, asked.rows)
        for batch in (batches * _WARM_UP)[:_WARM_UP]:
            model.score(batch)
        times = []
        for index in range(asked.calls if batches else 0):
            started = time.perf_counter_ns()
            model.score(batches[index % len(batches)])
            times.append((time.perf_counter_ns() - started) / 1e6)
        found[name] = {"rows": asked.rows, "milliseconds": sorted(times)}
    write_document(work.out / MEASURED, found)
    return {MEASURED: found}


def _batches(rows: pl.DataFrame, size: int) -> list[pl.DataFrame]:
    count = min(100, rows.height // size)
    return [rows.slice(index * size, size) for index in range(count)]


def probe_size(work: Work) -> Mapping[str, Json]:
    """Weigh the model: the trainer's own files, in bytes."""
    settings: Any = work.settings
    files = {name: len(content) for name, content in model_files(work.inputs["model"].path).items()}
    found: dict[str, Any] = {name: {"bytes": sum(files.values()), "files": files} for name in settings["asked"]}
    write_document(work.out / MEASURED, found)
    return {"bytes": sum(files.values())}
