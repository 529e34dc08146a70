"""Features of more rows than fit into memory: joins by buckets of keys, results put together by the order of the rows.

Enters: a `Crew`. Leaves: `rows.parquet`, with the bytes that the evaluation in memory writes, for any size of bucket and any
number of workers. Called by the `features` node. Level by level, each join scatters the spine and its source by a hash of the
join's own key, evaluates bucket after bucket with the functions of `compute`, and scatters the results by position; formulas
are computed chunk by chunk. Functions of a `Work` are parts, done in any order and process: each holds one bucket, chunk or
slice in memory, so memory depends on their size, or on the largest key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from engine.contracts import Work
from engine.features.compute import Joining, Level, evaluate_formulas, evaluate_join, levels_of
from engine.features.frames import conform
from engine.features.spine import ROW_ID
from engine.features.steps import EVENT_TIME
from engine.features.timeline import build_timeline
from engine.keys import Json
from engine.nodes.frames import ROW_GROUP
from engine.nodes.spill import bucket_count, bucket_numbers
from engine.nodes.spilled_job import Crew, Job, job_of
from engine.nodes.spilled_spine import Chunks, Scattering, scatter, settle, spill_spine

POSITION = "\x00position"


@dataclass(frozen=True, slots=True)
class Made:
    """What was computed: rows, features a row, and spine rows by what became of their label."""

    rows: int
    columns: int
    counts: Mapping[str, int]


def compute_spilled(crew: Crew, out: Path) -> Made:
    """Write the rows of the features node; raises `DataError` for a spine without usable labels."""
    job, progress = crew.job, crew.work.progress
    progress("labels", job.tables[job.program.spine.source].height, None)
    chunks = spill_spine(crew)
    levels = levels_of(job.program)
    joins, done = sum(len(level.joins) for level in levels), 0
    for depth, level in enumerate(levels):
        for place in range(len(level.joins)):
            progress("features", chunks.height, done / max(joins, 1))
            _join(crew, chunks, depth, place)
            done += 1
        common = {"chunks": len(chunks.starts), "depth": depth}
        crew.run(add_level, [{**common, "chunk": number} for number in range(len(chunks.starts))])
        for place in range(len(level.joins)):
            job.buckets(f"made-{depth}-{place}", 0).remove()
    _write(crew, chunks, len(levels), out)
    return Made(chunks.height, len(job.program.computed_names), dict(chunks.counts))


def _join(crew: Crew, chunks: Chunks, depth: int, place: int) -> None:
    """One join's features, scattered over the chunks by position."""
    job, joining = crew.job, levels_of(crew.job.program)[depth].joins[place]
    source = job.program.sources[joining.source]
    count = bucket_count(chunks.height + job.tables[source.name].height, job.sizes.bucket)
    common = {"depth": depth, "join": place, "count": count, "chunks": len(chunks.starts)}
    starts = [{"chunk": number, "start": start} for number, start in enumerate(chunks.starts)]
    crew.run(ask_chunk, [{**common, **item} for item in starts])
    keys = tuple(column for column, _ in joining.on)
    what = Scattering(source.name, tuple(source.columns), keys, settle(crew, source.name))
    scatter(crew, what, f"held-{depth}-{place}", count)
    crew.run(join_bucket, [{**common, "bucket": n, "starts": list(chunks.starts)} for n in range(count)])
    for done in ("asked", "held"):
        job.buckets(f"{done}-{depth}-{place}", count).remove()


def ask_chunk(work: Work) -> Mapping[str, Json]:
    """Part: what a join needs of one chunk of the spine, scattered by its key."""
    job, asked = job_of(work), _settings(work)
    joining = _joining(job, asked)
    targets = [target for _, target in joining.on]
    needed = list(dict.fromkeys([EVENT_TIME, *targets, *joining.request_columns]))
    frame = _chunk(job, asked, asked["depth"]).select(needed)
    positions = pl.int_range(asked["start"], asked["start"] + frame.height, dtype=pl.Int64).alias(POSITION)
    frame = frame.with_columns(positions)
    buckets = job.buckets(f"asked-{asked['depth']}-{asked['join']}", asked["count"])
    buckets.scatter(asked["chunk"], frame, bucket_numbers(frame, targets, asked["count"]))
    return {}


