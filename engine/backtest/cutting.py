"""Cutting the history: its span, what sources held at a moment, and the rows that a training at a moment could have had.

Bodies of nodes. A row is known at a moment when it lies before it and its label was known by then; every other row is `unused`,
whatever the splitter would say of it, and the splitter does not see it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
import numpy as np
import polars as pl

from engine.clock import isoformat, to_microseconds
from engine.components import catalogue_of
from engine.contracts import Splitter, Work
from engine.errors import DataError
from engine.features.program import FeatureProgram
from engine.features.timeline import build_timeline
from engine.keys import Json
from engine.nodes.features import EVENT_TIME, KNOWN_AT, LABEL, ROW_ID, read_history
from engine.nodes.frames import read_frame, write_document, write_frame
from engine.nodes.split import PARTS

UNUSED = "unused"


def find_span(work: Work) -> Mapping[str, Json]:
    """Find the first and the last row; leaves `span.json`."""
    times = read_frame(work.inputs["rows"].path / "rows.parquet", [EVENT_TIME])[EVENT_TIME].drop_nulls()
    first, last = times.min(), times.max()
    if not isinstance(first, datetime) or not isinstance(last, datetime):
        raise DataError("no row has an event time, so there is no history to replay", hint="check `spine` and `label`")
    write_document(work.out / "span.json", {"first": isoformat(first), "last": isoformat(last), "rows": len(times)})
    return {"rows": len(times)}


def count_content(work: Work) -> Mapping[str, Json]:
    """Count the rows of each source that were available at each moment; leaves `content.json`."""
    settings: Any = work.settings
    program = FeatureProgram.from_json(settings["program"])
    moments = np.array([to_microseconds(datetime.fromisoformat(text)) for text in settings["moments"]])
    found: dict[str, Json] = {}
    for name, frame in read_history(work, program).items():
        available = np.sort(build_timeline(program.sources[name], frame, None).available)
        found[name] = [int(count) for count in np.searchsorted(available, moments, side="right")]
    write_document(work.out / "content.json", found)
    return {"sources": list(found)}


def cut_rows(work: Work) -> Mapping[str, Json]:
    """Split the rows known at a moment; leaves `split.parquet` and `summary.json` as a split does."""
    settings: Any = work.settings
    moment = datetime.fromisoformat(settings["moment"])
    rows = _read_rows(work, settings["params"].get("by"))
    known = rows.select((pl.col(EVENT_TIME) < moment) & (pl.col(KNOWN_AT) <= moment))[EVENT_TIME].fill_null(value=False)
    seen = rows.filter(known)
    component = catalogue_of(work.place).get("splitter", settings["component"])
    splitter: Splitter = component.build(msgspec.convert(settings["params"], component.params))
    try:
        shown = seen if settings["params"].get("by") == LABEL else seen.drop(LABEL)
        part = splitter.split(shown, settings["seed"]).cast(pl.String)
    except DataError as error:
        raise DataError(
            f"at {settings['moment'][:10]}: {error.message}", hint="start later (--from), or move the split"
        ) from None
    if len(part) != seen.height or set(part.unique().to_list()) - set(PARTS):
        raise DataError(
            f"the splitter returned {len(part)} parts for {seen.height} rows; allowed are {', '.join(PARTS)}"
        )
    whole = np.full(rows.height, UNUSED, dtype=object)
    whole[known.to_numpy()] = part.to_numpy()
    write_frame(work.out / "split.parquet", pl.DataFrame({"part": pl.Series(whole, dtype=pl.String)}))
    summary = {name: int((part == name).sum()) for name in PARTS}
    newest = seen.filter(part == "train")[EVENT_TIME].max()
    document: dict[str, Json] = {"moment": settings["moment"], "known": seen.height, "parts": dict(summary)}
    document["trained_until"] = isoformat(newest) if isinstance(newest, datetime) else None
    write_document(work.out / "cut.json", document)
    return {"known": seen.height, **summary}


def _read_rows(work: Work, by: str | None) -> pl.DataFrame:
    path = work.inputs["rows"].path / "rows.parquet"
    wanted = dict.fromkeys((ROW_ID, EVENT_TIME, KNOWN_AT, LABEL, *((by,) if by else ())))
    known = set(pl.read_parquet_schema(path))
    return read_frame(path, [name for name in wanted if name in known])
