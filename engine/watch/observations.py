"""Rows to monitor, wherever they come from: a run's own rows with the champion's scores, the server's log, or files.

Enters: a declaration and the stores. Leaves: `Observations`: reference rows, held-out rows, and the rows to watch. Called by
`engine monitor`. The log is taken when the server has one, unless files are named; else the rows of the champion's run that
it was not trained on are replayed, as if it had served them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from engine.api import Declared
from engine.errors import DataError, EngineError, NotFoundError, UsageError
from engine.locations import Stores
from engine.nodes.matrix import LoadedModel, learnt_rows, load_model
from engine.records import ModelVersion, RunRecord
from engine.watch.observed import KNOWN_AT, LABEL, PREDICTION, ROW_ID, TIME


@dataclass(frozen=True)
class Observations:
    """Rows in order of time. `trained` are those that the model learned from, `held_out` those before the watched ones."""

    trained: pl.DataFrame
    held_out: pl.DataFrame
    watched: pl.DataFrame
    columns: tuple[str, ...]
    model: str
    task: str
    facts: dict[str, Any] = field(default_factory=dict)


def open_observations(
    declared: Declared, stores: Stores, rows: Path | None, reference: Path | None, fresh: Path | None = None
) -> Observations:
    """Open what there is to watch; raises `NotFoundError` when there is no model, or no rows, with what to do.

    `fresh` are the features of a later run: without a log, its rows that the champion did not learn from are watched.
    """
    if rows is not None and reference is not None:
        return _of_files(declared, rows, reference)
    version = champion_of(declared, stores)
    loaded = load_model(stores.artefacts.open(version.digest), declared.catalogue)
    known = _of_run(declared, stores, version, loaded, fresh)
    if rows is None and reference is None:
        logged = _of_log(declared, stores, version)
        return known if logged is None else replace(known, watched=logged[0], facts={**known.facts, **logged[1]})
    if rows is None:
        raise UsageError("--reference needs --rows", hint="name both, or neither to watch the champion's own rows")
    watched, facts = tidy(read_table(rows))
    return replace(known, watched=scored(watched, loaded), facts={**known.facts, **facts})


def champion_of(declared: Declared, stores: Stores) -> ModelVersion:
    """Give the version in production; raises `NotFoundError` when there is none."""
    name, alias = declared.spec.registry.model or declared.spec.name, declared.spec.registry.alias
    found = stores.registry.alias(name, alias)
    if found is None:
        raise NotFoundError(
            f"model {name} has no {alias}, so there is nothing to monitor",
            hint=f"`engine run pipeline={declared.spec.name}` first; or give --rows and --reference",
        )
    return found


def _of_files(declared: Declared, rows: Path, reference: Path) -> Observations:
    watched, facts = tidy(read_table(rows))
    past, _ = tidy(read_table(reference))
    columns = tuple(
        name for name, dtype in past.schema.items()
        if name not in {PREDICTION, LABEL, TIME, KNOWN_AT, ROW_ID} and not isinstance(dtype, pl.Datetime | pl.Date)
    )  # fmt: skip
    return Observations(past, past, watched, columns, str(reference.name), declared.spec.train.task, facts)


def read_table(path: Path) -> pl.DataFrame:
    """Read Parquet, CSV or newline-delimited JSON; raises `DataError`."""
    readers = {".parquet": pl.read_parquet, ".csv": pl.read_csv, ".jsonl": pl.read_ndjson, ".ndjson": pl.read_ndjson}
    reader = readers.get(path.suffix)
    if reader is None:
        raise DataError(f"{path}: not a kind of file that is read here", hint=f"allowed: {', '.join(readers)}")
    try:
        return reader(path)  # type: ignore[no-any-return,operator]
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path}: {str(error).splitlines()[0]}") from error


def tidy(rows: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Put rows in order of time, and say what was out of order; raises `DataError` without `event_time`."""
    if TIME not in rows.columns:
        raise DataError(f"the rows have no column {TIME}", hint=f"found: {', '.join(rows.columns[:20])}")
    if rows.schema[TIME] == pl.String:
        rows = rows.with_columns(pl.col(TIME).str.to_datetime(time_unit="us", time_zone="UTC", strict=False))
    times = rows[TIME]
    if isinstance(times.dtype, pl.Datetime) and times.dtype.time_zone is None:
        rows = rows.with_columns(pl.col(TIME).dt.replace_time_zone("UTC"))
    elif times.dtype.is_integer():
        rows = rows.with_columns(pl.from_epoch(pl.col(TIME), time_unit="us").dt.replace_time_zone("UTC"))
    rows = rows.with_columns(pl.col(TIME).cast(pl.Datetime("us", "UTC")))
    timeless = rows[TIME].null_count()
    moments = rows[TIME].drop_nulls().cast(pl.Int64).to_numpy()
    unordered = int((np.diff(moments) < 0).sum()) if len(moments) > 1 else 0
    facts: dict[str, Any] = {"unordered": unordered, "timeless": timeless}
    if {ROW_ID, LABEL} <= set(rows.columns):
        facts["contradicting_labels"] = _contradicting(rows)
    return rows.drop_nulls(TIME).sort(TIME, maintain_order=True), facts


