"""The bytes of a lakeFS repository: up, down, listed, and where Polars reads them in place.

Enters: local files and commit ids. Leaves: `ObjectStat`, verified files, scans. Called by `lakefs_snapshots`. lakeFS knows an
object's MD5; its SHA-256, which is its digest here, travels as the object's user metadata `sha256`. Objects that other
programs wrote have none: they are read once by each process that asks for their digest.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from engine.contracts import ObjectStat, Scan
from engine.errors import StoreError
from engine.stores.disk import explained
from engine.stores.lakefs_calls import LakeFSCalls, LakeFSError, api_path
from engine.stores.lakefs_refs import PAGE, LakeFSRefs
from engine.stores.object_cache import ObjectCache

DIGEST = "sha256"
UPLOADS = 8
_BLOCK = 1 << 20
_HEADER = f"x-lakefs-meta-{DIGEST}"
_HEXADECIMAL = frozenset("0123456789abcdef")


class LakeFSObjects:
    """The objects of one server. Safe for several threads."""

    def __init__(self, calls: LakeFSCalls, refs: LakeFSRefs, cache: ObjectCache) -> None:
        self._calls = calls
        self._refs = refs
        self._cache = cache
        self._foreign: dict[tuple[str, int], str] = {}
        self._turn = threading.Lock()

    def put(self, repository: str, branch: str, path: str, content: Path) -> ObjectStat:
        """Upload a file; a repeated upload changes nothing. Raises `StoreError` when it cannot be read, or arrived otherwise."""
        with explained("read", content), content.open("rb") as file:
            sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
            while block := file.read(_BLOCK):
                sha256.update(block)
                md5.update(block)
                size += len(block)
            place = api_path("repositories", repository, "branches", branch, "objects", query={"path": path})
            headers = {_HEADER: sha256.hexdigest()}
            answer = self._calls.ask(lambda: self._calls.upload(place, file, headers))
        if answer.get("size_bytes") != size or answer.get("checksum") not in {md5.hexdigest(), None}:
            raise StoreError(f"{path}: the server got other bytes than {content} has", hint="put the file again")
        return ObjectStat(path, sha256.hexdigest(), size)

    def put_many(
        self, repository: str, branch: str, files: Mapping[str, Path], told: Callable[[int], None] | None
    ) -> Sequence[ObjectStat]:
        """Upload files, several at a time; after a failure no further one is begun."""
        with ThreadPoolExecutor(UPLOADS, "upload") as pool:
            under_way = [pool.submit(self.put, repository, branch, path, file) for path, file in files.items()]
            try:
                done = []
                for upload in under_way:
                    done.append(upload.result())
                    if told is not None:
                        told(len(done))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return done

    def exists(self, repository: str, branch: str, path: str) -> bool:
        """Say whether a branch has an object, committed or staged."""
        try:
            self._calls.ask(lambda: self._calls.objects.stat_object(repository, branch, path))
        except LakeFSError as error:
            if error.failure.status in {404, 410}:
                return False
            raise
        return True

    def remove(self, repository: str, branch: str, path: str) -> None:
        """Stage a removal."""
        self._calls.ask(lambda: self._calls.objects.delete_object(repository, branch, path))

    def list(self, repository: str, commit: str, prefix: str) -> Sequence[ObjectStat]:
        """List the objects under a prefix at a commit, sorted by path."""
        api = self._calls.objects
        found = self._refs.pages(
            lambda after: api.list_objects(repository, commit, prefix=prefix, after=after, amount=PAGE)
        )
        with ThreadPoolExecutor(UPLOADS, "digest") as pool:
            return list(pool.map(lambda item: self._read(repository, commit, item), found))

    def stat(self, repository: str, commit: str, path: str) -> ObjectStat:
        """Give one object at a commit."""
        found = self._calls.ask(lambda: self._calls.objects.stat_object(repository, commit, path))
        return self._read(repository, commit, found)

    def fetch(self, repository: str, commit: str, item: ObjectStat) -> Path:
        """Give a verified local copy, from the cache when it is there; raises `IntegrityError`."""

        def download() -> Path:
            with self._calls.download(_object_path(repository, commit, item.path)) as blocks:
                return self._cache.store(item.digest, blocks)

        return self._cache.find(item.digest, item.size) or self._calls.ask(download)

    def copies(self, repository: str, commit: str, items: Sequence[ObjectStat]) -> tuple[str, ...]:
        """Give verified copies on this machine, several downloads at a time."""
        with ThreadPoolExecutor(UPLOADS, "download") as pool:
            return tuple(pool.map(lambda item: str(self.fetch(repository, commit, item)), items))

    def in_place(self, repository: str, commit: str, paths: Sequence[str]) -> Scan:
        """Give the places of objects in the server's S3 gateway (path style), and what logs in there; asks nothing."""
        endpoint = self._calls.endpoint
        gateway = endpoint.gateway or endpoint.base
        pair = endpoint.key_pair()
        options = {
            "aws_access_key_id": pair.key,
            "aws_secret_access_key": pair.secret,
            "aws_endpoint_url": gateway,
            "aws_region": endpoint.region,
            "aws_virtual_hosted_style_request": "false",
            "aws_allow_http": str(gateway.startswith("http:")).lower(),
        }
        return Scan((), tuple(f"s3://{repository}/{commit}/{path}" for path in paths), options)

    def _read(self, repository: str, commit: str, found: Any) -> ObjectStat:
        digest = (found.metadata or {}).get(DIGEST, "")
        if len(digest) != 64 or not _HEXADECIMAL.issuperset(digest):
            digest = self._foreign_digest(repository, commit, found)
        return ObjectStat(found.path, digest, found.size_bytes or 0)

    def _foreign_digest(self, repository: str, commit: str, found: Any) -> str:
        """Read an object that another program wrote, to know its digest."""
        known = (str(found.checksum), int(found.size_bytes or 0))
        if known not in self._foreign:

            def read() -> str:
                state = hashlib.sha256()
                with self._calls.download(_object_path(repository, commit, found.path)) as blocks:
                    for block in blocks:
                        state.update(block)
                return state.hexdigest()

            digest = self._calls.ask(read)
            with self._turn:
                self._foreign[known] = digest
        return self._foreign[known]


def _object_path(repository: str, commit: str, path: str) -> str:
    return api_path("repositories", repository, "refs", commit, "objects", query={"path": path})
