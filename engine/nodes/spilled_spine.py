"""The training spine and its labels when they do not fit into memory: chunks of rows on disk, in `(event_time, row_id)` order.

Enters: a program and the tables of its sources. Leaves: a `Chunks` whose rows have `position`, the number of the row in that
order. Versions of an id, and a spine row and its labels, meet in one bucket; then rows are scattered by ranges of time,
sorted and numbered. Called by `partitioned`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from engine.errors import DataError
from engine.features.frames import microseconds_of
from engine.features.label import label_rows
from engine.features.lowered_functions import DTYPES
from engine.features.program import FeatureProgram, LabelProgram, SourceProgram
from engine.features.spine import ROW_ID, spine_of
from engine.features.steps import EVENT_TIME
from engine.features.timeline import FOREVER, LONGEST, UNTIL, build_timeline
from engine.nodes.spill import Buckets, Table, bucket_count, bucket_numbers

POSITION = "\x00position"
_SAMPLE = 2000


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many rows are worked on at a time: those of a bucket, and those of a chunk of the result."""

    bucket: int
    chunk: int


@dataclass(frozen=True, slots=True)
class Job:
    """What is computed, from which tables, where there is room on disk, and how much at a time."""

    program: FeatureProgram
    tables: Mapping[str, Table]
    scratch: Path
    sizes: Sizes
    as_of: int | None
    settled: dict[str, Table] = field(default_factory=dict)


@dataclass(slots=True)
class Chunks:
    """Spine rows with labels, in order: chunk `n` has positions from `starts[n]` on; `counts` are reasons of labels."""

    rows: Buckets
    starts: list[int] = field(default_factory=list)
    height: int = 0
    counts: Counter[str] = field(default_factory=Counter)


def settled_table(job: Job, name: str) -> Table:
    """A source's rows, with `UNTIL` where some ids have several versions, which may lie under different keys."""
    if name not in job.settled:
        job.settled[name] = _settle(job, job.program.sources[name], job.tables[name])
    return job.settled[name]


def _settle(job: Job, source: SourceProgram, table: Table) -> Table:
    if source.id is None or source.static or source.time is None:
        return table
    count, scratch = bucket_count(table.height, job.sizes.bucket), job.scratch / f"versions-{source.name}"
    ids = Buckets(scratch / "ids", count, {"id": DTYPES[source.columns[source.id]]})
    for batch in table.batches([source.id]):
        kept = batch.select(pl.first().alias("id")).drop_nulls()
        ids.add(kept, bucket_numbers(kept, ["id"], count))
    if all([_is_unique(ids, number) for number in range(count)]):  # noqa: C419 - each is deleted once it is looked at
        return table
    versions = Buckets(scratch / "versions", count, _dtypes(source))
    for batch in table.batches(list(source.columns)):
        versions.add(batch, bucket_numbers(batch, [source.id], count))
    settled = Buckets(scratch / "settled", count, {**_dtypes(source), UNTIL: pl.Int64()})
    for number in range(count):
        line = build_timeline(source, versions.read(number), job.as_of)
        settled.put(line.frame.with_columns(pl.Series(UNTIL, line.until, dtype=pl.Int64)), number)
        versions.drop(number)
    return settled


def _is_unique(ids: Buckets, number: int) -> bool:
    values = ids.read(number)["id"]
    ids.drop(number)
    return values.n_unique() == len(values)


def _dtypes(source: SourceProgram) -> dict[str, pl.DataType]:
    return {name: DTYPES[type_] for name, type_ in source.columns.items()}


def spill_spine(job: Job, keep: Callable[[pl.DataFrame], pl.DataFrame]) -> Chunks:
    """Every spine row with a usable label; `keep` may leave rows out, each by itself. Raises `DataError` for none."""
    program, label = job.program, job.program.label
    if label is None:
        raise DataError("this program has no label")
    table, source = job.tables[program.spine.source], program.sources[program.spine.source]
    count = bucket_count(table.height + job.tables[label.source].height, job.sizes.bucket)
    by_id = Buckets(job.scratch / "spine", count, _dtypes(source))
    for batch in table.batches(list(source.columns)):
        by_id.add(batch, bucket_numbers(batch, [str(source.id)], count))
    targets = [ROW_ID if target == source.id else target for _, target in label.on]
    asked: Buckets | None = None
    for number in range(count):
        rows = keep(spine_of(program, {source.name: by_id.read(number)}, job.as_of))
        asked = asked or Buckets(job.scratch / "asked", count, rows.schema)
        asked.add(rows, bucket_numbers(rows, targets, count))
        by_id.drop(number)
    if asked is None:
        raise DataError("the spine has no rows")
    return _order(_labelled(job, label, asked), job)


