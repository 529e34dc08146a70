"""Features of more rows than fit into memory: joins by buckets of keys, results put together by the order of the rows.

Enters: a `Job`. Leaves: `rows.parquet`, with the bytes that the evaluation in memory writes, for any size of bucket. Called by
the `features` node. Level by level, each join scatters the spine and its source by a hash of the join's own key, evaluates
bucket after bucket with the functions of `compute`, and scatters the results by position; formulas are computed chunk by
chunk. One bucket is in memory at a time, so memory depends on the size of a bucket, or of the largest key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from engine.contracts import Progress
from engine.features.compute import Joining, Level, evaluate_formulas, evaluate_join, levels_of
from engine.features.frames import conform
from engine.features.lowered_functions import DTYPES
from engine.features.spine import ROW_ID
from engine.features.steps import EVENT_TIME
from engine.features.timeline import UNTIL, build_timeline
from engine.nodes.frames import ROW_GROUP
from engine.nodes.spill import Buckets, bucket_count, bucket_numbers
from engine.nodes.spilled_spine import POSITION, Chunks, Job, settled_table, spill_spine


@dataclass(frozen=True, slots=True)
class Made:
    """What was computed: rows, features a row, and spine rows by what became of their label."""

    rows: int
    columns: int
    counts: Mapping[str, int]


def compute_spilled(job: Job, out: Path, keep: Callable[[pl.DataFrame], pl.DataFrame], progress: Progress) -> Made:
    """Write the rows of the features node; raises `DataError` for a spine without usable labels."""
    progress("labels", job.tables[job.program.spine.source].height, None)
    chunks = spill_spine(job, keep)
    columns = _Columns(job, chunks)
    levels = levels_of(job.program)
    joins = sum(len(level.joins) for level in levels)
    done = 0
    for depth, level in enumerate(levels):
        made = []
        for joining in level.joins:
            progress("features", chunks.height, done / max(joins, 1))
            made.append(_evaluate(job, columns, joining, job.scratch / f"level-{depth}" / f"join-{done}"))
            done += 1
        columns.add(level, made)
    columns.write(out)
    return Made(chunks.height, len(job.program.computed_names), dict(chunks.counts))


class _Columns:
    """The spine and what is computed of it so far, chunk by chunk."""

    def __init__(self, job: Job, chunks: Chunks) -> None:
        self._job = job
        self._chunks = chunks
        self._fields = {EVENT_TIME: "timestamp", **job.program.spine.request}
        self._levels: list[Buckets] = []

    def __len__(self) -> int:
        return len(self._chunks.rows)

    @property
    def height(self) -> int:
        """How many rows there are."""
        return self._chunks.height

    @property
    def starts(self) -> list[int]:
        """The first position of each chunk."""
        return self._chunks.starts

    def frame(self, number: int) -> pl.DataFrame:
        """One chunk as `compute` sees it: time, request fields, features so far."""
        made = conform(self._chunks.rows.read(number), self._fields, "spine")
        for level in self._levels:
            made = made.hstack(level.read(number))
        return made

    def add(self, level: Level, joins: list[Buckets]) -> None:
        """Put the results of one level beside the rows, in their order."""
        made: Buckets | None = None
        for number in range(len(self)):
            frame = self.frame(number)
            columns = evaluate_formulas(level, frame)
            for join in joins:
                columns += join.read(number).sort(POSITION).drop(POSITION).get_columns()
                join.drop(number)
            values = pl.DataFrame(columns)
            folder = self._job.scratch / f"columns-{len(self._levels)}"
            made = made or Buckets(folder, len(self), values.schema)
            made.put(values, number)
        if made is not None:
            self._levels.append(made)

    def write(self, out: Path) -> None:
        """Write all chunks as one file, in order; the bytes are those of the whole frame."""
        folder, paths = self._job.scratch / "final", []
        folder.mkdir()
        for number in range(len(self)):
            rows = self._chunks.rows.read(number).drop(POSITION)
            features = self.frame(number).select(self._job.program.computed_names).drop(ROW_ID, strict=False)
            path = folder / f"{number:06d}.arrow"
            ends = rows.select("label", "label_known_at")
            rows.drop("label", "label_known_at").hstack(features).hstack(ends).write_ipc(path)
            paths.append(path)
        pl.scan_ipc(paths).sink_parquet(out, compression="uncompressed", row_group_size=ROW_GROUP, maintain_order=True)


def _evaluate(job: Job, columns: _Columns, joining: Joining, scratch: Path) -> Buckets:
    """One join's features, scattered over the chunks by position."""
    program = job.program
    history = job.tables[joining.source]
    count = bucket_count(columns.height + history.height, job.sizes.bucket)
    asked = _scatter_spine(columns, joining, count, scratch)
    held = _scatter_history(job, joining, count, scratch)
    types = {**program.spine.request, EVENT_TIME: "timestamp", **program.output_types}
    schema = {step.name: DTYPES[step.type] for step in joining.steps}
    made = Buckets(scratch / "made", len(columns), {**schema, POSITION: pl.Int64()})
    starts = np.array(columns.starts, dtype=np.int64)
    for number in range(count):
        spine = asked.read(number)
        if spine.height:
            line = build_timeline(program.sources[joining.source], held.read(number), job.as_of)
            frame = conform(spine, {name: types[name] for name in spine.columns if name != POSITION}, "spine")
            values = pl.DataFrame(evaluate_join(program, joining, frame, line)).with_columns(spine[POSITION])
            chunk = np.searchsorted(starts, values[POSITION].to_numpy(), "right") - 1
            made.add(values, pl.Series(chunk, dtype=pl.UInt64))
        asked.drop(number)
        held.drop(number)
    return made


def _scatter_spine(columns: _Columns, joining: Joining, count: int, scratch: Path) -> Buckets:
    made: Buckets | None = None
    targets = [target for _, target in joining.on]
    needed = list(dict.fromkeys([EVENT_TIME, *targets, *joining.request_columns]))
    for number in range(len(columns)):
        frame = columns.frame(number).select(needed)
        start = columns.starts[number]
        frame = frame.with_columns(pl.int_range(start, start + frame.height, dtype=pl.Int64).alias(POSITION))
        made = made or Buckets(scratch / "asked", count, frame.schema)
        made.add(frame, bucket_numbers(frame, targets, count))
    return made if made is not None else Buckets(scratch / "asked", count, {})


def _scatter_history(job: Job, joining: Joining, count: int, scratch: Path) -> Buckets:
    """The source's rows by key; those without one are left out."""
    source = job.program.sources[joining.source]
    table = settled_table(job, source.name)
    settled = isinstance(table, Buckets)
    schema = {name: DTYPES[type_] for name, type_ in source.columns.items()}
    names = [*source.columns, *([UNTIL] if settled else [])]
    held = Buckets(scratch / "held", count, {**schema, **({UNTIL: pl.Int64()} if settled else {})})
    keys = [column for column, _ in joining.on]
    for batch in table.batches(names):
        kept = batch.drop_nulls(keys) if keys else batch
        held.add(kept, bucket_numbers(kept, keys, count))
    return held
