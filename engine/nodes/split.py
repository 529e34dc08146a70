"""Split: which rows train, which stop the training, which judge it.

Leaves `split.parquet` (one column `part`, aligned with the features' rows) and `summary.json` (rows, positives and
time range of each part).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import polars as pl

from engine.clock import isoformat
from engine.components import catalogue_of
from engine.contracts import Splitter, Work
from engine.errors import DataError
from engine.keys import Json
from engine.nodes.features import EVENT_TIME, KNOWN_AT, LABEL, ROW_ID
from engine.nodes.frames import read_frame, write_document, write_frame

PARTS = ("train", "validation", "calibration", "test", "unused")


def split_rows(work: Work) -> Mapping[str, Json]:
    """Assign every row to a part; raises `DataError` when training or test would be empty."""
    settings: Any = work.settings
    by = settings["params"].get("by")
    wanted = dict.fromkeys((ROW_ID, EVENT_TIME, KNOWN_AT, LABEL, *((by,) if by else ())))
    path = work.inputs["rows"].path / "rows.parquet"
    known = set(pl.read_parquet_schema(path))
    rows = read_frame(path, [name for name in wanted if name in known])
    outer = _within(work)
    rows = rows if outer is None else rows.filter(outer)
    component = catalogue_of(work.place).get("splitter", settings["component"])
    splitter: Splitter = component.build(msgspec.convert(settings["params"], component.params))
    seen = rows if by == LABEL else rows.drop(LABEL)  # a splitter sees labels only if it is asked to split by them
    part = splitter.split(seen, settings["seed"]).cast(pl.String).alias("part")
    _refuse_bad_parts(part, rows.height)
    if outer is not None:  # rows beyond the other split's parts are nobody's
        part, rows = _spread(part, outer), read_frame(path, rows.columns)
    write_frame(work.out / "split.parquet", part.to_frame())
    summary = _summarise(rows.with_columns(part))
    write_document(work.out / "summary.json", summary)
    empty = [name for name in ("train", "test") if name not in summary]
    if empty:
        raise DataError(
            f"the split leaves no rows for {' and '.join(empty)}", hint="move its boundaries into the data's time range"
        )
    return {"rows": rows.height, **{name: part["rows"] for name, part in summary.items()}}


def _within(work: Work) -> pl.Series | None:
    """Say which rows another split gives to the parts that this one divides again; `None` for all."""
    if "within" not in work.inputs:
        return None
    settings: Any = work.settings
    return read_frame(work.inputs["within"].path / "split.parquet")["part"].is_in(list(settings["parts"]))


def _spread(part: pl.Series, outer: pl.Series) -> pl.Series:
    """Give the parts of some rows in the place of those among all rows; the others are `unused`."""
    found = np.full(len(outer), "unused", dtype=object)
    found[outer.to_numpy()] = part.to_numpy()
    return pl.Series("part", found.tolist(), dtype=pl.String)


def _refuse_bad_parts(part: pl.Series, height: int) -> None:
    strange = sorted(set(part.unique().to_list()) - set(PARTS), key=str)
    if strange or len(part) != height:
        raise DataError(
            f"the splitter returned {len(part)} parts for {height} rows, among them {strange}; allowed: {PARTS}"
        )


def _summarise(rows: pl.DataFrame) -> dict[str, dict[str, Any]]:
    text = rows.schema[LABEL] == pl.String  # which has no mean
    grouped = rows.group_by("part").agg(
        pl.len().alias("rows"),
        (pl.lit(None, pl.Float64) if text else pl.col(LABEL).cast(pl.Float64).mean()).alias("mean"),
        pl.col(EVENT_TIME).min().alias("first"),
        pl.col(EVENT_TIME).max().alias("last"),
    )
    found = {row["part"]: row for row in grouped.to_dicts()}
    return {
        name: {
            "rows": found[name]["rows"],
            "label_mean": found[name]["mean"],
            "first": isoformat(found[name]["first"]),
            "last": isoformat(found[name]["last"]),
        }
        for name in PARTS
        if name in found
    }