@dataclass(frozen=True, slots=True)
class _Labelled:
    rows: Buckets
    counts: Counter[str]
    height: int
    times: pl.Series


def _label_events(job: Job, label: LabelProgram, count: int) -> tuple[Buckets, int]:
    """The label's rows by the columns that join them; and the snapshot's time, when no other is given."""
    source, on = job.program.sources[label.source], [column for column, _ in label.on]
    events = Buckets(job.scratch / "labels", count, {**_dtypes(source), UNTIL: pl.Int64()})
    settled = settled_table(job, label.source)
    names, snapshot = [*source.columns, *([UNTIL] if isinstance(settled, Buckets) else [])], -LONGEST
    for batch in settled.batches(names):
        made = batch if UNTIL in batch.columns else batch.with_columns(pl.lit(FOREVER, dtype=pl.Int64).alias(UNTIL))
        snapshot = max(snapshot, int(build_timeline(source, made, job.as_of).available.max(initial=snapshot)))
        made = made.drop_nulls(on)
        events.add(made, bucket_numbers(made, on, count))
    return events, job.as_of if job.as_of is not None else snapshot


def _labelled(job: Job, label: LabelProgram, asked: Buckets) -> _Labelled:
    """Spine rows with their labels, by bucket; and moments that are spread as theirs are."""
    count = len(asked)
    events, snapshot = _label_events(job, label, count)
    counts: Counter[str] = Counter()
    rows, height, times = None, 0, []
    for number in range(count):
        spine = asked.read(number)
        found = label_rows(job.program, spine, {label.source: events.read(number)}, snapshot)
        counts.update(found.counts)
        usable = spine.hstack(found.rows.select("label", "label_known_at")).filter(found.rows["usable"])
        rows = rows or Buckets(job.scratch / "usable", count, usable.schema)
        rows.put(usable, number)
        height += usable.height
        times.append(usable[EVENT_TIME].gather_every(max(1, usable.height // _SAMPLE)))
        asked.drop(number)
        events.drop(number)
    if rows is None or not height:
        raise DataError(
            f"no spine row has a usable label: {dict(counts)}", hint="check label.maturity, label.on and as_of"
        )
    return _Labelled(rows, counts, height, pl.concat(times).sort())


def _order(labelled: _Labelled, job: Job) -> Chunks:
    """Scatter by ranges of time, sort each, and number the rows."""
    count = bucket_count(labelled.height, job.sizes.chunk)
    cuts = [labelled.times[len(labelled.times) * place // count] for place in range(1, count)]
    moments = np.array(
        [microseconds_of(pl.Series([cut], dtype=labelled.times.dtype))[0] for cut in cuts], dtype=np.int64
    )
    schema = labelled.rows.read(0).schema
    ranges = Buckets(job.scratch / "ranges", count, schema)
    for number in range(len(labelled.rows)):
        rows = labelled.rows.read(number)
        places = np.searchsorted(moments, microseconds_of(rows[EVENT_TIME]), "right")
        ranges.add(rows, pl.Series(places, dtype=pl.UInt64))
        labelled.rows.drop(number)
    made = Chunks(Buckets(job.scratch / "chunks", count, {**schema, POSITION: pl.Int64()}), counts=labelled.counts)
    for number in range(count):
        rows = ranges.read(number).sort(EVENT_TIME, ROW_ID)
        made.starts.append(made.height)
        made.rows.put(rows.with_columns(pl.int_range(made.height, made.height + rows.height).alias(POSITION)), number)
        made.height += rows.height
        ranges.drop(number)
    return made
