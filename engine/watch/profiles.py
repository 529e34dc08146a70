"""Profiles of data that is too large for memory: one a file, over Dask, streamed, kept beside the snapshots, read again.

Enters: files, or the objects of a snapshot. Leaves: a `Reference` and profiles, which comparisons read instead of rows. Called
by `engine monitor data`. A profile is kept under a key of the file's content, the scale and the schemes' versions, so a file is
read once whatever asks, and a changed scale or scheme never meets an old profile.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import msgspec
import polars as pl

from engine.errors import DataError
from engine.keys import Json, digest, digest_bytes, digest_file
from engine.stores.disk import write_durably
from engine.watch import frozen, profile, reference
from engine.watch.frozen import FrozenTable
from engine.watch.profile import Profile, decode_profile, encode_profile, profile_rows
from engine.watch.reference import Reference, build_reference, decode_reference, encode_reference

VERSION = 1
BATCH = 50_000
"""Rows that a task holds at a time."""
MIN_CHUNKS = 5

Run = Callable[[Callable[["Task"], bytes], Sequence["Task"]], Sequence[bytes]]
"""Applies a function to tasks: on threads, or on a cluster."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A file, or a part of one: `content` is the digest of its bytes; `rows` cuts `(first, count)` out of it.

    `options` open a remote one; they hold credentials and are part of no key.
    """

    name: str
    location: str
    content: str
    rows: tuple[int, int] | None = None
    options: Mapping[str, str] = field(default_factory=dict, repr=False)

    def scan(self, texts: Collection[str] = ()) -> pl.LazyFrame:
        """Open without reading; `texts` are columns that are text even where a CSV has only digits."""
        found = scan_table(self.location, self.options, texts)
        return found if self.rows is None else found.slice(*self.rows)

    @property
    def identity(self) -> list[Json]:
        """What the rows are."""
        return [self.content, *(self.rows or ())]


@dataclass(frozen=True, slots=True)
class Task:
    """One piece to profile on a scale."""

    piece: Piece
    table: FrozenTable


def scan_table(location: str, options: Mapping[str, str] | None = None, texts: Collection[str] = ()) -> pl.LazyFrame:
    """Open Parquet, CSV or newline-delimited JSON without reading it; raises `DataError`."""
    scans = {".parquet": pl.scan_parquet, ".csv": pl.scan_csv, ".jsonl": pl.scan_ndjson, ".ndjson": pl.scan_ndjson}
    scan = scans.get(Path(location).suffix)
    if scan is None:
        raise DataError(f"{location}: not a kind of file that is read here", hint=f"allowed: {', '.join(scans)}")
    found: pl.LazyFrame = scan(location, storage_options=dict(options) if options else None)  # type: ignore[operator]
    if scan is not pl.scan_csv or not texts:
        return found
    declared = {name: pl.String for name in found.collect_schema().names() if name in texts}
    return pl.scan_csv(location, schema_overrides=declared, storage_options=dict(options) if options else None)


def profile_piece(task: Task) -> bytes:
    """Profile one piece, in batches; what a worker does. Raises `DataError` for a file that cannot be read."""
    try:
        texts = {column.name for column in task.table.columns if column.type == "str"}
        made = profile_rows(task.piece.scan(texts), task.table, name=task.piece.name, batch=BATCH)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{task.piece.location}: {str(error).splitlines()[0]}") from error
    return encode_profile(made)


@dataclass(frozen=True, slots=True)
class Shelf:
    """Profiles and references by key, in a folder that lies beside the snapshots."""

    root: Path

    def _path(self, kind: str, key: str) -> Path:
        return self.root / f"v{VERSION}" / kind / key[:2] / f"{key}.msgpack"

    def read(self, kind: str, key: str) -> bytes | None:
        """Give what is kept, if it is."""
        path = self._path(kind, key)
        return path.read_bytes() if path.is_file() else None

    def keep(self, kind: str, key: str, content: bytes) -> None:
        """Keep bytes under a key, whole or not at all."""
        path = self._path(kind, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, content)


def cut_file(path: Path, parts: int) -> list[Piece]:
    """Cut one file into parts of equal size, in the order of its rows; raises `DataError`."""
    try:
        count = int(scan_table(str(path)).select(pl.len()).collect(engine="streaming").item())
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path}: {str(error).splitlines()[0]}") from error
    content = digest_file(path)
    bounds = [count * place // parts for place in range(parts + 1)]
    return [
        Piece(f"{path.name}#{place}", str(path), content, (low, high - low))
        for place, (low, high) in enumerate(pairwise(bounds))
        if high > low
    ]


def whole_file(path: Path) -> Piece:
    """Give a whole file as one piece; raises `DataError` when there is none."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    return Piece(path.name, str(path), digest_file(path))


def open_reference(pieces: Sequence[Piece], columns: Sequence[str], shelf: Shelf, label: str) -> Reference:
    """Give the reference of these pieces, each a chunk: kept, or made now and kept. Columns are read one at a time."""
    versions: list[Json] = [VERSION, reference.VERSION, frozen.VERSION, profile.VERSION]
    described: dict[str, Json] = {
        "pieces": [piece.identity for piece in pieces], "columns": list(columns), "versions": versions,
    }  # fmt: skip
    key = digest(described)
    known = shelf.read("references", key)
    if known is not None:
        return decode_reference(known)
    made = build_reference([piece.scan() for piece in pieces], columns, label=label)
    shelf.keep("references", key, encode_reference(made))
    return made


def open_profiles(pieces: Sequence[Piece], table: FrozenTable, shelf: Shelf, run: Run) -> list[Profile]:
    """Give the profiles of these pieces on a scale: those that are kept, and those that `run` makes now."""
    scale = digest_bytes(msgspec.msgpack.encode(table, order="deterministic"))
    keys = [digest({"piece": piece.identity, "scale": scale, "version": profile.VERSION}) for piece in pieces]
    found = {key: shelf.read("profiles", key) for key in keys}
    lacking = [(key, piece) for key, piece in zip(keys, pieces, strict=True) if found[key] is None]
    for (key, _), content in zip(
        lacking, run(profile_piece, [Task(piece, table) for _, piece in lacking]), strict=True
    ):
        shelf.keep("profiles", key, content)
        found[key] = content
    return [
        msgspec.structs.replace(decode_profile(found[key] or b""), name=piece.name)
        for key, piece in zip(keys, pieces, strict=True)
    ]
