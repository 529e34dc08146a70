"""Features: evaluate the program over the spine at a snapshot, and join the labels that are usable.

Leaves `rows.parquet` (row_id, event_time, request fields, raw features, label, label_known_at; one row a usable spine
row, in `(event_time, row_id)` order) and `labels.json` (how many spine rows were dropped, and why).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import Any

import polars as pl

from engine.contracts import Work
from engine.errors import DataError
from engine.features.compute import compute, spine_of
from engine.features.label import REASONS, label_rows
from engine.features.program import FeatureProgram
from engine.features.timestamps import moment_of
from engine.keys import Json
from engine.nodes.frames import read_source, source_inputs, source_paths, write_document, write_frame
from engine.nodes.partitioned import compute_spilled
from engine.nodes.spill import ParquetTable, Table
from engine.nodes.spilled_spine import Job, Sizes

ROW_ID, EVENT_TIME, LABEL, KNOWN_AT = "row_id", "event_time", "label", "label_known_at"
_SAMPLE_STEPS = 1_000_000
_BYTES_A_ROW = 300


def compute_features(work: Work) -> Mapping[str, Json]:
    """Evaluate features for every spine row with a usable label; raises `DataError` when none is left.

    Rows that might not fit into memory are partitioned by key and spilled to disk; the result has the same bytes.
    """
    settings: Any = work.settings
    program = FeatureProgram.from_json(settings["program"])
    tables = {name: ParquetTable(source_paths(work, item)) for name, item in source_inputs(work).items()}
    most = rows_in_memory()
    if sum(tables[name].height for name in program.source_names) > most:
        return _compute_spilled(work, program, tables, Sizes(max(most // 6, 1), max(most // 6, 1)))
    history = read_history(work, program)
    spine = sample_rows(spine_of(program, history, settings["as_of"]), settings["sample"])
    work.progress("labels", spine.height, None)
    labels = label_rows(program, spine, history, settings["as_of"])
    usable = labels.rows.filter(pl.col("usable"))
    if usable.height == 0:
        raise DataError(
            f"no spine row has a usable label: {labels.counts}", hint="check label.maturity, label.on and as_of"
        )
    spine = spine.filter(labels.rows["usable"])
    work.progress("features", spine.height, None)
    features = compute(program, spine, history, as_of=settings["as_of"])
    rows = pl.concat([spine, features.drop(ROW_ID, strict=False), usable.select(LABEL, KNOWN_AT)], how="horizontal")
    write_frame(work.out / "rows.parquet", rows)  # in the spine's order: by event time, then id
    write_document(work.out / "labels.json", dict(labels.counts))
    return {"rows": rows.height, "columns": features.width}


def rows_in_memory() -> int:
    """How many rows of sources are evaluated in memory: what fits into a quarter of it, at some 300 bytes a row."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(os.environ.get("PLUMBLINE_ROWS_IN_MEMORY", memory // 4 // _BYTES_A_ROW))


def _compute_spilled(
    work: Work, program: FeatureProgram, tables: Mapping[str, Table], sizes: Sizes
) -> Mapping[str, Json]:
    settings: Any = work.settings
    scratch = work.out.with_name(f"{work.out.name}.features")  # deleted with the staged folder, whatever happens
    as_of = moment_of(settings["as_of"]) if settings["as_of"] is not None else None
    job = Job(program, tables, scratch, sizes, as_of)
    try:
        keep = lambda rows: sample_rows(rows, settings["sample"])  # noqa: E731
        made = compute_spilled(job, work.out / "rows.parquet", keep, work.progress)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    write_document(work.out / "labels.json", {reason: made.counts.get(reason, 0) for reason in REASONS})
    return {"rows": made.rows, "columns": made.columns}


def read_history(work: Work, program: FeatureProgram) -> dict[str, pl.DataFrame]:
    """Read what the program needs of each source: only the columns that it names."""
    sources = source_inputs(work)
    return {name: read_source(work, sources[name], program.source_columns(name)) for name in program.source_names}


def sample_rows(spine: pl.DataFrame, fraction: float | None) -> pl.DataFrame:
    """Keep about that fraction of rows, chosen by a hash of their ids: the same rows every time."""
    if fraction is None:
        return spine
    return spine.filter(pl.col(ROW_ID).hash(seed=0) % _SAMPLE_STEPS < int(fraction * _SAMPLE_STEPS))
