"""What an ingestion leaves beside the data: what was read, what was found, and what the snapshot holds since.

    .plumbline/audits/<source>.json        on `main`: the audit of what `main` holds
    .plumbline/quarantine/<source>.json    on a quarantined branch: why it is there

Enters: the store. Leaves: an `AuditRecord` that holds for the objects as they are, or nothing. An ingestion of the same
bytes under the same declaration need not read them again, and an incremental one knows which partitions a part fed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from engine.contracts import ObjectStat, SnapshotStore
from engine.errors import NotFoundError
from engine.keys import canonical_json
from engine.nodes.validation import ValidationReport


class PartRecord(msgspec.Struct, frozen=True):
    """A part of the source: what it was, and which partitions its rows are in."""

    identity: Any
    partitions: tuple[str, ...]


class PartitionRecord(msgspec.Struct, frozen=True):
    """One partition as published; `first` and `last` are RFC 3339 event times."""

    rows: int
    first: str | None = None
    last: str | None = None


class AuditRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One audit. `identity` covers declaration, pin and references; empty when the source cannot say what it will read.

    `described` is what `source.json` says; `key` are the columns that name one row, if any do. `released` says who let data
    pass that had failed.
    """

    identity: str
    declaration: str
    described: dict[str, Any]
    partitions: dict[str, PartitionRecord]
    parts: dict[str, PartRecord] = {}
    report: ValidationReport
    key: tuple[str, ...] = ()
    released: str = ""

    def holds_for(self, objects: Sequence[ObjectStat]) -> bool:
        """Say whether these are the objects that were audited."""
        audited = {item["path"]: item["digest"] for item in self.described["objects"]}
        return audited == {item.path: item.digest for item in objects}


class QuarantineRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Why a branch is quarantined, with the audit that `main` gets when a person releases it.

    `severity` is `block` (nothing was published) or `quarantine` (the rows that passed were).
    """

    source: str
    severity: str
    report: ValidationReport
    audit: AuditRecord


def audit_path(source: str) -> str:
    """Where the audit of a source lies in its repository."""
    return f".plumbline/audits/{source}.json"


def quarantine_path(source: str) -> str:
    """Where a quarantined branch says why it is one."""
    return f".plumbline/quarantine/{source}.json"


def write_record(path: Path, record: AuditRecord | QuarantineRecord) -> Path:
    """Write a record to a local file, to be put; gives the file."""
    path.write_bytes(canonical_json(msgspec.to_builtins(record)))
    return path


def read_audit(
    store: SnapshotStore, repository: str, ref: str, source: str, objects: Sequence[ObjectStat]
) -> AuditRecord | None:
    """Read the audit of what a ref holds of a source; `None` when there is none that holds for these objects."""
    try:
        content = store.fetch(repository, ref, audit_path(source)).read_bytes()
        found = msgspec.json.decode(content, type=AuditRecord)
    except (NotFoundError, msgspec.DecodeError):
        return None
    return found if found.holds_for(objects) else None


def read_quarantine(store: SnapshotStore, repository: str, branch: str, source: str) -> QuarantineRecord:
    """Read why a branch is quarantined; raises `NotFoundError`."""
    content = store.fetch(repository, branch, quarantine_path(source)).read_bytes()
    return msgspec.json.decode(content, type=QuarantineRecord)


def describe_source(
    name: str, objects: Sequence[ObjectStat], partitions: Mapping[str, PartitionRecord], schema: Mapping[str, str]
) -> dict[str, Any]:
    """Say what the snapshot holds, by content: the commit is a note, so an unrelated commit changes nothing."""
    firsts = [item.first for item in partitions.values() if item.first is not None]
    lasts = [item.last for item in partitions.values() if item.last is not None]
    return {
        "source": name,
        "objects": [{"path": item.path, "digest": item.digest, "size": item.size} for item in objects],
        "rows": sum(item.rows for item in partitions.values()),
        "schema": dict(schema),
        "first": min(firsts, default=None),
        "last": max(lasts, default=None),
    }
