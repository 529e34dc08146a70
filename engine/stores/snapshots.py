"""Snapshot stores by URL: a path gives the embedded store, `lakefs://`, `http://` and `https://` a lakeFS server.

The embedded store is bare git repositories, with objects where Git LFS keeps them.
Enters: a URL from the project's settings. Leaves: a `SnapshotStore`. Called by nodes and by the planner, which import
it late; a store's library is imported only when such a store is opened.
"""

from __future__ import annotations

from pathlib import Path

from engine.contracts import SnapshotStore
from engine.errors import UsageError
from engine.keys import digest
from engine.stores.lakefs_endpoint import SUPPORTED, is_server, parse_endpoint

_SUPPORTED = f"a folder (`/data/snapshots`), `file:///data/snapshots`, or {SUPPORTED}"


def open_snapshots(url: str) -> SnapshotStore:
    """Open the store behind a URL, without touching it yet; raises `UsageError` for a scheme that is not supported."""
    scheme, separator, rest = url.partition("://")
    if is_server(url):
        endpoint = parse_endpoint(url)
        from engine.stores.lakefs_snapshots import LakeFSSnapshotStore  # noqa: PLC0415 - start-up time: the SDK costs 1 s

        return LakeFSSnapshotStore(endpoint)
    if separator and scheme != "file":
        raise UsageError(f"stores.snapshots: {scheme}:// is not supported", hint=f"supported: {_SUPPORTED}")
    path = rest if separator else url
    if not path:
        raise UsageError("stores.snapshots is empty", hint=f"supported: {_SUPPORTED}")
    from engine.stores.git_snapshots import GitSnapshotStore  # noqa: PLC0415 - start-up time: the git library costs 0.09 s

    return GitSnapshotStore(Path(path))


def tree_digest(store: SnapshotStore, repository: str, ref: str, prefix: str = "") -> str:
    """Digest what lies under a prefix: paths and the digests of their bytes, so that unrelated commits agree."""
    return digest({item.path: item.digest for item in store.list(repository, ref, prefix)})
