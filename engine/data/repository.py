"""Looking at a repository: sources at a ref, the log, reading a source back, writing it out as plain Parquet.

Enters: a store, a repository and refs as a person wrote them. Leaves: records, lazy frames, files. Called by `engine data`.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import groupby
from pathlib import Path

import polars as pl

from engine.contracts import ObjectStat, SnapshotStore
from engine.data_records import SnapshotCommit, SnapshotSource
from engine.errors import NotFoundError, StoreError, UsageError
from engine.nodes.audited import AuditRecord, read_audit
from engine.nodes.frames import scan_objects

_RECORDS = ".plumbline/"


@dataclass(frozen=True, slots=True)
class Repository:
    """One repository of a snapshot store."""

    store: SnapshotStore
    name: str

    def objects(self, ref: str, source: str | None = None) -> list[ObjectStat]:
        """List a ref's objects, of one source or of all, without the engine's own records."""
        found = self.store.list(self.name, ref, f"{source}/" if source else "")
        return [item for item in found if not item.path.startswith(_RECORDS)]

    def audit(self, ref: str, source: str) -> AuditRecord | None:
        """Read the audit of a source at a ref."""
        return read_audit(self.store, self.name, ref, source, self.objects(ref, source))

    def sources(self, ref: str) -> list[str]:
        """Name the sources that a ref holds."""
        return sorted({item.path.partition("/")[0] for item in self.objects(ref)})

    def require(self, ref: str, source: str) -> str:
        """Give a source that the ref holds; raises `NotFoundError` with the nearest."""
        known = self.sources(ref)
        if source not in known:
            near = get_close_matches(source, known, 1)
            meant = f" (did you mean `{near[0]}`?)" if near else ""
            raise NotFoundError(
                f"no source `{source}` at {self.name}@{ref}{meant}", hint=f"it holds: {', '.join(known) or 'nothing'}"
            )
        return source

    def scan(self, ref: str, source: str, only: Sequence[str] | None = None) -> pl.LazyFrame:
        """Scan a source's rows at a ref, or those of some of its objects; raises `NotFoundError`."""
        paths = only if only is not None else [item.path for item in self.objects(ref, self.require(ref, source))]
        return scan_objects(self.store, (self.name, self.store.resolve(self.name, ref)), paths)


def list_sources(repository: Repository, ref: str) -> list[SnapshotSource]:
    """Tell each source that a ref holds."""
    commit = repository.store.resolve(repository.name, ref)
    objects = sorted(repository.objects(commit), key=lambda item: item.path)
    return [
        _told(repository, commit, source, list(items))
        for source, items in groupby(objects, key=lambda item: item.path.partition("/")[0])
    ]


def read_log(repository: Repository, ref: str, source: str | None, limit: int) -> list[SnapshotCommit]:
    """List commits from a ref back, newest first; with a source, those of its ingestions and releases only."""
    tags: dict[str, list[str]] = {}
    for name, commit in repository.store.tags(repository.name).items():
        tags.setdefault(commit, []).append(name)
    every = repository.store.log(repository.name, ref, limit if source is None else 1_000_000)
    wanted = [item for item in every if source is None or item.metadata.get("plumbline.source") == source][:limit]
    return [
        SnapshotCommit(
            id=item.id,
            parents=item.parents,
            at=item.at,
            message=item.message,
            tags=tuple(tags.get(item.id, ())),
            metadata=dict(item.metadata),
        )
        for item in wanted
    ]


def write_out(repository: Repository, ref: str, sources: Sequence[str], folder: Path) -> list[Path]:
    """Copy sources at a ref to a folder as plain Parquet files; raises `UsageError` when it holds something already."""
    commit = repository.store.resolve(repository.name, ref)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"--to {folder}: it is not an empty folder", hint="name one that does not exist")
    written: list[Path] = []
    for source in [repository.require(commit, name) for name in sources or repository.sources(commit)]:
        for item in repository.objects(commit, source):
            target = folder / item.path
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(repository.store.fetch(repository.name, commit, item.path), target)
            except OSError as error:
                raise StoreError(
                    f"cannot write {target}: {error.strerror or error}", hint="check the folder, and free some space"
                ) from error
            written.append(target)
    return written


def _told(repository: Repository, commit: str, source: str, objects: Sequence[ObjectStat]) -> SnapshotSource:
    audit = repository.audit(commit, source)
    described = audit.described if audit is not None else {}
    failed = [item.rule for item in audit.report.findings if item.status == "fail"] if audit is not None else []
    return SnapshotSource(
        source=source,
        commit=commit,
        objects=len(objects),
        bytes=sum(item.size for item in objects),
        rows=described.get("rows"),
        first=described.get("first"),
        last=described.get("last"),
        failed=tuple(failed),
        released=audit.released if audit is not None else "",
    )
