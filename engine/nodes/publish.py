"""Publish: the write and the merge of write-audit-publish, around an audit that has been made already.

Called by `ingest` with the rows and the audit's report. Only objects whose bytes changed are written; rows that are
already on the source's branch make no commit; rows that failed stay on a branch of their own.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import polars as pl

from engine.contracts import Commit, ObjectStat, SnapshotStore, Work
from engine.errors import ConflictError, DataError
from engine.keys import digest, digest_file
from engine.nodes.validation import ValidationReport
from engine.spec import SourceSpec
from engine.stores.snapshots import open_snapshots

_ROW_GROUP = 131_072
_MERGE_ATTEMPTS = 8
_PARTITION_FORMATS = {"day": "%Y-%m-%d", "month": "%Y-%m", "year": "%Y"}
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Publication:
    """One source's way into the store."""

    work: Work
    spec: SourceSpec
    name: str

    @property
    def prefix(self) -> str:
        """Where the source's objects lie in the repository."""
        return f"{self.name}/"

    def metadata(self, rows: int) -> dict[str, str]:
        """What the commit says: who, what, and the digest of the declaration."""
        return {
            "plumbline.source": self.name,
            "plumbline.run": self.work.place.run_id,
            "plumbline.rows": str(rows),
            "plumbline.kind": self.spec.kind,
            "plumbline.declaration": digest(self.work.settings),
        }


def publish(target: Publication, frame: pl.DataFrame, report: ValidationReport) -> tuple[Sequence[ObjectStat], str]:
    """Bring rows to the source's branch; gives its objects and the commit that holds them. Raises `DataError` (quarantine)."""
    spec, store = target.spec, open_snapshots(target.work.place.snapshots)
    store.ensure_repository(spec.repository)
    scratch = target.work.out.with_name(f"{target.work.out.name}.parts")
    try:
        files = _write_partitions(target, frame, scratch)
        present = {item.path: item for item in store.list(spec.repository, spec.branch, target.prefix)}
        fresh = {path: file for path, file in files.items() if not _is_there(present.get(path), file)}
        gone = sorted(present.keys() - files.keys())
        branch = _write_branch(target, store, fresh, gone, frame.height) if fresh or gone else None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if report.blocking:
        raise DataError(
            _quarantine_words(target, report, branch), hint="fix the data or the expectation, then run again"
        )
    if branch is None:
        return list(present.values()), store.resolve(spec.repository, spec.branch)
    merged = _merge(target, store, branch, frame.height)
    store.delete_branch(spec.repository, branch)
    return store.list(spec.repository, merged.id, target.prefix), merged.id


def _write_branch(
    target: Publication, store: SnapshotStore, fresh: Mapping[str, Path], gone: Sequence[str], rows: int
) -> str:
    """Commit the changed objects to a branch of their own; gives its name."""
    repository = target.spec.repository
    branch = f"ingest-{target.name}-{target.work.place.run_id}-{uuid4().hex[:8]}"
    store.create_branch(repository, branch, target.spec.branch)
    for index, (path, file) in enumerate(fresh.items()):
        store.put(repository, branch, path, file)
        target.work.progress("writing", None, (index + 1) / len(fresh))
    for path in gone:
        store.remove(repository, branch, path)
    store.commit(repository, branch, f"ingest {target.name}", target.metadata(rows))
    return branch


def _merge(target: Publication, store: SnapshotStore, branch: str, rows: int) -> Commit:
    """Merge into the source's branch; other ingests move it too, and each merge is retried on its new head."""
    spec = target.spec
    for attempt in range(_MERGE_ATTEMPTS):
        try:
            return store.merge(spec.repository, branch, spec.branch, f"ingest {target.name}", target.metadata(rows))
        except ConflictError:
            if attempt == _MERGE_ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def _write_partitions(target: Publication, frame: pl.DataFrame, scratch: Path) -> dict[str, Path]:
    """Write one Parquet file a partition into scratch space; gives them by their path in the repository."""
    scratch.mkdir(exist_ok=True)
    files: dict[str, Path] = {}
    for label, part in _partitions(frame, target.spec):
        file = scratch / f"{label}.parquet"
        part.write_parquet(file, compression="zstd", compression_level=1, row_group_size=_ROW_GROUP)
        files[f"{target.prefix}{label}.parquet"] = file
    return files


def _partitions(frame: pl.DataFrame, spec: SourceSpec) -> Iterator[tuple[str, pl.DataFrame]]:
    if spec.partition == "none" or spec.time is None:
        yield "all", frame
        return
    label = pl.col(spec.time).dt.strftime(_PARTITION_FORMATS[spec.partition]).fill_null("undated").alias("__partition")
    for key, part in frame.with_columns(label).partition_by("__partition", as_dict=True, include_key=False).items():
        yield str(key[0]), part


def _is_there(present: ObjectStat | None, file: Path) -> bool:
    return present is not None and present.size == file.stat().st_size and present.digest == digest_file(file)


def _quarantine_words(target: Publication, report: ValidationReport, branch: str | None) -> str:
    spec = target.spec
    listed = "\n".join(f"    {finding}" for finding in report.blocking[:_SHOWN])
    more = f"\n    and {len(report.blocking) - _SHOWN} more" if len(report.blocking) > _SHOWN else ""
    where = (
        f"quarantined on branch {branch}"
        if branch
        else f"{spec.repository}@{spec.branch} holds the same rows since before"
    )
    return (
        f"source `{target.name}` failed {len(report.blocking)} blocking expectation(s), and this run does not use it:"
        f"\n{listed}{more}\n  {where}"
    )
