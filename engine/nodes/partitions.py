"""Partitions of a source by event time: which one a row is in, and rows in order cut into them without copying.

Enters: typed rows. Leaves: labels (`2024-01-31`, `2024-01`, `2024`; `undated` without a time, `all` for a source that is
not partitioned) and slices. Called by `reading` and `publish`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import polars as pl

from engine.features.timeline import is_in_order
from engine.spec import SourceSpec

ALL, UNDATED = "all", "undated"
_FORMATS = {"day": "%Y-%m-%d", "month": "%Y-%m", "year": "%Y"}
_TRUNCATE = {"day": "1d", "month": "1mo", "year": "1y"}


def label_rows(frame: pl.DataFrame, spec: SourceSpec) -> pl.Series:
    """Give the label of each row's partition."""
    if spec.partition == "none" or spec.time is None:
        return pl.repeat(ALL, frame.height, eager=True)
    start = frame.select(pl.col(spec.time).dt.truncate(_TRUNCATE[spec.partition]).alias("start"))
    # A label a partition, not a row: text is slow to make.
    name = pl.col("start").dt.strftime(_FORMATS[spec.partition]).fill_null(UNDATED).alias("label")
    names = start.unique().with_columns(name)
    return start.join(names, on="start", how="left", nulls_equal=True, maintain_order="left")["label"]


def cut_partitions(frame: pl.DataFrame, spec: SourceSpec) -> Iterator[tuple[str, pl.DataFrame]]:
    """Cut rows that are in order of time, those without one last, into slices of one partition each."""
    if spec.partition == "none" or spec.time is None:
        if frame.height:
            yield ALL, frame
        return
    dated = frame.height - frame[spec.time].null_count()
    times = frame[spec.time].head(dated)
    begin = 0
    while begin < dated:
        first = times[begin]
        after = _next_start(first, spec.partition)
        end = dated if after is None else int(times.search_sorted(after, side="left"))
        yield _label(first, spec.partition), frame.slice(begin, end - begin)
        begin = end
    if dated < frame.height:
        yield UNDATED, frame.slice(dated)


def in_order(frame: pl.DataFrame, spec: SourceSpec) -> pl.DataFrame:
    """Sort by the total order `(time, id)`, or by key for a static source, so equal rows give equal bytes."""
    order = [name for name in (spec.time, spec.id) if name] or list(spec.key)
    rest = [name for name in frame.columns if name not in order]
    ordered = frame.select(*order, *rest)
    return ordered if is_in_order(ordered, *order) else ordered.sort(order, nulls_last=True, maintain_order=True)


def _next_start(moment: datetime, partition: str) -> datetime | None:
    """Give where the next partition begins; `None` at the end of the calendar."""
    try:
        match partition:
            case "day":
                return datetime(moment.year, moment.month, moment.day, tzinfo=UTC) + timedelta(days=1)
            case "month":
                return datetime(moment.year + moment.month // 12, moment.month % 12 + 1, 1, tzinfo=UTC)
            case _:
                return datetime(moment.year + 1, 1, 1, tzinfo=UTC)
    except (OverflowError, ValueError):
        return None


def _label(moment: datetime, partition: str) -> str:
    """Write a label as `label_rows` does.

    >>> _label(datetime(13, 5, 1, tzinfo=UTC), "month")
    '0013-05'
    """
    parts = (f"{moment.year:04d}", f"{moment.month:02d}", f"{moment.day:02d}")
    return "-".join(parts[: {"year": 1, "month": 2, "day": 3}[partition]])
