"""As-of lookups against Polars `join_asof` on the same rows: wall, CPU and peak memory, medians of `--repeat` runs.

    .venv/bin/python benchmarks/lookup.py [--rows 10_000_000] [--repeat 3] [--json]

A history of a fifth of the rows over 10,000 skewed keys, and a spine of all rows. Polars gives the latest row before each
time by a backward join that excludes equal times; ours honours availability, ids and ties as well. Both give one row a row.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import polars as pl
from windows import NoParams, be_side, compare, make_rows

from engine.features.compute import compute
from engine.features.program import compile_program
from engine.spec import LookupFeature, SourceSpec, SpineSpec


def ours(folder: str) -> tuple[float, float]:
    """Evaluate a program of two lookups; gives seconds and CPU seconds."""
    rates = SourceSpec(
        kind="parquet",
        params=NoParams(),
        columns={"row_id": "i64", "user": "i64", "ts": "timestamp", "amt": "f64"},
        key=("user",),
        time="ts",
        id="row_id",
    )
    spine = SpineSpec(source="asked", request={"user": "i64"})
    features = {"amt": LookupFeature(lookup="rates.amt"), "other": LookupFeature(lookup="rates.row_id")}
    program = compile_program(features, spine, None, {"rates": rates, "asked": rates}).program
    rows, history = pl.read_parquet(f"{folder}/spine.parquet"), pl.read_parquet(f"{folder}/history.parquet")
    start = time.perf_counter(), time.process_time()
    made = compute(program, rows.rename({"ts": "event_time"}), {"rates": history})
    seconds = time.perf_counter() - start[0], time.process_time() - start[1]
    if made.height != rows.height:
        raise SystemExit("not one row a row")
    return seconds


def polars(folder: str) -> tuple[float, float]:
    """Join as of each time; gives seconds and CPU seconds."""
    rows, history = pl.read_parquet(f"{folder}/spine.parquet"), pl.read_parquet(f"{folder}/history.parquet")
    start = time.perf_counter(), time.process_time()
    made = rows.join_asof(
        history, on="ts", by="user", strategy="backward", allow_exact_matches=False, check_sortedness=False
    )
    seconds = time.perf_counter() - start[0], time.process_time() - start[1]
    if made.height != rows.height:
        raise SystemExit("not one row a row")
    return seconds


def main() -> None:
    """Measure both sides, or be one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--side", choices=("engine", "polars"), help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.side:
        be_side({"engine": ours, "polars": polars}[asked.side], asked.path)
        return
    with tempfile.TemporaryDirectory() as folder:
        make_rows(asked.rows).write_parquet(Path(folder) / "spine.parquet")
        make_rows(asked.rows // 5, seed=1).write_parquet(Path(folder) / "history.parquet")
        figures = {"rows": asked.rows, **compare(__file__, folder, asked.repeat)}
    print(json.dumps(figures, indent=None if asked.json else 2))


if __name__ == "__main__":
    main()
