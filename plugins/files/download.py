"""Bringing objects here: into `.plumbline/downloads/`, whole or not at all, taken up again where it broke off.

A folder for each version of each object; beside the bytes lies their SHA-256, which is verified before they are used.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.contracts import Progress
from engine.errors import DataError, IntegrityError
from engine.keys import digest, digest_file

from .items import LocalFile
from .locate import pin_files
from .remote import DroppedError, RemoteObject, transport

_TRIES = 4
_BACKOFF_SECONDS = 0.5
_SEAL, _PART = "sha256", "part"


def pin_objects(root: Path, url: str, params: Any) -> list[dict[str, Any]]:
    """Identify what is at a URL: by its server's marks, or by its content when there are none, which fetches it."""
    found = transport(url, params).find(url)
    return [
        {"name": item.url, "size": item.size, **item.marks} if item.marks else _pin_content(root, item, params)
        for item in found
    ]


def fetch(root: Path, pinned: Mapping[str, Any], params: Any, progress: Progress) -> LocalFile:
    """Give a local file with a pinned object's bytes; raises `DataError` when they are not to be had any more."""
    url = str(pinned["name"])
    marks = {name: pinned[name] for name in ("etag", "version") if name in pinned}
    wanted = RemoteObject(url, pinned["size"], marks)
    folder = _folder(root, pinned)
    path = _whole(root, folder, wanted)
    if path is None:
        path = _download(root, folder, wanted, params, progress)
        if "sha256" in pinned and digest_file(path) != pinned["sha256"]:
            shutil.rmtree(folder)
            raise DataError(f"{url} changed between planning and reading", hint="run again: it is pinned anew")
    return LocalFile(path, url)


def _pin_content(root: Path, item: RemoteObject, params: Any) -> dict[str, Any]:
    """Fetch an object to know it; one that its server says has not changed since is not fetched again."""
    seen = {"url": item.url, "size": item.size, "modified": item.modified}
    folder = _downloads(root) / digest(seen)[:32]
    path = _whole(root, folder, item) if item.modified else None
    if path is None:
        shutil.rmtree(folder, ignore_errors=True)
        path = _download(root, folder, item, params, _unheard)
    pinned = {"name": item.url, "size": path.stat().st_size, "sha256": (folder / _SEAL).read_text("ascii")}
    kept = _folder(root, pinned)
    if _whole(root, kept, item) is None:
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        os.link(path, kept / path.name)
        shutil.copyfile(folder / _SEAL, kept / _SEAL)
    return pinned


def _downloads(root: Path) -> Path:
    return root / ".plumbline" / "downloads"


def _folder(root: Path, pinned: Mapping[str, Any]) -> Path:
    return _downloads(root) / digest(dict(pinned))[:32]


def _whole(root: Path, folder: Path, wanted: RemoteObject) -> Path | None:
    """Give what was fetched before, verified; damaged bytes are thrown away."""
    path, seal = folder / wanted.file_name, folder / _SEAL
    if not (path.is_file() and seal.is_file()):
        return None
    if pin_files(root, folder, [path])[0]["sha256"] != seal.read_text("ascii"):
        shutil.rmtree(folder)
        return None
    return path


def _download(root: Path, folder: Path, wanted: RemoteObject, params: Any, progress: Progress) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / _PART
    with part.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # another run may be fetching the same
        whole = _whole(root, folder, wanted)
        if whole is not None:
            return whole
        for attempt in range(1, _TRIES + 1):
            try:
                _receive(file, wanted, params, progress)
                break
            except DroppedError:
                if attempt == _TRIES:
                    raise
                time.sleep(_BACKOFF_SECONDS * 2 ** (attempt - 1))
        file.flush()
        os.fsync(file.fileno())
    size = part.stat().st_size
    if wanted.size is not None and size != wanted.size:
        part.unlink()
        raise IntegrityError(f"{wanted.url}: {size:,} bytes came, and {wanted.size:,} were announced", hint="run again")
    (folder / _SEAL).write_text(digest_file(part), "ascii")
    return part.replace(folder / wanted.file_name)


def _receive(file: Any, wanted: RemoteObject, params: Any, progress: Progress) -> None:
    """Append what is missing; a server that cannot start in the middle starts again."""
    here = file.seek(0, os.SEEK_END)
    if wanted.size is not None and here == wanted.size and here:
        return
    if not wanted.marks:
        here = 0  # without a mark nobody knows whether the rest is of the same object
    start, chunks = transport(wanted.url, params).open(wanted, here)
    file.truncate(start)
    file.seek(start)
    for chunk in chunks:
        file.write(chunk)
        start += len(chunk)
        share = start / wanted.size if wanted.size else None
        progress(f"fetching {wanted.file_name}, {start / 1e6:,.1f} MB", None, share)


def _unheard(message: str, rows: int | None, done: float | None) -> None:
    """Planning has no progress to show."""
