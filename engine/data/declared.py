"""Sources of a pipeline, and files, read for a look: nothing is written and nothing is published.

Enters: a checked declaration and the name of a source, or the path of a file. Leaves: rows and findings. Called by
`engine data profile` and `engine data validate`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import msgspec
import polars as pl

from engine.api import Declared
from engine.clock import SystemClock
from engine.contracts import Progress
from engine.data.repository import Repository
from engine.data_records import Validation
from engine.errors import DataError, NotFoundError, UsageError
from engine.nodes.expectations import LastGood, Surroundings
from engine.nodes.reading import Incoming, Reader, naming, read_all
from engine.nodes.validation import audit, tell_losses
from engine.stores.snapshots import open_snapshots

_READERS: dict[str, Callable[[Path], pl.DataFrame]] = {
    ".csv": lambda path: pl.read_csv(path, try_parse_dates=True, infer_schema_length=10_000),
    ".tsv": lambda path: pl.read_csv(path, separator="\t", try_parse_dates=True, infer_schema_length=10_000),
    ".parquet": lambda path: pl.read_parquet(path, glob=False),
    ".ndjson": pl.read_ndjson,
    ".jsonl": pl.read_ndjson,
    ".arrow": pl.read_ipc,
    ".feather": pl.read_ipc,
}


def read_rows(path: Path) -> pl.DataFrame:
    """Read a file by its ending; raises `UsageError` for an unknown one and `DataError` for a broken file."""
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"{path}: cannot tell its format from its name", hint=f"known endings: {', '.join(_READERS)}")
    try:
        return reader(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        words = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"cannot read {path}: {words}", hint="declare it as a source to hear which row it is"
        ) from error


@dataclass(frozen=True, slots=True)
class SourceReader:
    """The sources of one declaration; `snapshots` is the store's URL."""

    declared: Declared
    snapshots: str
    progress: Progress

    def read(self, name: str) -> Incoming:
        """Read a source as its ingestion would; raises `NotFoundError` with the nearest name, and `DataError`."""
        spec = self.declared.spec.sources.get(name)
        if spec is None:
            known = list(self.declared.spec.sources)
            near = get_close_matches(name, known, 1)
            meant = f" (did you mean `{near[0]}`?)" if near else ""
            raise NotFoundError(
                f"{self.declared.spec.name} has no source `{name}`{meant}", hint=f"it has: {', '.join(known)}"
            )
        source = self.declared.catalogue.get("source", spec.kind).build(spec.params)
        root = self.declared.project.root
        program = self.declared.logical.sources[name]
        with naming(name):
            pin = source.pin(root)
        return read_all(Reader(name, spec, program, source, root, pin, self.progress))

    def validate(self, name: str) -> Validation:
        """Audit a source as its ingestion would, against the last good snapshot, and publish nothing."""
        reading = self.read(name)
        spec = self.declared.spec.sources[name]
        found = audit(reading.frame, spec, name, self._surroundings(name))
        report = tell_losses(found.report, reading.losses, spec.columns)
        return Validation(
            source=name,
            rows=report.rows,
            set_aside=report.set_aside,
            ok=not report.blocking,
            findings=tuple(msgspec.to_builtins(item) for item in report.findings),
        )

    def _surroundings(self, name: str) -> Surroundings:
        spec = self.declared.spec.sources[name]
        named = {item.references.split(".")[0] for item in spec.expect if item.references is not None}
        references = {other: self.read(other).frame for other in sorted(named)}
        return Surroundings(references=references, last_good=self._last_good(name), now=SystemClock().now())

    def _last_good(self, name: str) -> LastGood | None:
        spec = self.declared.spec.sources[name]
        repository = Repository(open_snapshots(self.snapshots), spec.repository)
        if spec.repository not in repository.store.repositories() or not repository.objects(spec.branch, name):
            return None
        known = repository.audit(spec.branch, name)
        rows = known.described["rows"] if known is not None else None
        return LastGood(rows, lambda: repository.scan(spec.branch, name))
