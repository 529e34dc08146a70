"""Rows on disk: tables that are read batch by batch, and buckets that rows are scattered into. Called by `partitioned`.

A bucket holds all rows of some keys, chosen by a hash of the key's values, in the order in which they were added. What a
bucket holds decides no value, so neither does how many there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import polars as pl

BATCH = 2_000_000
"""Rows read at a time."""


class Table(Protocol):
    """Rows that need not fit into memory."""

    @property
    def height(self) -> int:
        """How many rows there are."""
        ...

    def batches(self, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """These columns of all rows, batch by batch, in order."""
        ...


@dataclass(frozen=True, slots=True)
class ParquetTable:
    """The rows of Parquet files, one after the other."""

    paths: tuple[Path, ...]

    @property
    def height(self) -> int:
        """How many rows there are, from the files' footers."""
        return sum(_height(path) for path in self.paths)

    def batches(self, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """See `Table`."""
        for path in self.paths:
            for start in range(0, _height(path), BATCH):
                yield pl.scan_parquet(path, glob=False).select(columns).slice(start, BATCH).collect()


def _height(path: Path) -> int:
    return int(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item())


@dataclass(frozen=True, slots=True)
class FrameTable:
    """A frame as a table, in batches of some rows: for tests."""

    frame: pl.DataFrame
    rows: int = BATCH

    @property
    def height(self) -> int:
        """How many rows there are."""
        return self.frame.height

    def batches(self, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """See `Table`."""
        for start in range(0, self.frame.height, self.rows):
            yield self.frame[start : start + self.rows].select(columns)


class Buckets:
    """Rows scattered over folders of Arrow files; each `add` writes at most one file a bucket."""

    def __init__(self, folder: Path, count: int, schema: Mapping[str, pl.DataType]) -> None:
        self._folder = folder
        self._schema = pl.Schema(schema)
        self._files: list[list[Path]] = [[] for _ in range(count)]
        folder.mkdir(parents=True)

    def __len__(self) -> int:
        """How many buckets there are."""
        return len(self._files)

    def add(self, frame: pl.DataFrame, numbers: pl.Series) -> None:
        """Add rows, each to the bucket of its number."""
        parts = frame.with_columns(numbers.alias("\x00bucket")).partition_by(
            "\x00bucket", maintain_order=True, include_key=False, as_dict=True
        )
        for (number,), part in parts.items():
            self.put(part, int(number))

    def put(self, frame: pl.DataFrame, number: int) -> None:
        """Add rows to one bucket."""
        files = self._files[number]
        path = self._folder / f"{number:05d}-{len(files):05d}.arrow"
        frame.select(self._schema.names()).write_ipc(path, compression="uncompressed")
        files.append(path)

    def read(self, number: int) -> pl.DataFrame:
        """All rows of a bucket, in the order in which they were added."""
        frames = [pl.read_ipc(path) for path in self._files[number]]
        return pl.concat(frames, rechunk=True) if frames else pl.DataFrame(schema=self._schema)

    def drop(self, number: int) -> None:
        """Delete a bucket that nobody needs any more."""
        for path in self._files[number]:
            path.unlink()
        self._files[number] = []

    @property
    def height(self) -> int:
        """How many rows there are."""
        return sum(_arrow_height(path) for files in self._files for path in files)

    def batches(self, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Read all buckets as a `Table`."""
        for number in range(len(self)):
            yield self.read(number).select(columns)


def _arrow_height(path: Path) -> int:
    return int(pl.scan_ipc(path).select(pl.len()).collect().item())


def bucket_numbers(frame: pl.DataFrame, columns: Sequence[str], count: int) -> pl.Series:
    """The bucket of each row by a hash of these columns' values; without columns all rows are in one."""
    if not columns or not frame.height:
        return pl.repeat(0, frame.height, dtype=pl.UInt64, eager=True)
    return frame.select(columns).hash_rows(seed=17) % count


def bucket_count(rows: int, most: int) -> int:
    """How many buckets of about `most` rows."""
    return max(1, -(-rows // most))
