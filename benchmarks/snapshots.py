"""Snapshot stores against their targets; medians of `--repeat` rounds, ratios within the same round.

    .venv/bin/python benchmarks/snapshots.py [--objects 10000] [--rows 4000000] [--repeat 5] [--only history|scan]

`commit`, `merge`, `diff`: the embedded store with that many small objects, in seconds. `scan`: a query over three of five columns
of a table in four objects at a commit, over the same query on the bare files; for lakeFS too when `LAKEFS_ENDPOINT` is set (with the
key pair in the environment). Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from engine.contracts import SnapshotStore
from engine.nodes.frames import scan_objects
from engine.nodes.publish import ROW_GROUP
from engine.stores.snapshots import open_snapshots

REPO = "plumbline-bench"


def seconds(call: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def history(root: Path, count: int) -> dict[str, float]:
    """Commit `count` objects on each of two branches, merge one into the other, and compare the two commits."""
    store = open_snapshots(str(root / "snapshots"))
    store.ensure_repository(REPO)
    store.create_branch(REPO, "work", "main")
    found = {}
    for branch in ("main", "work"):
        folder = root / branch
        folder.mkdir()
        files = {}
        for number in range(count):
            (folder / f"{number}").write_text(f"{branch} {number}")
            files[f"{branch}/{number % 100:02d}/{number:06d}.parquet"] = folder / f"{number}"
        found[f"put on {branch}"] = seconds(lambda branch=branch, files=files: store.put_many(REPO, branch, files))  # type: ignore[misc]
        found[f"commit on {branch}"] = seconds(lambda branch=branch: store.commit(REPO, branch, "many", {}))  # type: ignore[misc]
    found["diff"] = seconds(lambda: store.diff(REPO, "main", "work"))
    found["merge"] = seconds(lambda: store.merge(REPO, "work", "main", "merge", {}))
    return found


def make_table(root: Path, rows: int) -> list[Path]:
    """Write four files of a table with five columns, as an ingestion writes its partitions."""
    draw, files = np.random.default_rng(1), []
    for number in range(4):
        size = rows // 4
        frame = pl.DataFrame({
            "id": np.arange(size) + number * size, "x": draw.normal(size=size), "y": draw.normal(size=size),
            "z": draw.normal(size=size), "n": draw.integers(0, 1000, size),
        })  # fmt: skip
        files.append(root / f"{number}.parquet")
        frame.write_parquet(files[-1], compression="zstd", compression_level=1, row_group_size=ROW_GROUP)
    return files


def query(rows: pl.LazyFrame) -> pl.DataFrame:
    """Ask for a sum over most rows."""
    return rows.filter(pl.col("n") < 900).select(pl.col("x").sum(), pl.col("id").max()).collect()


def scans(url: str, files: list[Path], repeat: int) -> dict[str, float]:
    """Compare a scan at a commit with one of the bare files; the store is opened anew each time."""
    store = open_snapshots(url)
    repository = f"{REPO}-{secrets.token_hex(4)}"
    store.ensure_repository(repository)
    store.put_many(repository, "main", {f"t/{file.name}": file for file in files})
    commit = store.commit(repository, "main", "table", {}).id
    place = (repository, commit)

    def at_commit(opened: SnapshotStore) -> pl.DataFrame:
        found = opened.scan(repository, commit, "t/")
        return query(pl.scan_parquet(list(found.locations), glob=False, storage_options=dict(found.options) or None))

    bare, scan, verified = [], [], []
    for _ in range(repeat + 1):
        bare.append(seconds(lambda: query(pl.scan_parquet(files, glob=False))))
        scan.append(seconds(lambda: at_commit(open_snapshots(url))))
        verified.append(seconds(lambda: query(scan_objects(store, place, [f"t/{file.name}" for file in files]))))
    pairs = list(zip(scan, verified, bare, strict=True))[1:]  # the first round fills caches
    return {
        "bare seconds": statistics.median(bare[1:]),
        "scan over bare": statistics.median(a / c for a, _, c in pairs),
        "scan of a node over bare": statistics.median(b / c for _, b, c in pairs),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--only", choices=["history", "scan"])
    arguments = parser.parse_args()
    figures: dict[str, object] = {"cores": os.cpu_count()}
    if arguments.only != "scan":
        figures |= {"objects": arguments.objects, "seconds": histories(arguments.objects, arguments.repeat)}
    if arguments.only != "history":
        figures |= {"rows": arguments.rows, **all_scans(arguments.rows, arguments.repeat)}
    print(json.dumps(figures, indent=2))


def histories(count: int, repeat: int) -> dict[str, float]:
    """Give the medians of rounds, each in a store of its own."""
    rounds = []
    for _ in range(repeat):
        with tempfile.TemporaryDirectory() as folder:
            rounds.append(history(Path(folder), count))
    return {name: round(statistics.median(item[name] for item in rounds), 3) for name in rounds[0]}


def all_scans(rows: int, repeat: int) -> dict[str, object]:
    """Scan at a commit of every store that is there."""
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        files = make_table(Path(folder), rows)
        urls = {"embedded": str(Path(folder) / "snapshots")}
        if "LAKEFS_ENDPOINT" in os.environ:
            address = os.environ["LAKEFS_ENDPOINT"].rpartition("://")[2]
            urls["lakeFS"] = f"lakefs+http://{address}?namespace=local://bench-{secrets.token_hex(6)}"
        for name, url in urls.items():
            figures[f"scan, {name}"] = {key: round(value, 3) for key, value in scans(url, files, repeat).items()}
    return figures


if __name__ == "__main__":
    main()
