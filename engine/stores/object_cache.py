"""Objects of a remote store on this machine, by digest, so that a second reader needs no network.

    <folder>/aa/<digest>      an object, read-only, named by the SHA-256 of its bytes
    <folder>/tmp/             downloads in progress

Enters: a stream of blocks and the digest it should have. Leaves: verified files. Called by stores behind a network. The
folder is `$PLUMBLINE_CACHE`, else `~/.cache/plumbline`; it may be deleted whenever nothing runs.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from engine.errors import IntegrityError
from engine.stores.disk import explained, has_digest, is_abandoned, owned_name, remove_tree

_LIMIT_BYTES = 20_000_000_000
_IN_USE_SECONDS = 86_400.0  # a file that was asked for within a day may be open somewhere
_SWEEP_SECONDS = 600.0


def cache_folder() -> Path:
    """Say where the cache of this user lies."""
    given = os.environ.get("PLUMBLINE_CACHE")
    if given:
        return Path(given) / "objects"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "plumbline" / "objects"


@dataclass(frozen=True, slots=True)
class ObjectCache:
    """Verified copies. Safe for several processes at once."""

    folder: Path
    limit: int = _LIMIT_BYTES

    def find(self, digest: str, size: int) -> Path | None:
        """Give the verified copy; a damaged one is deleted and `None` given, as when there is none."""
        path = self._path(digest)
        with explained("read the cached object", path):
            try:
                if has_digest(path, digest, size):
                    os.utime(path)
                    return path
            except FileNotFoundError:
                return None
            path.unlink(missing_ok=True)
        return None

    def store(self, digest: str, blocks: Iterable[bytes]) -> Path:
        """Keep a stream whose bytes have this digest; raises `IntegrityError` when they have another."""
        path, temporary = self._path(digest), self.folder / "tmp" / owned_name()
        state = hashlib.sha256()
        try:
            with explained("cache an object in", self.folder):
                temporary.parent.mkdir(parents=True, exist_ok=True)
                self._sweep()
                with temporary.open("xb") as file:
                    for block in blocks:
                        state.update(block)
                        file.write(block)
                if state.hexdigest() != digest:
                    raise IntegrityError(
                        f"object {digest[:12]}: the bytes that came have the digest {state.hexdigest()[:12]}",
                        hint="run again; if it stays, the block store is damaged: ingest the source again",
                    )
                temporary.chmod(0o444)
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary.replace(path)
        finally:
            remove_tree(temporary)
        return path

    def _sweep(self) -> None:
        """Every ten minutes delete what dead processes left, and the objects longest unused above the limit."""
        mark, now = self.folder / "swept", time.time()
        with suppress(FileNotFoundError):
            if now - mark.stat().st_mtime < _SWEEP_SECONDS:
                return
        mark.touch()
        for path in (self.folder / "tmp").iterdir():
            if is_abandoned(path):
                remove_tree(path)
        kept = sorted(
            ((found.st_mtime, found.st_size, path) for path, found in self._files()), key=lambda entry: entry[0]
        )
        excess = sum(size for _, size, _ in kept) - self.limit
        for used, size, path in kept:
            if excess <= 0 or now - used < _IN_USE_SECONDS:
                return
            path.unlink(missing_ok=True)
            excess -= size

    def _files(self) -> Iterable[tuple[Path, os.stat_result]]:
        for path in self.folder.glob("??/*"):
            with suppress(FileNotFoundError):
                yield path, path.stat()

    def _path(self, digest: str) -> Path:
        return self.folder / digest[:2] / digest