def join_bucket(work: Work) -> Mapping[str, Json]:
    """Part: a join's features of the rows of one bucket, scattered over the chunks by position."""
    job, asked = job_of(work), _settings(work)
    program, joining = job.program, _joining(job, asked)
    name = f"{asked['depth']}-{asked['join']}"
    spine = job.buckets(f"asked-{name}", asked["count"]).read(asked["bucket"])
    types = {**program.spine.request, EVENT_TIME: "timestamp", **program.output_types}
    if not spine.height:
        return {}
    held = job.buckets(f"held-{name}", asked["count"]).read(asked["bucket"])
    line = build_timeline(program.sources[joining.source], held, job.as_of)
    frame = conform(spine, {column: types[column] for column in spine.columns if column != POSITION}, "spine")
    values = pl.DataFrame(evaluate_join(program, joining, frame, line)).with_columns(spine[POSITION])
    chunk = np.searchsorted(np.array(asked["starts"], dtype=np.int64), values[POSITION].to_numpy(), "right") - 1
    made = job.buckets(f"made-{name}", asked["chunks"])
    made.scatter(asked["bucket"], values, pl.Series(chunk, dtype=pl.UInt64))
    return {}


def add_level(work: Work) -> Mapping[str, Json]:
    """Part: the results of one level for one chunk, in the order of its rows."""
    job, asked = job_of(work), _settings(work)
    depth, number = asked["depth"], asked["chunk"]
    level: Level = levels_of(job.program)[depth]
    columns = evaluate_formulas(level, _chunk(job, asked, depth))
    for place in range(len(level.joins)):
        found = job.buckets(f"made-{depth}-{place}", asked["chunks"]).read(number)
        columns += found.sort(POSITION).drop(POSITION).get_columns()
    job.buckets(f"columns-{depth}", asked["chunks"]).put(number, pl.DataFrame(columns))
    return {}


def _write(crew: Crew, chunks: Chunks, depth: int, out: Path) -> None:
    """Write all chunks as one file, in order; the bytes are those of the whole frame."""
    count = len(chunks.starts)
    crew.run(finish_chunk, [{"chunk": number, "chunks": count, "depth": depth} for number in range(count)])
    paths = [crew.job.scratch / "final" / f"{number:06d}" / "000000.arrow" for number in range(count)]
    pl.scan_ipc(paths).sink_parquet(out, compression="uncompressed", row_group_size=ROW_GROUP, maintain_order=True)


def finish_chunk(work: Work) -> Mapping[str, Json]:
    """Part: one chunk as the node leaves it."""
    job, asked = job_of(work), _settings(work)
    rows = job.buckets("chunks", asked["chunks"]).read(asked["chunk"])
    features = _chunk(job, asked, asked["depth"]).select(job.program.computed_names).drop(ROW_ID, strict=False)
    ends = rows.select("label", "label_known_at")
    made = rows.drop("label", "label_known_at").hstack(features).hstack(ends)
    job.buckets("final", asked["chunks"]).put(asked["chunk"], made)
    return {}


def _chunk(job: Job, asked: Any, depth: int) -> pl.DataFrame:
    """One chunk as `compute` sees it: time, request fields, and the features of the first `depth` levels."""
    rows = job.buckets("chunks", asked["chunks"]).read(asked["chunk"])
    made = conform(rows, {EVENT_TIME: "timestamp", **job.program.spine.request}, "spine")
    for level in range(depth):
        made = made.hstack(job.buckets(f"columns-{level}", asked["chunks"]).read(asked["chunk"]))
    return made


def _joining(job: Job, asked: Any) -> Joining:
    level: Level = levels_of(job.program)[asked["depth"]]
    joining: Joining = level.joins[asked["join"]]
    return joining


def _settings(work: Work) -> Any:
    return work.settings