def _contradicting(rows: pl.DataFrame) -> int:
    labelled = rows.select(ROW_ID, LABEL).drop_nulls()
    return int(
        labelled.group_by(ROW_ID).agg(pl.col(LABEL).n_unique().alias("labels")).filter(pl.col("labels") > 1).height
    )


def _of_run(
    declared: Declared, stores: Stores, version: ModelVersion, loaded: LoadedModel, fresh: Path | None
) -> Observations:
    """Give the rows of the run that made the model, with its scores: those it learned from, and those after."""
    record = record_of(stores, version)
    outputs = {node.name: node.output for node in record.nodes if node.output is not None}
    lacking = [name for name in ("features", "split") if name not in outputs]
    if lacking:
        raise NotFoundError(f"run {record.run_id} left no {' and '.join(lacking)}", hint="run the pipeline again")
    rows = pl.read_parquet(stores.artefacts.open(outputs["features"].digest) / "rows.parquet")
    part = pl.read_parquet(stores.artefacts.open(outputs["split"].digest) / "split.parquet")["part"]
    rows = scored(rows, loaded).with_columns(part.alias("\x00part")).sort(TIME, maintain_order=True)
    hashes = np.load(loaded.folder / "trained_on.npy", allow_pickle=False)
    seen = pl.Series(learnt_rows(rows[ROW_ID], hashes))
    trained, held, watched = (
        rows.filter(chosen).drop("\x00part")
        for chosen in (
            rows["\x00part"] == "train",
            rows["\x00part"] == "validation",
            ~seen & (rows["\x00part"] == "test"),
        )
    )
    if held.height < 1000:  # too few to say what is usual: the first half of what comes after is given up for it
        held, watched = watched[: watched.height // 3], watched[watched.height // 3 :]
    if fresh is not None:
        watched = _newer(pl.read_parquet(fresh), rows, watched, seen_hashes=hashes)
        watched = scored(watched, loaded).sort(TIME, maintain_order=True)
    types = {**loaded.program.spine.request, **loaded.program.output_types}
    columns = tuple(
        name for name, kind in types.items() if name in rows.columns and kind != "timestamp"
    )  # moments move on
    newest = trained[TIME].max() if trained.height else None
    facts = {"trained_until": newest, "known_columns": tuple(rows.columns), "root": str(declared.project.root)}
    return Observations(
        trained, held, watched, columns, f"{version.name}@{version.version}", declared.spec.train.task, facts
    )


def _newer(fresh: pl.DataFrame, rows: pl.DataFrame, watched: pl.DataFrame, seen_hashes: np.ndarray) -> pl.DataFrame:
    """Of a later run's rows, those to watch: the ones that are watched anyway, and those that came since."""
    used = rows.join(watched.select(ROW_ID), on=ROW_ID, how="anti").select(ROW_ID)
    kept = fresh.join(used, on=ROW_ID, how="anti", maintain_order="left")
    learned = pl.Series(learnt_rows(kept[ROW_ID], seen_hashes))
    return kept.filter(~learned)


def record_of(stores: Stores, version: ModelVersion) -> RunRecord:
    """Read the record of the run that made a version; raises `NotFoundError`."""
    path = stores.runs_root / version.run_id / "run.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=RunRecord)
    except (OSError, msgspec.DecodeError) as error:
        raise NotFoundError(f"run {version.run_id}, which made {version.name}@{version.version}, is not readable: {error}",
                            hint="run the pipeline again, or give --rows and --reference") from error  # fmt: skip


def scored(rows: pl.DataFrame, loaded: LoadedModel) -> pl.DataFrame:
    """Add scores, unless the rows bring theirs; rows that lack features keep none."""
    if PREDICTION in rows.columns or not rows.height:
        return rows
    try:
        scores = loaded.score(rows)
    except (EngineError, pl.exceptions.PolarsError):
        return rows
    return rows.with_columns(pl.Series(PREDICTION, scores))


def _of_log(declared: Declared, stores: Stores, version: ModelVersion) -> tuple[pl.DataFrame, dict[str, Any]] | None:
    """Read what the server answered, with the labels that came; `None` when it never answered."""
    from engine.watch.logged import read_log  # noqa: PLC0415 - start-up time

    found = read_log(declared, stores, version)
    if found is None:
        return None
    tidied, facts = tidy(found[0])
    return tidied, {**facts, **found[1]}


def visible(rows: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Hide what was not known at a moment: later rows, and labels that came later."""
    known = rows.filter(pl.col(TIME) <= now)
    if {LABEL, KNOWN_AT} <= set(known.columns):
        known = known.with_columns(pl.when(pl.col(KNOWN_AT) <= now).then(pl.col(LABEL)).alias(LABEL))
    return known


def moment(text: str | None, flag: str) -> datetime | None:
    """Read a moment from the command line; raises `UsageError`."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{flag} {text}: {error}", hint="as in 2013-07-01 or 2013-07-01T00:00:00Z") from error
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
