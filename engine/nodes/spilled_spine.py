"""The training spine and its labels when they do not fit into memory: chunks of rows on disk, in `(event_time, row_id)` order.

Enters: a `Crew`. Leaves: `Chunks`; chunk `n` has the rows from position `starts[n]` on. Versions of an id, and a spine row and
its labels, meet in one bucket; then rows are scattered by ranges of time, and sorted. Functions of a `Work` are parts, done
in any order and process; the others hand them out and are called by `partitioned`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import polars as pl

from engine.contracts import Work
from engine.errors import DataError
from engine.features.frames import microseconds_of
from engine.features.label import label_rows
from engine.features.lowered_functions import DTYPES
from engine.features.program import LabelProgram, SourceProgram
from engine.features.spine import ROW_ID, spine_of
from engine.features.steps import EVENT_TIME
from engine.features.timeline import FOREVER, LONGEST, UNTIL, build_timeline
from engine.keys import Json
from engine.nodes.frames import sample_rows
from engine.nodes.spill import Buckets, bucket_count, bucket_numbers
from engine.nodes.spilled_job import Crew, job_of

_SAMPLE = 2000


@dataclass(frozen=True, slots=True)
class Chunks:
    """Spine rows with labels, in order; `counts` are reasons of labels."""

    rows: Buckets
    starts: tuple[int, ...]
    height: int
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Scattering:
    """Rows of a source to be scattered: which columns, by which of them; `until`: they say until when they count."""

    source: str
    columns: tuple[str, ...]
    keys: tuple[str, ...]
    settled: int = 0
    until: bool = False
    drop: bool = True


def scatter(crew: Crew, what: Scattering, target: str, count: int) -> list[Mapping[str, Any]]:
    """Scatter a source's rows into buckets, slice by slice; gives what the parts say."""
    job = crew.job
    source, table = job.program.sources[what.source], job.table(what.source, what.settled)
    schema = {name: DTYPES[source.columns[name]] for name in what.columns}
    job.buckets(target, count).declare({**schema, **({UNTIL: pl.Int64()} if what.until or what.settled else {})})
    settings: dict[str, Json] = {
        "source": what.source, "columns": list(what.columns), "keys": list(what.keys), "settled": what.settled,
        "until": what.until, "drop": what.drop, "target": target, "count": count,
    }  # fmt: skip
    return crew.run(scatter_slice, [{**settings, "slice": number} for number in range(table.slices)])


def scatter_slice(work: Work) -> Mapping[str, Json]:
    """Part: one slice of a source by the hash of some columns; without a value in one of them a row may be dropped."""
    job, asked = job_of(work), _settings(work)
    table, keys = job.table(asked["source"], asked["settled"]), asked["keys"]
    rows = table.read(asked["slice"], [*asked["columns"], *([UNTIL] if asked["settled"] else [])])
    notes: dict[str, Json] = {}
    if asked["until"]:
        if UNTIL not in rows.columns:
            rows = rows.with_columns(pl.lit(FOREVER, dtype=pl.Int64).alias(UNTIL))
        line = build_timeline(job.program.sources[asked["source"]], rows, job.as_of)
        notes["available"] = int(line.available.max(initial=-LONGEST))
    kept = rows.drop_nulls(keys) if asked["drop"] and keys else rows
    job.buckets(asked["target"], asked["count"]).scatter(
        asked["slice"], kept, bucket_numbers(kept, keys, asked["count"])
    )
    return notes


def settle(crew: Crew, name: str) -> int:
    """Find which version of an id counts when, if any id has several, which may lie under different keys.

    Gives the number of buckets that say so (`Job.table`); 0 when the source's own rows will do.
    """
    job, source = crew.job, crew.job.program.sources[name]
    if source.id is None or source.static or source.time is None:
        return 0
    count = bucket_count(job.tables[name].height, job.sizes.bucket)
    if (job.scratch / f"settled-{name}").exists():
        return count
    scatter(crew, Scattering(name, (source.id,), (source.id,)), f"ids-{name}", count)
    numbers: list[dict[str, Json]] = [{"source": name, "count": count, "bucket": number} for number in range(count)]
    unique = all(found["unique"] for found in crew.run(look_for_versions, numbers))
    job.buckets(f"ids-{name}", count).remove()
    if unique:
        return 0
    whole = Scattering(name, tuple(source.columns), (source.id,), drop=False)
    scatter(crew, whole, f"versions-{name}", count)
    crew.run(settle_versions, numbers)
    job.buckets(f"versions-{name}", count).remove()
    return count


def look_for_versions(work: Work) -> Mapping[str, Json]:
    """Part: whether the ids of a bucket are all different."""
    asked = _settings(work)
    ids = job_of(work).buckets(f"ids-{asked['source']}", asked["count"]).read(asked["bucket"]).to_series()
    return {"unique": ids.n_unique() == len(ids)}


def settle_versions(work: Work) -> Mapping[str, Json]:
    """Part: until when each row of a bucket counts."""
    job, asked = job_of(work), _settings(work)
    source: SourceProgram = job.program.sources[asked["source"]]
    rows = job.buckets(f"versions-{source.name}", asked["count"]).read(asked["bucket"])
    line = build_timeline(source, rows, job.as_of)
    settled = line.frame.with_columns(pl.Series(UNTIL, line.until, dtype=pl.Int64))
    job.buckets(f"settled-{source.name}", asked["count"]).put(asked["bucket"], settled)
    return {}


