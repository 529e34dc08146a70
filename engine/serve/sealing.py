"""Sealing: a closed write-ahead file becomes Parquet, in a process of its own, so that no answer waits for it.

Called with the path of a closed file, and at start for those that killed servers left. A file is sealed under another
name, synced and renamed, and only then removed: whoever is killed, each row is there once for a reader.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path

import polars as pl

from engine.serve.children import start_child
from engine.serve.segments import is_abandoned, read_frames, segment_files

Decode = Callable[[Iterator[bytes]], pl.DataFrame]
"""Makes rows of a file's payloads, the header first."""


class Sealer:
    """Seals files one after another in child processes; at most one at a time."""

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._children: list[BaseProcess] = []

    def __call__(self, path: Path) -> None:
        """Start sealing a file that was closed."""
        self._start([path])

    def sweep(self, folders: Sequence[Path]) -> None:
        """Start sealing what writers left that are gone."""
        left = [path for folder in folders for path in _open_files(folder) if is_abandoned(path)]
        if left:
            self._start(left)

    def _start(self, paths: list[Path]) -> None:
        self._children = [child for child in self._children if child.is_alive()]
        self._children.append(start_child(_seal_politely, (paths, self._decode), "sealing"))

    def wait(self, seconds: float) -> None:
        """Wait for the children at shutdown."""
        for child in self._children:
            child.join(seconds)


def seal_abandoned(folder: Path, decode: Decode) -> int:
    """Seal what writers left that are gone; gives how many files."""
    left = [path for path in _open_files(folder) if is_abandoned(path)]
    for path in left:
        seal(path, decode)
    return len(left)


def _open_files(folder: Path) -> list[Path]:
    return [path for path in segment_files(folder) if path.suffix == ".wal"]


def _seal_politely(paths: list[Path], decode: Decode) -> None:
    with suppress(OSError):
        os.nice(10)
    for path in paths:
        seal(path, decode)


def seal(path: Path, decode: Decode) -> Path | None:
    """Turn one write-ahead file into Parquet; `None` when it held no rows, and is gone."""
    frame = read_segment(path, decode)
    target = path.with_suffix(".parquet")
    if frame.height:
        made = path.with_name(f".{path.stem}.{os.getpid()}.tmp")
        frame.write_parquet(made, compression="zstd")
        fd = os.open(made, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        made.replace(target)
    path.unlink(missing_ok=True)
    return target if frame.height else None


def read_segment(path: Path, decode: Decode) -> pl.DataFrame:
    """The rows of one file, sealed or open; none of one that was removed meanwhile by sealing."""
    if path.suffix == ".parquet":
        return pl.read_parquet(path) if path.exists() else pl.DataFrame()  # `engine gc` lets old ones go
    try:
        return decode(read_frames(path))
    except FileNotFoundError:
        sealed = path.with_suffix(".parquet")
        return pl.read_parquet(sealed) if sealed.is_file() else pl.DataFrame()


def read_segments(folder: Path, decode: Decode) -> pl.DataFrame:
    """Every row of a folder, oldest file first; an empty frame without columns when there is none."""
    frames = [frame for path in segment_files(folder) if (frame := read_segment(path, decode)).height]
    return pl.concat(frames, how="diagonal") if frames else pl.DataFrame()
