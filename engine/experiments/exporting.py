"""Runs as one table in a file: a row a run, a column a fact, metric, parameter and tag. The only writer of tables here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from engine.errors import StoreError, UsageError
from engine.experiments.listing import Listed

_FACTS = ("run_id", "pipeline", "status", "verdict", "started_at", "finished_at", "seconds", "model", "model_digest", "promoted",
          "exit_code", "error", "sweep", "trial")  # fmt: skip


def export_runs(runs: Sequence[Listed], path: Path) -> int:
    """Write runs as Parquet or CSV by the file's ending; gives how many. Raises `UsageError` or `StoreError`."""
    rows = [_row(run) for run in runs]
    names = list(dict.fromkeys(name for row in rows for name in row))
    frame = pl.DataFrame({name: _column([row.get(name) for row in rows]) for name in names} if rows else {})
    try:
        if path.suffix == ".parquet":
            frame.write_parquet(path)
        elif path.suffix == ".csv":
            frame.write_csv(path)
        else:
            raise UsageError(f"{path}: the file's ending says what to write", hint="name a .parquet or a .csv file")
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error}", hint="make the folder, or name another") from error
    return len(rows)


def _row(run: Listed) -> dict[str, Any]:
    item = run.summary
    groups = {"metrics": item.metrics, "tuned": item.tuned, "params": item.params, "tags": item.tags}
    facts: dict[str, Any] = {name: getattr(item, name) for name in _FACTS}
    return facts | {f"{group}.{name}": value for group, values in groups.items() for name, value in values.items()}


def _column(values: Sequence[Any]) -> pl.Series:
    """Give a column of one type: whole numbers, numbers or booleans where all are such, else texts."""
    known = [value for value in values if value is not None]
    if known and all(isinstance(value, bool) for value in known):
        return pl.Series(values, dtype=pl.Boolean)
    if known and all(isinstance(value, int) and not isinstance(value, bool) for value in known):
        return pl.Series(values, dtype=pl.Int64)
    if known and all(isinstance(value, int | float) and not isinstance(value, bool) for value in known):
        return pl.Series([None if value is None else float(value) for value in values], dtype=pl.Float64)
    return pl.Series([None if value is None else str(value) for value in values], dtype=pl.String)
