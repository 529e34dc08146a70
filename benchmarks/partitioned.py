"""Features of an event table that does not fit into memory: time and resident memory for 1x, 2x, … rows.

Events are generated straight into Parquet, a part at a time; every twentieth row is one of the spine. The program has windows
and a lookup by two keys. Each size runs as a node of a plan, with its parts in turn and side by side: the bytes are the same.

    python benchmarks/partitioned.py --rows 10e6 20e6 --folder /tmp/plumbline-partitioned
    python benchmarks/partitioned.py --rows 100e6 --workers 2   # some 4 GB of Parquet and 20 GB of scratch, deleted at the end
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from engine.contracts import Place, Work
from engine.execute.pool import POOL
from engine.execute.request import ExecuteRequest
from engine.execute.run import execute
from engine.features.program import FeatureProgram, compile_program
from engine.features.timestamps import TIMESTAMP
from engine.nodes.partitioned import compute_spilled
from engine.nodes.spill import height_of
from engine.nodes.spilled_job import SLICE, Files, JobFile, Sizes, open_job
from engine.plan.model import ExecutionPlan, PlanNode
from engine.records import Event
from engine.spec import FEATURE_KINDS, LabelSpec, SourceSpec, SpineSpec
from engine.stores.artefacts import LocalArtefactStore

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


def compute(folder: Path, most: int, workers: int) -> dict[str, Any]:
    """Compute as a node of a plan; seconds, and the highest resident memory of all processes together and of the largest."""
    plan = PlanNode(
        name="features",
        kind="features",
        settings={"program": make_program().to_json(), "folder": str(folder), "bucket": most},
        timeout_seconds=36_000.0,
        retries=0,
    )
    request = ExecuteRequest(bodies={"features": "partitioned:body"}, workers=workers)
    place = Place(folder, "", str(folder.with_name("store")), (), 1, "1")
    store = LocalArtefactStore(folder.with_name("store"))
    watch = Resident()
    watch.start()
    started = time.perf_counter()
    (result,) = execute(ExecutionPlan(pipeline="p", nodes=(plan,)), request, place, store, Heard())
    seconds = time.perf_counter() - started
    watch.ended.set()
    watch.join()
    if result.output is None:
        raise SystemExit(str(result.error))
    POOL.close()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        **result.output.notes,
        "workers": workers,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "resident_gib": round(watch.most / 2**30, 2),
        "sha256": hashlib.sha256((store.open(result.output.digest) / "rows.parquet").read_bytes()).hexdigest()[:16],
    }


def body(work: Work) -> dict[str, Any]:
    """The node: what the features node does with sources of so many rows."""
    settings: Any = work.settings
    paths = sorted(Path(settings["folder"]).glob("*.parquet"))
    files = Files(tuple(map(str, paths)), tuple(map(height_of, paths)))
    most = max(settings["bucket"] // work.parts.beside, 1)
    job = JobFile(
        program=settings["program"],
        files={"txns": files},
        sizes=Sizes(most, most, min(most, SLICE)),
        as_of=None,
        sample=None,
    )
    scratch = work.out.with_name(f"{work.out.name}.features")
    made = compute_spilled(open_job(work, job, scratch), work.out / "rows.parquet")
    return {"events": sum(files.heights), "spine": made.rows}


class Heard:
    """Tells of progress on standard error."""

    def on_event(self, event: Event) -> None:
        """See `Observer`."""
        if event.event in {"progress", "log"}:
            print(time.strftime("%H:%M:%S"), event.message, event.done, file=sys.stderr, flush=True)


class Resident(threading.Thread):
    """Looks every fifth of a second how much memory this process and all that it started hold: each page once (PSS)."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.ended = threading.Event()
        self.most = 0

    def run(self) -> None:
        """See `Thread`."""
        while not self.ended.wait(0.2):
            self.most = max(self.most, sum(map(held, family(os.getpid()))))


def family(root: int) -> list[int]:
    """A process and all that descends from it."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found)


def held(pid: int) -> int:
    """Bytes of anonymous and shared memory that count for this process; files that are only mapped may go at any time."""
    with suppress(OSError):
        lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
        return int(lines["Pss"].split()[0]) * 1024
    return 0


def main() -> None:
    """Generate, compute each size in its own process, print one JSON line a size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=float, nargs="+", default=[5e6, 10e6])
    parser.add_argument("--bucket", type=int, default=3_000_000, help="rows of a bucket")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/plumbline-partitioned"))
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="parts side by side")
    parser.add_argument("--compute", action="store_true", help="only compute what the folder holds, in this process")
    arguments = parser.parse_args()
    if arguments.compute:
        print(json.dumps(compute(arguments.folder, arguments.bucket, arguments.workers[0])), flush=True)
        return
    for rows in arguments.rows:
        folder = arguments.folder / f"{int(rows)}"
        shutil.rmtree(arguments.folder, ignore_errors=True)
        generate(folder, int(rows))
        for workers in arguments.workers:
            command = [
                sys.executable,
                __file__,
                "--compute",
                "--folder",
                str(folder),
                "--bucket",
                str(arguments.bucket),
            ]
            subprocess.run([*command, "--workers", str(workers)], check=True)
            shutil.rmtree(folder.with_name("store"))
        shutil.rmtree(arguments.folder)


if __name__ == "__main__":
    main()
