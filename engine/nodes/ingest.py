"""Ingest: write, audit, publish. Rows go to a fresh branch, are validated there, and reach `main` by a merge, or never.

Enters: a source's declaration and pin. Leaves: `source.json` (what the snapshot holds, by content) and `validation.json`;
the notes carry the commit. Rows that break a blocking expectation stay on their branch, which the error names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import polars as pl

from engine.clock import isoformat
from engine.components import load_catalogue
from engine.contracts import Commit, ObjectStat, Pin, SnapshotStore, Source, Work
from engine.errors import ConflictError, DataError
from engine.features.program import SourceProgram
from engine.features.sources import apply_source
from engine.keys import Json, digest, digest_file
from engine.nodes.frames import read_source, write_document
from engine.nodes.validation import ValidationReport, validate
from engine.spec import SourceSpec, rebuild
from engine.stores.snapshots import open_snapshots

_ROW_GROUP = 131_072
_MERGE_ATTEMPTS = 8
_PARTITION_FORMATS = {"day": "%Y-%m-%d", "month": "%Y-%m", "year": "%Y"}


def ingest(work: Work) -> Mapping[str, Json]:
    """Bring one source into the snapshot store; raises `DataError` naming the quarantined branch when the audit fails."""
    settings: Any = work.settings
    catalogue = load_catalogue(work.place.root, work.place.plugins)
    component = catalogue.get("source", settings["spec"]["kind"])
    spec = rebuild(SourceSpec, settings["spec"], msgspec.convert(settings["spec"]["params"], component.params))
    raw = _read(work, component.build(spec.params), spec)
    frame = _in_order(apply_source(SourceProgram.from_json(settings["program"]), raw), spec)
    work.progress("validating", frame.height, None)
    report = validate(frame, spec, settings["source"], _references(work))
    objects, commit = _publish(work, spec, frame, report)
    return _finish(work, spec, frame, report, objects, commit)


def checkout(work: Work) -> Mapping[str, Json]:
    """Use a source as it was at a pinned commit; raises `DataError` when that commit does not hold it."""
    settings: Any = work.settings
    name, commit = settings["source"], settings["pin"]["commit"]
    component = load_catalogue(work.place.root, work.place.plugins).get("source", settings["spec"]["kind"])
    spec = rebuild(SourceSpec, settings["spec"], msgspec.convert(settings["spec"]["params"], component.params))
    store = open_snapshots(work.place.snapshots)
    objects = store.list(spec.repository, commit, f"{name}/")
    if not objects:
        raise DataError(f"source `{name}`: commit {commit[:12]} of {spec.repository} does not hold it")
    frame = pl.read_parquet([store.fetch(spec.repository, commit, item.path) for item in objects], glob=False)
    return _finish(work, spec, frame, validate(frame, spec, name, _references(work)), objects, commit)


def _read(work: Work, source: Source, spec: SourceSpec) -> pl.DataFrame:
    settings: Any = work.settings
    frames: list[pl.DataFrame] = []
    rows = 0
    for frame in source.read(work.place.root, Pin(settings["pin"], ""), spec.columns):
        frames.append(frame)
        rows += frame.height
        work.progress("reading", rows, None)
    if rows == 0:
        raise DataError(f"source `{settings['source']}`: no rows", hint="check its path; an empty source is never published")
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


def _publish(
    work: Work, spec: SourceSpec, frame: pl.DataFrame, report: ValidationReport
) -> tuple[Sequence[ObjectStat], str]:
    """Write to a branch, audit, merge; give the objects and the commit that holds them."""
    store = open_snapshots(work.place.snapshots)
    store.ensure_repository(spec.repository)
    files = _write_partitions(work, spec, frame)
    present = {item.path: item for item in store.list(spec.repository, spec.branch, f"{_name(work)}/")}
    same = set(files) == set(present) and all(present[path].digest == digest_file(file) for path, file in files.items())
    if same and not report.blocking:
        return list(present.values()), store.resolve(spec.repository, spec.branch)
    branch = f"ingest-{_name(work)}-{work.place.run_id}-{uuid4().hex[:8]}"
    store.create_branch(spec.repository, branch, spec.branch)
    metadata = _metadata(work, spec, frame)
    _stage(work, store, spec, branch, files, present)
    commit = store.commit(spec.repository, branch, f"ingest {_name(work)}", metadata)
    objects = store.list(spec.repository, commit.id, f"{_name(work)}/")
    if report.blocking:
        raise DataError(_quarantine_words(work, spec, report, branch), hint="fix the data or the expectation, then run again")
    merged = _merge(store, spec, branch, f"ingest {_name(work)}", metadata)
    store.delete_branch(spec.repository, branch)
    return objects, merged.id


def _write_partitions(work: Work, spec: SourceSpec, frame: pl.DataFrame) -> dict[str, Path]:
    """Write one Parquet file a partition into the node's scratch space; paths are relative to the repository."""
    scratch = work.out.parent / f"{work.out.name}.parts"
    scratch.mkdir(exist_ok=True)
    files: dict[str, Path] = {}
    for label, part in _partitions(frame, spec):
        file = scratch / f"{label}.parquet"
        part.write_parquet(file, compression="zstd", compression_level=1, row_group_size=_ROW_GROUP)
        files[f"{_name(work)}/{label}.parquet"] = file
    return files


