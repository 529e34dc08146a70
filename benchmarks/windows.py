"""Windowed aggregates against Polars `rolling` on the same rows: wall and peak memory, medians of `--repeat` runs.

    .venv/bin/python benchmarks/windows.py [--rows 10_000_000] [--repeat 3] [--json]

Keys are drawn from a Zipf law over 10,000; windows are 1h, 1d and 30d; every row is also a row to score. Each measurement
is a process of its own that reads one Parquet file, so that peak memory is its own; the two alternate. Polars works at
event time on doubles, so its sums depend on the order of the rows; ours are the same bits in any order.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import polars as pl

WINDOWS = ("1h", "1d", "30d")
AGGREGATES = ("count", "sum", "mean", "std", "min", "max", "last")
KEYS = 10_000


class NoParams(msgspec.Struct, frozen=True):
    """Parameters of a source that is given as a frame."""


def make_rows(rows: int, seed: int = 0) -> pl.DataFrame:
    """Rows in order of time, as ingest leaves them: 180 days, a skewed key, an amount in cents."""
    chance = np.random.default_rng(seed)
    weights = 1.0 / np.arange(1, KEYS + 1)
    keys = chance.choice(KEYS, size=rows, p=weights / weights.sum())
    times = np.sort(chance.integers(0, 180 * 86_400 * 10**6, rows)) + 1_600_000_000_000_000
    return pl.DataFrame(
        {
            "row_id": np.arange(rows),
            "user": keys,
            "ts": pl.Series(times).cast(pl.Datetime("us", "UTC")),
            "amt": np.round(chance.gamma(2.0, 25.0, rows), 2),
        }
    )


def ours(path: str) -> tuple[float, float]:
    """Evaluate the feature program; gives seconds and CPU seconds."""
    from engine.features.compute import compute
    from engine.features.program import compile_program
    from engine.spec import SourceSpec, SpineSpec, WindowFeature

    features = {
        f"a_{agg}_{window}": WindowFeature(
            source="txns",
            of=None if agg == "count" else "amt",
            agg=agg,
            window=window,
            decimals=2 if agg in {"sum", "mean", "std"} else None,
        )
        for window in WINDOWS
        for agg in AGGREGATES
    }
    source = SourceSpec(
        kind="parquet",
        params=NoParams(),
        columns={"row_id": "i64", "user": "i64", "ts": "timestamp", "amt": "f64"},
        key=("user",),
        time="ts",
        id="row_id",
    )
    spine = SpineSpec(source="txns", request={"user": "i64"})
    program = compile_program(features, spine, None, {"txns": source}).program
    rows = pl.read_parquet(path).rechunk()  # contiguous columns, as nodes read them
    start = time.perf_counter(), time.process_time()
    compute(program, rows.rename({"ts": "event_time"}), {"txns": rows.select(program.source_columns("txns"))})
    return time.perf_counter() - start[0], time.process_time() - start[1]


def polars(path: str) -> tuple[float, float]:
    """Evaluate three `rolling` group-bys; gives seconds and CPU seconds."""
    rows = pl.read_parquet(path).rechunk()  # contiguous columns, as nodes read them
    start = time.perf_counter(), time.process_time()
    amt = pl.col("amt")
    exprs = {"count": pl.len(), "sum": amt.sum(), "mean": amt.mean(), "std": amt.std()}
    exprs |= {"min": amt.min(), "max": amt.max(), "last": amt.last()}
    kept = [
        rows.rolling("ts", period=window, closed="left", group_by="user").agg(
            exprs[agg].alias(f"a_{agg}_{window}") for agg in AGGREGATES
        )
        for window in WINDOWS
    ]
    seconds = time.perf_counter() - start[0], time.process_time() - start[1]
    del kept
    return seconds


def measure(script: str, who: str, path: str) -> dict[str, float]:
    """Run one side in a process of its own; gives seconds, CPU seconds and peak gigabytes."""
    command = [sys.executable, script, "--side", who, "--path", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    found: dict[str, float] = json.loads(done.stdout)
    return found


def compare(script: str, path: str, times: int) -> dict[str, dict[str, float]]:
    """Alternate both sides; by figure, the medians and their ratio."""
    runs: dict[str, list[dict[str, float]]] = {"engine": [], "polars": []}
    for _ in range(times):
        for who, of_side in runs.items():
            of_side.append(measure(script, who, path))
    figures = {}
    for figure in runs["engine"][0]:
        medians = {who: statistics.median(run[figure] for run in of_side) for who, of_side in runs.items()}
        figures[figure] = {**medians, "ratio": medians["engine"] / medians["polars"]}
    return figures


def be_side(side: Callable[[str], tuple[float, float]], path: str) -> None:
    """Be one of the two processes."""
    wall, cpu = side(path)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps({"wall_s": wall, "cpu_s": cpu, "peak_gb": peak}))


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
        path = str(Path(folder) / "rows.parquet")
        make_rows(asked.rows).write_parquet(path)
        figures = {"rows": asked.rows, **compare(__file__, path, asked.repeat)}
    print(json.dumps(figures, indent=None if asked.json else 2))


if __name__ == "__main__":
    main()
