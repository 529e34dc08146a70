"""Quarantined branches: which there are, why, and what a person does about them: release (merge) or drop.

A release rewrites the audit on the branch, with who takes the responsibility and why, removes the note that it is
quarantined, and merges. A kill in between leaves a branch that can be released again. From then on the very same data is
known as released; other data is judged as ever.
"""

from __future__ import annotations

import getpass
import tempfile
from difflib import get_close_matches
from pathlib import Path

import msgspec

from engine.contracts import Commit
from engine.data.repository import Repository
from engine.data_records import Quarantined
from engine.errors import ConflictError, NotFoundError
from engine.nodes.audited import QuarantineRecord, audit_path, quarantine_path, read_quarantine, write_record
from engine.nodes.branches import QUARANTINE

_MAIN = "main"


def list_quarantined(repository: Repository) -> list[Quarantined]:
    """List the quarantined branches, the newest first."""
    branches = [name for name in repository.store.branches(repository.name) if name.startswith(QUARANTINE)]
    found = [_told(repository, branch, findings=False) for branch in branches]
    return sorted(found, key=lambda item: item.at, reverse=True)


def show_quarantined(repository: Repository, branch: str) -> Quarantined:
    """Tell one branch, with all that failed; raises `NotFoundError` with the nearest."""
    return _told(repository, require_branch(repository, branch), findings=True)


def release(repository: Repository, branch: str, reason: str, into: str = _MAIN) -> Commit:
    """Merge a quarantined branch on somebody's word; raises `ConflictError` when its partitions changed meanwhile."""
    store, name = repository.store, repository.name
    record = _record(repository, require_branch(repository, branch))
    actor = getpass.getuser()
    metadata = _metadata(repository, branch) | {
        "plumbline.status": "released",
        "plumbline.actor": actor,
        "plumbline.reason": reason,
        "plumbline.released": branch,
    }
    if _is_noted(repository, branch, record.source):
        audit = msgspec.structs.replace(record.audit, released=f"{actor}: {reason}")
        with tempfile.TemporaryDirectory() as folder:
            file = write_record(Path(folder) / "audit.json", audit)
            store.put(name, branch, audit_path(record.source), file)
        store.remove(name, branch, quarantine_path(record.source))
        store.commit(name, branch, f"release {record.source}: {reason}", metadata)
    try:
        merged = store.merge(name, branch, into, f"release {record.source}: {reason}", metadata)
    except ConflictError as error:
        raise ConflictError(
            f"{branch} cannot be released into {name}@{into}: {error.message}",
            hint=f"{record.source} was published anew since: run again, and release what is quarantined then",
        ) from error
    store.delete_branch(name, branch)
    return merged


def drop(repository: Repository, branch: str) -> None:
    """Delete a quarantined branch; `engine data gc` frees what it alone held."""
    repository.store.delete_branch(repository.name, require_branch(repository, branch))


def require_branch(repository: Repository, branch: str) -> str:
    """Give a quarantined branch by its name, or by the end of it; raises `NotFoundError` with the nearest."""
    known = [name for name in repository.store.branches(repository.name) if name.startswith(QUARANTINE)]
    ending = [name for name in known if name == branch or name.endswith(f"-{branch}")]
    if len(ending) == 1:
        return ending[0]
    near = get_close_matches(branch, known, 1, cutoff=0.4)
    meant = f" (did you mean `{near[0]}`?)" if near else ""
    raise NotFoundError(
        f"no quarantined branch `{branch}` in {repository.name}{meant}",
        hint=f"there is {', '.join(known)}" if known else "nothing is quarantined",
    )


def _told(repository: Repository, branch: str, *, findings: bool) -> Quarantined:
    record, metadata = _record(repository, branch), _metadata(repository, branch)
    failed = [item for item in record.report.findings if item.status == "fail" and item.severity == record.severity]
    every = [item for item in record.report.findings if item.status == "fail"]
    return Quarantined(
        branch=branch,
        source=record.source,
        severity=record.severity,
        at=repository.store.log(repository.name, branch, 1)[0].at,
        run_id=metadata.get("plumbline.run", ""),
        actor=metadata.get("plumbline.actor", ""),
        rows=record.audit.described["rows"],
        set_aside=record.report.set_aside,
        failed=tuple(item.rule for item in failed),
        findings=tuple(msgspec.to_builtins(item) for item in every) if findings else (),
    )


def _metadata(repository: Repository, branch: str) -> dict[str, str]:
    return dict(repository.store.log(repository.name, branch, 1)[0].metadata)


def _record(repository: Repository, branch: str) -> QuarantineRecord:
    """Read why a branch is quarantined; one whose release was interrupted says so in its history."""
    source = _metadata(repository, branch).get("plumbline.source", "")
    for ref in (branch, f"{branch}~1"):
        if _is_noted(repository, ref, source):
            return read_quarantine(repository.store, repository.name, ref, source)
    raise NotFoundError(f"{branch} does not say why it is quarantined", hint="look at it with `engine data log`")


def _is_noted(repository: Repository, ref: str, source: str) -> bool:
    return bool(repository.store.list(repository.name, ref, quarantine_path(source)))
