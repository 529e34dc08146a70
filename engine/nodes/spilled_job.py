"""What a computation that does not fit into memory is: the program, its tables, room on disk, how much at a time.

The `features` node makes a `JobFile` and writes it where all workers see it; each part of the work reads it again. Called by
`partitioned` and `spilled_spine`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from engine.contracts import Work
from engine.errors import EngineError
from engine.features.program import FeatureProgram
from engine.keys import Json
from engine.nodes.spill import Buckets, ParquetTable, Table
from engine.stores.snapshots import open_snapshots

SLICE = 2_000_000
"""Rows of a source read at a time, at most."""


class Sizes(msgspec.Struct, frozen=True):
    """How many rows are worked on at a time: those of a bucket, of a chunk of the result, of a slice that is read."""

    bucket: int
    chunk: int
    batch: int = SLICE


class Files(msgspec.Struct, frozen=True):
    """A source's Parquet files, with how many rows each has: objects of a repository at a commit, or paths."""

    paths: tuple[str, ...]
    heights: tuple[int, ...]
    repository: str | None = None
    commit: str | None = None


class JobFile(msgspec.Struct, frozen=True, kw_only=True):
    """A job in JSON. `polars` is the version that hashes the keys: all parts must agree on it."""

    program: dict[str, Any]
    files: dict[str, Files]
    sizes: Sizes
    as_of: int | None
    sample: float | None
    polars: str = pl.__version__


@dataclass(frozen=True, slots=True)
class Job:
    """What is computed, from which tables, where there is room on disk, and how much at a time."""

    program: FeatureProgram
    tables: Mapping[str, ParquetTable]
    scratch: Path
    sizes: Sizes
    as_of: int | None
    sample: float | None

    def buckets(self, name: str, count: int) -> Buckets:
        """Buckets below the scratch folder."""
        return Buckets(self.scratch / name, count)

    def table(self, name: str, settled: int) -> Table:
        """A source's rows: its own, or those of so many buckets that say until when each row counts."""
        return self.buckets(f"settled-{name}", settled) if settled else self.tables[name]


@lru_cache(maxsize=2)
def _read_job(path: Path, snapshots: str) -> Job:
    found = msgspec.json.decode(path.read_bytes(), type=JobFile)
    if found.polars != pl.__version__:
        raise EngineError(
            f"this worker has polars {pl.__version__}, the node that divides its work has {found.polars}",
            hint="install the same versions on all machines: rows are divided by a hash that differs between them",
        )
    tables = {
        name: ParquetTable(files.paths, files.heights, found.sizes.batch, _fetcher(files, snapshots))
        for name, files in found.files.items()
    }
    program = FeatureProgram.from_json(found.program)
    return Job(program, tables, path.parent, found.sizes, found.as_of, found.sample)


def _fetcher(files: Files, snapshots: str) -> Callable[[str], Path]:
    if files.repository is None or files.commit is None:
        return Path
    return partial(open_snapshots(snapshots).fetch, files.repository, files.commit)


def job_of(work: Work) -> Job:
    """The job that a part of it belongs to."""
    return _read_job(Path(str(work.settings["job"])), work.place.snapshots)


Part = Callable[[Work], Mapping[str, Json]]


@dataclass(frozen=True, slots=True)
class Crew:
    """Who does the parts of a job: functions of this package, run wherever the node's `Work` has them run."""

    work: Work
    job: Job

    def run(self, part: Part, settings: Sequence[Mapping[str, Json]]) -> list[Mapping[str, Any]]:
        """Do a part once for each of the settings; gives the notes in their order."""
        path = str(self.job.scratch / JOB)
        return list(
            self.work.parts.run(
                self.work, f"{part.__module__}:{part.__name__}", [{"job": path, **item} for item in settings]
            )
        )


JOB = "job.json"


def open_job(work: Work, file: JobFile, scratch: Path) -> Crew:
    """Write a job down in its scratch folder; what `Crew` runs finds it there."""
    scratch.mkdir(parents=True)
    path = scratch / JOB
    path.write_bytes(msgspec.json.encode(file))
    return Crew(work, _read_job(path, work.place.snapshots))
