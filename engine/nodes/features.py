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

from engine.contracts import Artefact, Work
from engine.errors import DataError
from engine.features.compute import compute, spine_of
from engine.features.label import REASONS, label_rows
from engine.features.program import FeatureProgram
from engine.features.timestamps import moment_of
from engine.keys import Json
from engine.nodes.frames import (
    read_document,
    read_source,
    sample_rows,
    source_inputs,
    source_paths,
    write_document,
    write_frame,
)
from engine.nodes.partitioned import compute_spilled
from engine.nodes.spill import height_of
from engine.nodes.spilled_job import SLICE, Files, JobFile, Sizes, open_job

ROW_ID, EVENT_TIME, LABEL, KNOWN_AT = "row_id", "event_time", "label", "label_known_at"
_BYTES_A_ROW = 300


def compute_features(work: Work) -> Mapping[str, Json]:
    """Evaluate features for every spine row with a usable label; raises `DataError` when none is left.

    Rows that might not fit into memory are partitioned by key and spilled to disk, and the parts are done side by side
    where the run has room; the result has the same bytes.
    """
    settings: Any = work.settings
    program = FeatureProgram.from_json(settings["program"])
    tables = {name: _files_of(work, item) for name, item in source_inputs(work).items()}
    most = rows_in_memory()
    if sum(sum(tables[name].heights) for name in program.source_names) > most:
        return _compute_spilled(work, program, tables, most)
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


def _files_of(work: Work, artefact: Artefact) -> Files:
    described: Any = read_document(artefact.path / "source.json")
    paths = tuple(item["path"] for item in described["objects"])
    heights = tuple(map(height_of, source_paths(work, artefact)))
    return Files(paths, heights, str(artefact.notes["repository"]), str(artefact.notes["commit"]))


def _compute_spilled(work: Work, program: FeatureProgram, files: Mapping[str, Files], most: int) -> Mapping[str, Json]:
    settings: Any = work.settings
    scratch = work.out.with_name(f"{work.out.name}.features")  # deleted with the staged folder, whatever happens
    as_of = moment_of(settings["as_of"]) if settings["as_of"] is not None else None
    rows = max(most // 6 // max(work.parts.beside, 1), 1)
    job = JobFile(
        program=settings["program"],
        files={name: files[name] for name in program.source_names},
        sizes=Sizes(rows, rows, min(rows, SLICE)),
        as_of=as_of,
        sample=settings["sample"],
    )
    try:
        made = compute_spilled(open_job(work, job, scratch), work.out / "rows.parquet")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    write_document(work.out / "labels.json", {reason: made.counts.get(reason, 0) for reason in REASONS})
    return {"rows": made.rows, "columns": made.columns}


def read_history(work: Work, program: FeatureProgram) -> dict[str, pl.DataFrame]:
    """Read what the program needs of each source: only the columns that it names."""
    sources = source_inputs(work)
    return {name: read_source(work, sources[name], program.source_columns(name)) for name in program.source_names}
