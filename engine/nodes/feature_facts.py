"""What a past run knows of a feature: its nulls and distribution in training, and what computing it costs on those rows.

Called by `engine features explain` with the artefacts of the last run; nothing is written.
"""

from __future__ import annotations

import resource
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import polars as pl

from engine.clock import stopwatch
from engine.features.compute import compute
from engine.features.program import FeatureProgram
from engine.nodes.frames import read_document
from engine.records import FeatureCost, FeatureProfile

_SAMPLE_ROWS = 2000
_SINGLE_ROWS = 20
_KILOBYTE = 1024


def profile_of_feature(run_id: str, trained: Path, rows: Path, name: str) -> FeatureProfile | None:
    """The training profile of a column of the model; of another feature, its nulls in the run's rows. None for neither."""
    found: Mapping[str, Any] | None = read_document(trained / "profile.json").get(name)
    if found is not None:
        total, nulls = sum(found["counts"]) + found["nulls"], found["nulls"]
        edges, counts = tuple(found["edges"]), tuple(found["counts"])
        return FeatureProfile(run_id=run_id, rows=total, nulls=nulls, null_rate=_share(nulls, total),
                              edges=edges, counts=counts)  # fmt: skip
    if name not in pl.read_parquet_schema(rows / "rows.parquet"):
        return None
    values = pl.read_parquet(rows / "rows.parquet", columns=[name])[name]
    nulls = values.null_count()
    return FeatureProfile(run_id=run_id, rows=len(values), nulls=nulls, null_rate=_share(nulls, len(values)))


def measure_cost(program: FeatureProgram, rows: Path, history: Mapping[str, pl.DataFrame]) -> FeatureCost | None:
    """Compute a program over evenly spaced rows of a run, all at once and some one by one; None without rows."""
    table = pl.read_parquet(rows / "rows.parquet", columns=["event_time", *program.spine.request])
    sample = table.gather_every(max(1, table.height // _SAMPLE_ROWS)).head(_SAMPLE_ROWS)
    if sample.is_empty():
        return None
    compute(program, sample[:1], history)  # what is lowered or compiled once is no cost of a row
    before, started = _peak_bytes(), stopwatch()
    compute(program, sample, history)
    seconds = stopwatch() - started
    peak = _peak_bytes() - before
    return FeatureCost(
        rows=sample.height,
        history_rows=sum(frame.height for frame in history.values()),
        seconds=seconds,
        peak_bytes=peak,
        one_row_seconds=median(_one_row(program, sample[i], history) for i in range(min(_SINGLE_ROWS, sample.height))),
    )


def _one_row(program: FeatureProgram, row: pl.DataFrame, history: Mapping[str, pl.DataFrame]) -> float:
    started = stopwatch()
    compute(program, row, history)
    return stopwatch() - started


def _peak_bytes() -> int:
    """The process's highest memory so far; what it grows by is what a computation needed beyond that."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KILOBYTE


def _share(part: int, total: int) -> float | None:
    return part / total if total else None
