"""Publish: the write and the merge of write-audit-publish, and what becomes of data that did not pass.

Called by `ingest` with files and an audit. Everything goes to a branch of this ingestion's own first; `main` moves by one
merge, so it is a whole commit at any moment, whoever is killed. Only objects whose bytes changed are written.
"""

from __future__ import annotations

import getpass
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from engine.clock import isoformat
from engine.contracts import Commit, ObjectStat, SnapshotStore, Work
from engine.errors import ConflictError
from engine.keys import digest, digest_file
from engine.nodes.audited import (
    AuditRecord,
    PartitionRecord,
    PartRecord,
    QuarantineRecord,
    audit_path,
    describe_source,
    quarantine_path,
    write_record,
)
from engine.nodes.branches import ingest_branch, quarantine_branch
from engine.nodes.partitions import cut_partitions
from engine.nodes.validation import ValidationReport
from engine.spec import SourceSpec

ROW_GROUP = 262_144  # as Polars itself; over a network each half as long costs another request a column, some 1 ms
_MERGE_ATTEMPTS = 8
_WRITERS = 2  # while one waits for a disk or for its last column, the other encodes

Records = Mapping[str, AuditRecord | QuarantineRecord]


@dataclass(frozen=True, slots=True)
class Publication:
    """One source's way into the store, from a commit that its branch was at and what that holds of it."""

    work: Work
    spec: SourceSpec
    name: str
    store: SnapshotStore
    head: str
    present: Mapping[str, ObjectStat]

    @property
    def prefix(self) -> str:
        """Where the source's objects lie in the repository."""
        return f"{self.name}/"

    def path_of(self, label: str) -> str:
        """Where a partition lies in the repository."""
        return f"{self.prefix}{label}.parquet"

    def metadata(self, rows: int, status: str) -> dict[str, str]:
        """What the commit says: who, what, the digests of declaration and pin, and the run."""
        return {
            "plumbline.source": self.name,
            "plumbline.status": status,
            "plumbline.run": self.work.place.run_id,
            "plumbline.actor": getpass.getuser(),
            "plumbline.rows": str(rows),
            "plumbline.kind": self.spec.kind,
            "plumbline.config": digest(self.work.settings["spec"]),
            "plumbline.pin": digest(self.work.settings["pin"]),
        }


@dataclass(frozen=True, slots=True)
class Draft:
    """An audit before it is known which objects it is about: `record` completes it."""

    name: str
    identity: str
    declaration: str
    schema: Mapping[str, str]
    partitions: Mapping[str, PartitionRecord]
    parts: Mapping[str, PartRecord]
    report: ValidationReport
    key: tuple[str, ...]
    released: str = ""

    @property
    def rows(self) -> int:
        """How many rows the source has."""
        return sum(item.rows for item in self.partitions.values())

    def record(self, objects: Sequence[ObjectStat]) -> AuditRecord:
        """Give the audit of these objects."""
        return AuditRecord(
            identity=self.identity,
            declaration=self.declaration,
            described=describe_source(self.name, objects, self.partitions, self.schema),
            partitions=dict(self.partitions),
            parts=dict(self.parts),
            report=self.report,
            key=self.key,
            released=self.released,
        )


@dataclass(frozen=True, slots=True)
class Written:
    """Partitions as files of scratch space, by their paths in the repository, and what each holds."""

    files: Mapping[str, Path]
    partitions: Mapping[str, PartitionRecord]


@dataclass(frozen=True, slots=True)
class Change:
    """What differs from the branch: files to put, objects to remove, and objects that stay."""

    fresh: Mapping[str, Path]
    gone: Sequence[str]
    same: Sequence[ObjectStat]

    def __bool__(self) -> bool:
        """Say whether there is anything to write."""
        return bool(self.fresh or self.gone)


def write_partitions(target: Publication, frame: pl.DataFrame, scratch: Path) -> Written:
    """Write rows in order, one Parquet file a partition, read-only, so that the store may take it as it is."""
    scratch.mkdir()
    parts, done = dict(cut_partitions(frame, target.spec)), 0
    files = {label: scratch / f"{label}.parquet" for label in parts}
    with ThreadPoolExecutor(min(_WRITERS, target.work.place.threads)) as pool:
        for height in pool.map(_write, parts.values(), files.values()):
            done += height
            target.work.progress("writing", None, done / frame.height)
    found = {label: _described(part, target.spec) for label, part in parts.items()}
    return Written({target.path_of(label): file for label, file in files.items()}, found)


