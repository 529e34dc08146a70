"""Branches of write-audit-publish: `ingest-…` while one is under way, `quarantine-…` for what must not reach `main`.

    ingest-<source>-<run>-<second>-<owner>     one ingestion's own; whoever dies leaves it, and the next one deletes it
    quarantine-<source>-<digest>               named by content, so that the same bad data makes one branch

Called by `publish` and `engine data quarantine`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from engine.contracts import SnapshotStore
from engine.errors import NotFoundError
from engine.keys import digest
from engine.stores.disk import is_abandoned, owned_name

INGEST, QUARANTINE = "ingest-", "quarantine-"
_OWN = re.compile(r"ingest-.+-(?P<second>\d+)-(?P<owner>\d+-\d+-[0-9a-f]{8}-[0-9a-f]{12})")
_FOREIGN_SECONDS = 86_400  # a process of another machine cannot be asked whether it lives


def ingest_branch(source: str, run_id: str) -> str:
    """Name a branch that tells which process made it, and when."""
    return f"{INGEST}{source}-{run_id}-{int(time.time())}-{owned_name()}"


def quarantine_branch(source: str, objects: Mapping[str, str]) -> str:
    """Name the branch of these objects: digests by path.

    >>> quarantine_branch("flights", {"flights/all.parquet": "00"})
    'quarantine-flights-6f86289b2fac'
    """
    return f"{QUARANTINE}{source}-{digest(dict(objects))[:12]}"


def sweep_abandoned(store: SnapshotStore, repository: str) -> list[str]:
    """Delete the branches of ingestions that died; gives their names. Never touches one that is quarantined."""
    gone = [branch for branch in store.branches(repository) if _is_abandoned(branch)]
    for branch in gone:
        with suppress(NotFoundError):  # somebody else swept it
            store.delete_branch(repository, branch)
    return gone


def _is_abandoned(branch: str) -> bool:
    match = _OWN.fullmatch(branch)
    if match is None:
        return False
    old = time.time() - int(match["second"]) > _FOREIGN_SECONDS
    return old or is_abandoned(Path(match["owner"]))
