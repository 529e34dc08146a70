"""Rows on disk: tables that are read slice by slice, and buckets that rows are scattered into. Called by `partitioned`.

A bucket holds all rows of some keys, chosen by a hash of the key's values, in the order of the slices that they came from.
What a bucket holds decides no value, so neither does how many there are. Many processes may write into the same buckets:
each slice is a file of its own, which appears under its name at once, and the same when it is written again.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import polars as pl

_SCHEMA = "schema.arrow"


class Table(Protocol):
    """Rows that need not fit into memory."""

    @property
    def slices(self) -> int:
        """How many slices there are."""
        ...

    def read(self, number: int, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """One slice's rows; the slices one after the other are all rows in their order."""
        ...


@dataclass(frozen=True, slots=True)
class ParquetTable:
    """The rows of Parquet files, one after the other, in slices of at most `batch` rows; `fetch` finds a file."""

    paths: tuple[str, ...]
    heights: tuple[int, ...]
    batch: int
    fetch: Callable[[str], Path] = Path

    @property
    def height(self) -> int:
        """How many rows there are."""
        return sum(self.heights)

    @property
    def slices(self) -> int:
        """See `Table`."""
        return sum(-(-height // self.batch) for height in self.heights)

    def read(self, number: int, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """See `Table`; raises `IndexError` for a slice that is not there."""
        for path, height in zip(self.paths, self.heights, strict=True):
            own = -(-height // self.batch)
            if number < own:
                rows = pl.scan_parquet(self.fetch(path), glob=False)
                wanted = rows if columns is None else rows.select(columns)
                return wanted.slice(number * self.batch, self.batch).collect()
            number -= own
        raise IndexError(number)


def height_of(path: Path) -> int:
    """How many rows a Parquet file has, from its footer."""
    return int(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item())


@dataclass(frozen=True, slots=True)
class Buckets:
    """Rows scattered over folders of Arrow files, one file a slice and bucket. Also a `Table`, whose slices are the buckets."""

    folder: Path
    slices: int

    def declare(self, schema: Mapping[str, pl.DataType]) -> Buckets:
        """Say what rows look like, for when none are added."""
        self._write(self.folder / _SCHEMA, pl.DataFrame(schema=pl.Schema(schema)))
        return self

    def scatter(self, writer: int, frame: pl.DataFrame, numbers: pl.Series) -> None:
        """Add the rows of one slice, each to the bucket of its number."""
        if not (self.folder / _SCHEMA).exists():
            self.declare(frame.schema)
        parts = frame.with_columns(numbers.alias("\x00bucket")).partition_by(
            "\x00bucket", maintain_order=True, include_key=False, as_dict=True
        )
        for (number,), part in parts.items():
            self.put(int(number), part, writer)

    def put(self, number: int, frame: pl.DataFrame, writer: int = 0) -> None:
        """Add the rows of one slice to one bucket."""
        self._write(self.folder / f"{number:06d}" / f"{writer:06d}.arrow", frame)

    def read(self, number: int, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """All rows of a bucket, in the order of the slices that they came from."""
        frames = [pl.read_ipc(path) for path in sorted((self.folder / f"{number:06d}").glob("*.arrow"))]
        rows = pl.concat(frames, rechunk=True) if frames else pl.read_ipc(self.folder / _SCHEMA)
        return rows if columns is None else rows.select(columns)

    def remove(self) -> None:
        """Delete everything: nobody needs it any more."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, path: Path, frame: pl.DataFrame) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        frame.write_ipc(unfinished, compression="uncompressed")
        unfinished.replace(path)


def bucket_numbers(frame: pl.DataFrame, columns: Sequence[str], count: int) -> pl.Series:
    """The bucket of each row by a hash of these columns' values; without columns all rows are in one."""
    if not columns or not frame.height:
        return pl.repeat(0, frame.height, dtype=pl.UInt64, eager=True)
    return frame.select(columns).hash_rows(seed=17) % count


def bucket_count(rows: int, most: int) -> int:
    """How many buckets of about `most` rows."""
    return max(1, -(-rows // most))