def spill_spine(crew: Crew) -> Chunks:
    """Every spine row with a usable label, or a sample of them. Raises `DataError` when there is none."""
    job = crew.job
    program, label = job.program, job.program.label
    if label is None:
        raise DataError("this program has no label")
    name, source = program.spine.source, program.sources[program.spine.source]
    count = bucket_count(job.tables[name].height + job.tables[label.source].height, job.sizes.bucket)
    scatter(crew, Scattering(name, tuple(source.columns), (str(source.id),)), "spine", count)
    crew.run(take_spine, [{"bucket": number, "count": count} for number in range(count)])
    job.buckets("spine", count).remove()
    snapshot = _scatter_labels(crew, label, count)
    found = crew.run(label_bucket, [{"bucket": n, "count": count, "snapshot": snapshot} for n in range(count)])
    for done in ("asked", "labels"):
        job.buckets(done, count).remove()
    counts = sum((Counter(part["counts"]) for part in found), Counter[str]())
    if not sum(part["rows"] for part in found):
        raise DataError(
            f"no spine row has a usable label: {dict(counts)}", hint="check label.maturity, label.on and as_of"
        )
    return _order(crew, found, counts)


def take_spine(work: Work) -> Mapping[str, Json]:
    """Part: the spine rows of a bucket of ids, scattered by what the label joins by."""
    job, asked = job_of(work), _settings(work)
    program, label = job.program, job.program.label
    name = program.spine.source
    rows = sample_rows(
        spine_of(program, {name: job.buckets("spine", asked["count"]).read(asked["bucket"])}, job.as_of), job.sample
    )
    on = label.on if label is not None else ()
    targets = [ROW_ID if target == program.sources[name].id else target for _, target in on]
    numbers = bucket_numbers(rows, targets, asked["count"])
    job.buckets("asked", asked["count"]).scatter(asked["bucket"], rows, numbers)
    return {}


def _scatter_labels(crew: Crew, label: LabelProgram, count: int) -> int:
    """Scatter the label's rows by the columns that join them; gives the snapshot's time."""
    source = crew.job.program.sources[label.source]
    on = tuple(column for column, _ in label.on)
    what = Scattering(label.source, tuple(source.columns), on, settle(crew, label.source), until=True)
    found = scatter(crew, what, "labels", count)
    return (
        crew.job.as_of if crew.job.as_of is not None else max((part["available"] for part in found), default=-LONGEST)
    )


def label_bucket(work: Work) -> Mapping[str, Json]:
    """Part: the rows of a bucket with a usable label; and moments that are spread as theirs are."""
    job, asked = job_of(work), _settings(work)
    label = job.program.label
    events = job.buckets("labels", asked["count"]).read(asked["bucket"])
    spine = job.buckets("asked", asked["count"]).read(asked["bucket"])
    found = label_rows(job.program, spine, {label.source if label else "": events}, asked["snapshot"])
    usable = spine.hstack(found.rows.select("label", "label_known_at")).filter(found.rows["usable"])
    job.buckets("usable", asked["count"]).put(asked["bucket"], usable)
    times = microseconds_of(usable[EVENT_TIME].gather_every(max(1, usable.height // _SAMPLE)))
    return {"counts": dict(found.counts), "rows": usable.height, "times": times.tolist()}


def _order(crew: Crew, labelled: Sequence[Mapping[str, Any]], counts: Mapping[str, int]) -> Chunks:
    """Scatter by ranges of time, and sort each."""
    job = crew.job
    count = bucket_count(sum(part["rows"] for part in labelled), job.sizes.chunk)
    times = sorted(time for part in labelled for time in part["times"])
    cuts = [times[len(times) * place // count] for place in range(1, count)]
    crew.run(cut_bucket, [{"bucket": n, "buckets": len(labelled), "cuts": cuts} for n in range(len(labelled))])
    job.buckets("usable", len(labelled)).remove()
    found = crew.run(sort_range, [{"chunk": number, "count": count} for number in range(count)])
    job.buckets("ranges", count).remove()
    ends = list(accumulate((part["rows"] for part in found), initial=0))
    return Chunks(job.buckets("chunks", count), tuple(ends[:-1]), ends[-1], counts)


def cut_bucket(work: Work) -> Mapping[str, Json]:
    """Part: the rows of a bucket, scattered by ranges of time."""
    job, asked = job_of(work), _settings(work)
    rows = job.buckets("usable", asked["buckets"]).read(asked["bucket"])
    cuts = np.array(asked["cuts"], dtype=np.int64)
    places = pl.Series(np.searchsorted(cuts, microseconds_of(rows[EVENT_TIME]), "right"), dtype=pl.UInt64)
    job.buckets("ranges", len(cuts) + 1).scatter(asked["bucket"], rows, places)
    return {}


def sort_range(work: Work) -> Mapping[str, Json]:
    """Part: the rows of a range of time, in order."""
    job, asked = job_of(work), _settings(work)
    rows = job.buckets("ranges", asked["count"]).read(asked["chunk"]).sort(EVENT_TIME, ROW_ID)
    job.buckets("chunks", asked["count"]).put(asked["chunk"], rows)
    return {"rows": rows.height}


def _settings(work: Work) -> Any:
    return work.settings
