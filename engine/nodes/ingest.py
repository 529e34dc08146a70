"""Ingest: write, audit, publish. Rows go to a fresh branch, are validated there, and reach `main` by a merge, or never.

Enters: a source's declaration and pin. Leaves: `source.json` (what the snapshot holds, by content) and `validation.json`;
the notes carry the commit. Rows that break a blocking expectation stay on their branch, which the error names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import polars as pl

from engine.clock import isoformat
from engine.components import load_catalogue
from engine.contracts import ObjectStat, Pin, Reading, Source, Work
from engine.errors import DataError
from engine.features.program import SourceProgram
from engine.features.sources import ingest_source
from engine.keys import Json
from engine.nodes.frames import read_source, write_document
from engine.nodes.publish import Publication, publish
from engine.nodes.validation import ValidationReport, tell_losses, validate
from engine.spec import SourceSpec, rebuild
from engine.stores.snapshots import open_snapshots


def ingest(work: Work) -> Mapping[str, Json]:
    """Bring one source into the snapshot store; raises `DataError` naming the quarantined branch when the audit fails."""
    settings: Any = work.settings
    spec, source = _declared(work)
    raw = _read(work, source, spec)
    ingested = ingest_source(SourceProgram.from_json(settings["program"]), raw)
    frame = _in_order(ingested.frame, spec)
    work.progress("validating", frame.height, None)
    report = tell_losses(validate(frame, spec, settings["source"], _references(work)), ingested, spec.columns)
    objects, commit = publish(Publication(work, spec, settings["source"]), frame, report)
    return _finish(work, spec, _described(settings["source"], spec, frame, objects), report, commit)


def checkout(work: Work) -> Mapping[str, Json]:
    """Use a source as it was at a pinned commit; raises `DataError` when that commit does not hold it."""
    settings: Any = work.settings
    name, commit = settings["source"], settings["pin"]["commit"]
    spec, _ = _declared(work)
    store = open_snapshots(work.place.snapshots)
    objects = store.list(spec.repository, commit, f"{name}/")
    if not objects:
        raise DataError(f"source `{name}`: commit {commit[:12]} of {spec.repository} does not hold it")
    paths = [store.fetch(spec.repository, commit, item.path) for item in objects]
    frame = pl.concat([pl.read_parquet(path, glob=False) for path in paths])
    report = validate(frame, spec, name, _references(work))
    return _finish(work, spec, _described(name, spec, frame, objects), report, commit)


def _declared(work: Work) -> tuple[SourceSpec, Source]:
    """Rebuild the declaration and the component that reads it."""
    settings: Any = work.settings
    component = load_catalogue(work.place.root, work.place.plugins).get("source", settings["spec"]["kind"])
    params = msgspec.convert(settings["spec"]["params"], component.params)
    return rebuild(SourceSpec, settings["spec"], params), component.build(params)


def _read(work: Work, source: Source, spec: SourceSpec) -> pl.DataFrame:
    settings: Any = work.settings
    frames: list[pl.DataFrame] = []
    share: float | None = None

    def tell(message: str, rows: int | None, done: float | None) -> None:
        nonlocal share
        share = done if done is not None else share
        work.progress(message, rows if rows is not None else sum(frame.height for frame in frames), share)

    for frame in source.read(Reading(work.place.root, Pin(settings["pin"], ""), spec.columns, tell)):
        frames.append(frame)
        tell("reading", None, None)
    if not any(frame.height for frame in frames):
        raise DataError(
            f"source `{settings['source']}`: no rows", hint="check its path; an empty source is never published"
        )
    return pl.concat(frames)


def _references(work: Work) -> dict[str, pl.DataFrame]:
    prefix = "reference."
    return {
        role.removeprefix(prefix): read_source(work, artefact)
        for role, artefact in work.inputs.items()
        if role.startswith(prefix)
    }


def _in_order(frame: pl.DataFrame, spec: SourceSpec) -> pl.DataFrame:
    """Sort by the total order `(time, id)`, or by key for a static source, so equal rows give equal bytes."""
    order = [name for name in (spec.time, spec.id) if name] or list(spec.key)
    rest = [name for name in frame.columns if name not in order]
    return frame.select(*order, *rest).sort(order, nulls_last=True, maintain_order=True)


def _described(name: str, spec: SourceSpec, frame: pl.DataFrame, objects: Sequence[ObjectStat]) -> dict[str, Json]:
    """Say what the snapshot holds, by content: the commit is a note, so an unrelated commit changes nothing."""
    return {
        "source": name,
        "objects": [{"path": item.path, "digest": item.digest, "size": item.size} for item in objects],
        "rows": frame.height,
        "schema": {column: str(dtype) for column, dtype in frame.schema.items()},
        **_time_bounds(frame, spec),
    }


def _finish(
    work: Work, spec: SourceSpec, described: Mapping[str, Json], report: ValidationReport, commit: str
) -> Mapping[str, Json]:
    write_document(work.out / "source.json", described)
    write_document(work.out / "validation.json", msgspec.to_builtins(report))
    return {"commit": commit, "repository": spec.repository, "rows": described["rows"], "source": described["source"]}


def _time_bounds(frame: pl.DataFrame, spec: SourceSpec) -> dict[str, Json]:
    if spec.time is None:
        return {"first": None, "last": None}
    first, last = frame.select(pl.col(spec.time).min().alias("first"), pl.col(spec.time).max().alias("last")).row(0)
    return {"first": first and isoformat(first), "last": last and isoformat(last)}
