"""Reading a source into typed rows: all of it, or with `incremental` just the parts that changed.

Enters: a declaration, a pin, and the audit of what `main` holds. Leaves: typed rows in the source's own order, the
partitions that they make up completely, and what each part fed. A partition is read anew, from every part that feeds it,
as soon as one of its parts is new, changed or gone; so the result has the bytes that a complete reading would have.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from engine.contracts import PartedSource, Pin, Progress, Reading, Source
from engine.errors import DataError, EngineError
from engine.features.program import SourceProgram
from engine.features.sources import Ingested, ingest_source
from engine.features.timeline import comes_once
from engine.nodes.audited import AuditRecord, PartRecord
from engine.nodes.partitions import label_rows
from engine.spec import SourceSpec


@dataclass(frozen=True, slots=True)
class Reader:
    """How one source is read: where, by which component, as what, and with whom listening."""

    name: str
    spec: SourceSpec
    program: SourceProgram
    source: Source
    root: Path
    pin: Pin
    progress: Progress


@dataclass(frozen=True, slots=True)
class Incoming:
    """Typed rows of the partitions that changed (all of them unless incremental).

    `losses` tells what became null; `kept` names the partitions of the last good snapshot that stay as they are.
    """

    frame: pl.DataFrame
    losses: Ingested
    parts: Mapping[str, PartRecord] = field(default_factory=dict)
    kept: tuple[str, ...] = ()


class _Told:
    """Progress with the rows so far and the last share that the source knew."""

    def __init__(self, progress: Progress) -> None:
        self.rows = 0
        self._progress = progress
        self._share: float | None = None

    def __call__(self, message: str, rows: int | None, done: float | None) -> None:
        """Pass on what the source says."""
        self._share = done if done is not None else self._share
        self._progress(message, rows if rows is not None else self.rows, self._share)

    def add(self, rows: int) -> None:
        """Count rows that were read."""
        self.rows += rows
        self("reading", None, None)


def _reading(reader: Reader, told: _Told) -> Reading:
    return Reading(reader.root, reader.pin, reader.spec.columns, told)


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Say which source it was in whatever its component raises; the component itself does not know."""
    try:
        yield
    except EngineError as error:
        if f"source `{name}`" not in error.message:
            error.message = f"source `{name}`: {error.message}"
            error.args = (error.message,)
        raise


def read_all(reader: Reader) -> Incoming:
    """Read the whole source; raises `DataError` when it has no rows."""
    with naming(reader.name):
        return _read_all(reader)


def _read_all(reader: Reader) -> Incoming:
    frames: list[pl.DataFrame] = []
    told = _Told(reader.progress)
    for frame in reader.source.read(_reading(reader, told)):
        frames.append(frame)
        told.add(frame.height)
    if told.rows == 0:
        raise DataError("no rows", hint="check its path; an empty source is never published")
    ingested = ingest_source(reader.program, pl.concat(frames))
    frame = _each_once(ingested.frame, reader.spec.id)
    return Incoming(frame, replace(ingested, repeated=ingested.frame.height - frame.height))


def read_changes(reader: Reader, known: AuditRecord | None) -> Incoming:
    """Read the parts that changed since `known`, and those that share a partition with them.

    Raises `DataError` for a source that cannot be read in parts.
    """
    with naming(reader.name):
        return _read_changes(reader, known)


def _read_changes(reader: Reader, known: AuditRecord | None) -> Incoming:
    source = reader.source
    if not isinstance(source, PartedSource):
        raise DataError(
            f"kind `{reader.spec.kind}` cannot be read in parts",
            hint=f"remove sources.{reader.name}.incremental, or use files that grow by files",
        )
    now = source.parts(reader.pin)
    before = known.parts if known is not None else {}
    fresh = [part for part, identity in now.items() if part not in before or before[part].identity != identity]
    touched = {label for part, item in before.items() if part in fresh or part not in now for label in item.partitions}
    read = _read_parts(reader, source, fresh)
    labels = dict.fromkeys(fresh, ()) | {part: _labels_of(item.frame, reader.spec) for part, item in read.items()}
    touched |= {label for found in labels.values() for label in found}
    shared = [part for part in now if part not in labels and touched.intersection(before[part].partitions)]
    read |= _read_parts(reader, source, shared)
    frames = [read[part].frame for part in now if part in read]
    frame = pl.concat(frames) if frames else _nothing(reader)
    if shared:  # they feed other partitions too, which stay as they are
        frame = frame.filter(label_rows(frame, reader.spec).is_in(sorted(touched)))
    parts = {
        part: PartRecord(identity, labels[part] if part in labels else before[part].partitions)
        for part, identity in now.items()
    }
    kept = tuple(sorted(known.partitions.keys() - touched)) if known is not None else ()
    if not frame.height and not kept:
        raise DataError("no rows", hint="check its path; an empty source is never published")
    single = _each_once(frame, reader.spec.id)
    losses = replace(_together(single, read.values()), repeated=frame.height - single.height)
    return Incoming(single, losses, parts, kept)


def _each_once(frame: pl.DataFrame, id_: str | None) -> pl.DataFrame:
    """Keep the first of rows that are the same in every column, id included: whoever delivers at least once sends such copies."""
    if id_ is None or comes_once(frame[id_]):
        return frame
    return frame.filter(pl.struct(pl.all()).is_first_distinct() | pl.col(id_).is_null())


def _labels_of(frame: pl.DataFrame, spec: SourceSpec) -> tuple[str, ...]:
    return tuple(label_rows(frame, spec).unique().sort())


def _read_parts(reader: Reader, source: PartedSource, wanted: list[str]) -> dict[str, Ingested]:
    """Read some parts, each as its typed rows."""
    frames: dict[str, list[pl.DataFrame]] = {}
    told = _Told(reader.progress)
    if wanted:
        for part, frame in source.read_parts(_reading(reader, told), wanted):
            frames.setdefault(part, []).append(frame)
            told.add(frame.height)
    return {part: ingest_source(reader.program, pl.concat(found)) for part, found in frames.items()}


def _together(frame: pl.DataFrame, read: Iterable[Ingested]) -> Ingested:
    """Add up what became null in each part."""
    items = list(read)

    def total(name: str) -> dict[str, int]:
        counts: dict[str, int] = {}
        for item in items:
            for column, count in getattr(item, name).items():
                counts[column] = counts.get(column, 0) + count
        return counts

    lost = {column: samples for item in reversed(items) for column, samples in item.lost.items()}
    rows = sum(item.rows_read for item in items)
    return Ingested(frame, rows, total("not_finite"), total("not_castable"), total("not_quantisable"), lost)


def _nothing(reader: Reader) -> pl.DataFrame:
    """Give no rows, in the columns and types that the source has."""
    empty = pl.DataFrame(schema=dict.fromkeys(reader.spec.columns, pl.String))
    return ingest_source(reader.program, empty).frame
