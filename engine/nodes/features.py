"""Features: evaluate the program over the spine at a snapshot, and join the labels that are usable.

Leaves `rows.parquet` (row_id, event_time, request fields, raw features, label, label_known_at; one row a usable spine
row, in `(event_time, row_id)` order) and `labels.json` (how many spine rows were dropped, and why).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from engine.contracts import Work
from engine.errors import DataError
from engine.features.compute import compute, spine_of
from engine.features.label import label_rows
from engine.features.program import FeatureProgram
from engine.keys import Json
from engine.nodes.frames import read_source, source_inputs, write_document, write_frame

ROW_ID, EVENT_TIME, LABEL, KNOWN_AT = "row_id", "event_time", "label", "label_known_at"
_SAMPLE_STEPS = 1_000_000


def compute_features(work: Work) -> Mapping[str, Json]:
    """Evaluate features for every spine row with a usable label; raises `DataError` when none is left."""
    settings: Any = work.settings
    program = FeatureProgram.from_json(settings["program"])
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


def read_history(work: Work, program: FeatureProgram) -> dict[str, pl.DataFrame]:
    """Read what the program needs of each source: only the columns that it names."""
    sources = source_inputs(work)
    return {name: read_source(work, sources[name], program.source_columns(name)) for name in program.source_names}


def sample_rows(spine: pl.DataFrame, fraction: float | None) -> pl.DataFrame:
    """Keep about that fraction of rows, chosen by a hash of their ids: the same rows every time."""
    if fraction is None:
        return spine
    return spine.filter(pl.col(ROW_ID).hash(seed=0) % _SAMPLE_STEPS < int(fraction * _SAMPLE_STEPS))
