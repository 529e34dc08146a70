"""The training spine: the rows that would have been asked about, each as it was known at its own time.

Called by the features node through `compute.spine_of`. Serving makes its spine from requests and never comes here.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from engine.errors import DataError
from engine.features.frames import conform, microseconds_of
from engine.features.lowering import evaluate, lower
from engine.features.steps import EVENT_TIME, FeatureProgram, SourceProgram
from engine.features.timeline import LONGEST, is_in_order
from engine.features.timestamps import Moment, moment_of

ROW_ID = "row_id"


def spine_of(program: FeatureProgram, history: Mapping[str, pl.DataFrame], as_of: Moment | None = None) -> pl.DataFrame:
    """The spine source's rows as `row_id`, `event_time`, request fields and the columns that the label joins by.

    Rows that satisfy `spine.where`, with a time and an id, and with a time not after `as_of`; in `(event_time, row_id)`
    order. Of several versions of an id, the last that was available at its own time; if none was, the first to become
    so.
    """
    spine, source = program.spine, program.sources[program.spine.source]
    if spine.source not in history:
        raise DataError(f"no history of source `{spine.source}`, which gives the spine")
    rows = conform(history[spine.source], source.columns, f"history of source `{spine.source}`")
    rows = rows.drop_nulls([name for name in (source.time, source.id) if name])
    if as_of is not None:
        rows = rows.filter(microseconds_of(rows[str(source.time)]) <= moment_of(as_of))
    rows = _one_version(source, rows)
    if spine.where is not None:
        rows = rows.filter(evaluate(lower({"where": spine.where}, source.columns), rows)["where"])
    joined = [target for _, target in program.label.on] if program.label is not None else []
    extra = [name for name in dict.fromkeys(joined) if name not in spine.request and name != source.id]
    made = rows.select(
        pl.col(str(source.id)).alias(ROW_ID), pl.col(str(source.time)).alias(EVENT_TIME), *spine.request, *extra
    )
    return made if is_in_order(made, EVENT_TIME, ROW_ID) else made.sort(EVENT_TIME, ROW_ID)


def _one_version(source: SourceProgram, rows: pl.DataFrame) -> pl.DataFrame:
    id_ = str(source.id)
    if rows[id_].n_unique() == rows.height:
        return rows
    late, never = 2**62, 2**63 - 1
    time = microseconds_of(rows[str(source.time)])
    if source.available_column is None:
        available = time + min(source.delay, LONGEST)
        known = np.ones(len(time), dtype=np.bool_)
    else:
        micros = rows[source.available_column].dt.epoch("us")
        available, known = micros.fill_null(0).to_numpy().astype(np.int64), micros.is_not_null().to_numpy()
    # Known at its own time: the later the better. Otherwise: the earlier the better, and after all that were known.
    # Never known comes last, whatever its time.
    worse = np.where(known, np.where(available <= time, -available, available - time + late), never)
    order = pl.Series("\x00worse", worse)
    ranked = rows.with_columns(order).sort("\x00worse", *sorted(rows.columns), nulls_last=True)
    return ranked.unique(subset=[id_], keep="first", maintain_order=True).drop("\x00worse")