def _partitions(frame: pl.DataFrame, spec: SourceSpec) -> Iterator[tuple[str, pl.DataFrame]]:
    if spec.partition == "none" or spec.time is None:
        yield "all", frame
        return
    label = pl.col(spec.time).dt.strftime(_PARTITION_FORMATS[spec.partition]).fill_null("undated").alias("__partition")
    for key, part in frame.with_columns(label).partition_by("__partition", as_dict=True, include_key=False).items():
        yield str(key[0]), part


def _stage(
    work: Work, store: SnapshotStore, spec: SourceSpec, branch: str, files: Mapping[str, Path], present: Mapping[str, ObjectStat]
) -> None:
    for index, (path, file) in enumerate(files.items()):
        store.put(spec.repository, branch, path, file)
        work.progress("writing", None, (index + 1) / len(files))
    for path in present.keys() - files.keys():
        store.remove(spec.repository, branch, path)


def _merge(store: SnapshotStore, spec: SourceSpec, branch: str, message: str, metadata: Mapping[str, str]) -> Commit:
    """Merge into the source's branch; other ingests move it too, and each merge is retried on its new head."""
    for attempt in range(_MERGE_ATTEMPTS):
        try:
            return store.merge(spec.repository, branch, spec.branch, message, metadata)
        except ConflictError:
            if attempt == _MERGE_ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def _metadata(work: Work, spec: SourceSpec, frame: pl.DataFrame) -> dict[str, str]:
    return {
        "plumbline.source": _name(work),
        "plumbline.run": work.place.run_id,
        "plumbline.rows": str(frame.height),
        "plumbline.kind": spec.kind,
        "plumbline.declaration": digest(work.settings),
    }


def _finish(
    work: Work, spec: SourceSpec, frame: pl.DataFrame, report: ValidationReport, objects: Sequence[ObjectStat], commit: str
) -> Mapping[str, Json]:
    """Write down what the snapshot holds, by content: the commit is a note, so an unrelated commit changes nothing."""
    bounds = _time_bounds(frame, spec)
    described: dict[str, Json] = {
        "source": _name(work),
        "objects": [{"path": item.path, "digest": item.digest, "size": item.size} for item in objects],
        "rows": frame.height,
        "schema": {column: str(dtype) for column, dtype in frame.schema.items()},
        **bounds,
    }
    write_document(work.out / "source.json", described)
    write_document(work.out / "validation.json", msgspec.to_builtins(report))
    return {"commit": commit, "repository": spec.repository, "rows": frame.height, "source": _name(work)}


def _time_bounds(frame: pl.DataFrame, spec: SourceSpec) -> dict[str, Json]:
    if spec.time is None:
        return {"first": None, "last": None}
    first, last = frame.select(pl.col(spec.time).min().alias("first"), pl.col(spec.time).max().alias("last")).row(0)
    return {"first": first and isoformat(first), "last": last and isoformat(last)}


def _quarantine_words(work: Work, spec: SourceSpec, report: ValidationReport, branch: str) -> str:
    listed = "\n".join(f"    {finding}" for finding in report.blocking[:8])
    more = f"\n    and {len(report.blocking) - 8} more" if len(report.blocking) > 8 else ""
    return (
        f"source `{_name(work)}` failed {len(report.blocking)} blocking expectation(s) and did not reach "
        f"{spec.repository}@{spec.branch}:\n{listed}{more}\n  quarantined on branch {branch}"
    )


def _name(work: Work) -> str:
    return str(work.settings["source"])
