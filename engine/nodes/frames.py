"""Frames and documents on disk: how nodes hand rows to each other, with bytes that depend on nothing but the rows.

Parquet for rows (fixed row groups, so the bytes are the same for any thread count), canonical JSON for documents.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from engine.contracts import Artefact, SnapshotStore, Work
from engine.errors import NotFoundError, UnavailableError
from engine.keys import Json, canonical_json
from engine.stores.snapshots import open_snapshots

ROW_GROUP = 65_536
_SAMPLE_STEPS = 1_000_000


def write_frame(path: Path, frame: pl.DataFrame) -> None:
    """Write rows; the bytes are a function of the frame alone."""
    frame.write_parquet(path, compression="uncompressed", row_group_size=ROW_GROUP)


def read_frame(path: Path, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Read rows, only the columns asked for, in their order."""
    return pl.read_parquet(path, columns=list(columns) if columns is not None else None)


def write_document(path: Path, document: Json) -> None:
    """Write canonical JSON."""
    path.write_bytes(canonical_json(document))


def read_document(path: Path) -> Any:
    """Read JSON."""
    return json.loads(path.read_bytes())


def read_source(work: Work, artefact: Artefact, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Read a source's rows at the commit that its ingest recorded, verified, in `(time, id)` order within partitions."""
    return read_rows(work.place.snapshots, artefact.path, artefact.notes, columns)


def read_rows(
    snapshots: str, folder: Path, notes: Mapping[str, Any], columns: Sequence[str] | None = None
) -> pl.DataFrame:
    """As `read_source`, given the store's URL, the folder that the ingest left, and its notes."""
    described: Mapping[str, Any] = read_document(folder / "source.json")
    store = open_snapshots(snapshots)
    commit, repository = str(notes["commit"]), str(notes["repository"])
    rows = scan_objects(store, (repository, commit), [item["path"] for item in described["objects"]])
    wanted = rows if columns is None else rows.select(columns)
    return collect(wanted, f"{repository}@{commit[:12]}").rechunk()  # once, not at every use of a column


def scan_objects(store: SnapshotStore, place: tuple[str, str], paths: Sequence[str]) -> pl.LazyFrame:
    """Scan Parquet objects of a repository at a commit where they lie, reading only what a query needs of them.

    Objects on this machine are verified first (once a process); of those behind a network, the server vouches for the commit.
    """
    found = store.locate(*place, paths)
    return pl.scan_parquet(
        list(found.locations), glob=False, missing_columns="insert", extra_columns="ignore",
        storage_options=dict(found.options) or None,
    )  # fmt: skip


def collect(rows: pl.LazyFrame, what: str) -> pl.DataFrame:
    """Run a scan, with the errors of `reading`."""
    with reading(what):
        return rows.collect()


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Word what fails while rows are read where they lie, without what logs in: `NotFoundError`, `UnavailableError`."""
    try:
        yield
    except FileNotFoundError:
        raise NotFoundError(
            f"reading {what}: the snapshot store does not have an object of it any more",
            hint="restore the repository, or ingest the source again: `engine data snapshot`",
        ) from None
    except (OSError, pl.exceptions.ComputeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UnavailableError(
            f"reading {what}: {reason}", hint="see whether the snapshot store is there: `engine doctor`; then run again"
        ) from None


def source_paths(work: Work, artefact: Artefact) -> tuple[Path, ...]:
    """The verified files of a source, in the order of their partitions."""
    described: Mapping[str, Any] = read_document(artefact.path / "source.json")
    store = open_snapshots(work.place.snapshots)
    commit, repository = str(artefact.notes["commit"]), str(artefact.notes["repository"])
    return tuple(store.fetch(repository, commit, item["path"]) for item in described["objects"])


def source_inputs(work: Work) -> dict[str, Artefact]:
    """Give this node's sources by name (inputs with the role `source.<name>`)."""
    prefix = "source."
    return {role.removeprefix(prefix): artefact for role, artefact in work.inputs.items() if role.startswith(prefix)}


def sample_rows(spine: pl.DataFrame, fraction: float | None) -> pl.DataFrame:
    """Keep about that fraction of rows, chosen by a hash of their ids: the same rows every time."""
    if fraction is None:
        return spine
    return spine.filter(pl.col("row_id").hash(seed=0) % _SAMPLE_STEPS < int(fraction * _SAMPLE_STEPS))
