"""Features of an event table that does not fit into memory: time and resident memory for 1x, 2x, … rows.

Events are generated straight into Parquet, a part at a time; every twentieth row is one of the spine. The program has windows
and a lookup by two keys. Each size runs in a process of its own, whose highest resident memory is read at its end.

    python benchmarks/partitioned.py --rows 10e6 20e6 --folder /tmp/plumbline-partitioned
    python benchmarks/partitioned.py --rows 100e6        # some 4 GB of Parquet and 10 GB of scratch, deleted at the end
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from engine.features.program import FeatureProgram, compile_program
from engine.features.timestamps import TIMESTAMP
from engine.nodes.partitioned import compute_spilled
from engine.nodes.spill import ParquetTable
from engine.nodes.spilled_spine import Job, Sizes
from engine.spec import FEATURE_KINDS, LabelSpec, SourceSpec, SpineSpec

PART = 2_000_000
COLUMNS = {"id": "i64", "user": "i64", "shop": "i64", "at": "timestamp", "amount": "f64", "asked": "bool"}


class Nowhere(msgspec.Struct, frozen=True):
    """Parameters of a source that is never read here."""


def make_program() -> FeatureProgram:
    """Fourteen windows and a lookup by two keys, and a label on the rows themselves."""
    features: dict[str, Any] = {
        "user_{agg}_{window}": {
            "from": "txns", "by": ["user"], "of": "amount", "agg": ["count", "sum", "mean", "std", "max"],
            "window": ["1d", "30d"],
        },
        "shop_{agg}_7d": {"from": "txns", "by": ["shop"], "of": "amount", "agg": ["count", "mean", "min"], "window": "7d"},
        "last": {"lookup": "txns.amount", "default": 0.0},
        "ratio": {"expr": "amount / NULLIF(user_mean_30d, 0)", "default": 1.0},
    }  # fmt: skip
    source = SourceSpec(
        kind="n", params=Nowhere(), columns=COLUMNS, key=("user",), time="at", id="id", decimals={"amount": 2}
    )
    typed = {
        name: msgspec.convert(feature, next(FEATURE_KINDS[key] for key in FEATURE_KINDS if key in feature))
        for name, feature in features.items()
    }
    spine = SpineSpec(source="txns", request={"user": "i64", "shop": "i64", "amount": "f64"}, where="asked")
    return compile_program(
        typed, spine, LabelSpec(source="txns", expr="id % 2", maturity="0s"), {"txns": source}
    ).program


def generate(folder: Path, rows: int) -> None:
    """Events in order of time, users by a heavy-tailed law, written part by part."""
    chance = np.random.default_rng(1)
    folder.mkdir(parents=True)
    step = 3_000_000_000_000 * 30 // rows  # microseconds between two events: three years in all
    for start in range(0, rows, PART):
        size = min(PART, rows - start)
        pl.DataFrame(
            {
                "id": np.arange(start, start + size),
                "user": (chance.pareto(1.1, size) * 1000).astype(np.int64) % 1_000_000,
                "shop": chance.integers(0, 20_000, size),
                "at": pl.Series((start + np.arange(size)) * step).cast(TIMESTAMP),
                "amount": np.round(chance.lognormal(3, 1, size), 2),
                "asked": chance.random(size) < 0.05,
            }
        ).write_parquet(folder / f"{start:012d}.parquet", row_group_size=131_072)


def compute(folder: Path, most: int) -> dict[str, Any]:
    """Compute in this process; seconds and highest resident memory."""
    table = ParquetTable(tuple(sorted(folder.glob("*.parquet"))))
    scratch = folder.with_name(f"{folder.name}-scratch")
    shutil.rmtree(scratch, ignore_errors=True)
    started = time.perf_counter()
    job = Job(make_program(), {"txns": table}, scratch, Sizes(most, most), None)
    made = compute_spilled(job, folder.with_name(f"{folder.name}.out"), lambda rows: rows, lambda *_: None)
    seconds = time.perf_counter() - started
    shutil.rmtree(scratch)
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "events": table.height,
        "spine": made.rows,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "resident_gib": round(used.ru_maxrss / 2**20, 2),
    }


def main() -> None:
    """Generate, compute each size in its own process, print one JSON line a size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=float, nargs="+", default=[5e6, 10e6])
    parser.add_argument("--bucket", type=int, default=3_000_000, help="rows of a bucket")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/plumbline-partitioned"))
    parser.add_argument("--compute", action="store_true", help="only compute what the folder holds, in this process")
    arguments = parser.parse_args()
    if arguments.compute:
        print(json.dumps(compute(arguments.folder, arguments.bucket)), flush=True)
        return
    for rows in arguments.rows:
        folder = arguments.folder / f"{int(rows)}"
        shutil.rmtree(arguments.folder, ignore_errors=True)
        generate(folder, int(rows))
        command = [sys.executable, __file__, "--compute", "--folder", str(folder), "--bucket", str(arguments.bucket)]
        subprocess.run(command, check=True)
        shutil.rmtree(arguments.folder)


if __name__ == "__main__":
    main()