def _write(part: pl.DataFrame, file: Path) -> int:
    part.write_parquet(file, compression="zstd", compression_level=1, row_group_size=ROW_GROUP)
    file.chmod(0o444)
    return part.height


def describe_partitions(frame: pl.DataFrame, spec: SourceSpec) -> dict[str, PartitionRecord]:
    """Say of each partition of rows in order how many they are, and from when to when."""
    return {label: _described(part, spec) for label, part in cut_partitions(frame, spec)}


def _described(part: pl.DataFrame, spec: SourceSpec) -> PartitionRecord:
    bounds = (part[spec.time].min(), part[spec.time].max()) if spec.time else (None, None)
    return PartitionRecord(part.height, *(isoformat(item) if isinstance(item, datetime) else None for item in bounds))


def changes_of(target: Publication, written: Written, kept: Sequence[str]) -> Change:
    """Compare what was written, and what is kept, with what the branch holds."""
    fresh = {path: file for path, file in written.files.items() if not _is_there(target.present.get(path), file)}
    wanted = {*written.files, *map(target.path_of, kept)}
    same = [item for path, item in target.present.items() if path in wanted and path not in fresh]
    return Change(fresh, sorted(target.present.keys() - wanted), same)


def publish(target: Publication, change: Change, draft: Draft) -> tuple[AuditRecord, Commit]:
    """Bring a change to the source's branch by a merge; raises `ConflictError` when another one changed the same paths."""
    made: list[AuditRecord] = []

    def records(objects: Sequence[ObjectStat]) -> Records:
        made.append(draft.record(objects))
        return {audit_path(target.name): made[-1]}

    branch = _write_branch(target, change, target.metadata(draft.rows, "published"), records)
    merged = _merge(target, branch, draft)
    target.store.delete_branch(target.spec.repository, branch)
    return made[-1], merged


def quarantine(target: Publication, change: Change, draft: Draft, severity: str) -> str:
    """Keep data that failed on a branch named by its content, which may be there since before; gives its name."""
    repository, found = target.spec.repository, dict[str, str]()

    def records(objects: Sequence[ObjectStat]) -> Records:
        found.update({item.path: item.digest for item in objects})
        audit = draft.record(objects)
        record = QuarantineRecord(source=target.name, severity=severity, report=draft.report, audit=audit)
        return {audit_path(target.name): audit, quarantine_path(target.name): record}

    branch = _write_branch(target, change, target.metadata(draft.rows, "quarantined"), records)
    name = quarantine_branch(target.name, found)
    with suppress(ConflictError):  # the same data failed before
        target.store.create_branch(repository, name, branch)
    target.store.delete_branch(repository, branch)
    return name


def _write_branch(
    target: Publication,
    change: Change,
    metadata: Mapping[str, str],
    records: Callable[[Sequence[ObjectStat]], Records],
) -> str:
    """Commit a change, and the records that go with it, to a fresh branch; gives its name."""
    repository, store = target.spec.repository, target.store
    branch = ingest_branch(target.name, target.work.place.run_id)
    store.create_branch(repository, branch, target.head)
    stored = store.put_many(
        repository, branch, change.fresh, lambda done: target.work.progress("storing", None, done / len(change.fresh))
    )
    objects = [*change.same, *stored]
    for path in change.gone:
        store.remove(repository, branch, path)
    for path, record in records(sorted(objects, key=lambda item: item.path)).items():
        scratch = target.work.out.with_name(f"{target.work.out.name}.record")
        store.put(repository, branch, path, write_record(scratch, record))
        scratch.unlink()
    store.commit(repository, branch, f"ingest {target.name}", metadata)
    return branch


def _merge(target: Publication, branch: str, draft: Draft) -> Commit:
    """Merge into the source's branch; other ingests move it too, and each merge is retried on its new head."""
    spec, metadata = target.spec, target.metadata(draft.rows, "published")
    for attempt in range(_MERGE_ATTEMPTS):
        try:
            return target.store.merge(spec.repository, branch, spec.branch, f"ingest {target.name}", metadata)
        except ConflictError:
            if attempt == _MERGE_ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def _is_there(present: ObjectStat | None, file: Path) -> bool:
    return present is not None and present.size == file.stat().st_size and present.digest == digest_file(file)
