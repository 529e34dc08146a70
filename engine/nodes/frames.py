"""Frames and documents on disk: how nodes hand rows to each other, with bytes that depend on nothing but the rows.

Parquet for rows (fixed row groups, so the bytes are the same for any thread count), canonical JSON for documents.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from engine.contracts import Artefact, Work
from engine.keys import Json, canonical_json
from engine.stores.snapshots import open_snapshots

ROW_GROUP = 65_536


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
    paths = [store.fetch(repository, commit, item["path"]) for item in described["objects"]]
    wanted = list(columns) if columns is not None else None
    return pl.read_parquet(paths, columns=wanted, glob=False).rechunk()  # once, not at every use of a column


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
