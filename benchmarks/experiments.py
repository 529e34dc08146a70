"""`engine runs list` and `diff` at 10,000 runs: whole processes, medians of five. Prints one JSON object.

python benchmarks/experiments.py [RUNS]
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from engine.keys import digest
from engine.locations import Stores
from engine.project import Project
from engine.records import Metric, RunRecord
from engine.spec import SettingsSpec

ENGINE = str(Path(sys.executable).with_name("engine"))


def fill(root: Path, count: int) -> None:
    """Record so many runs: the last three with their record, the others as rows of the index and empty folders."""
    stores, draw = Stores(Project(root), SettingsSpec()), random.Random(1)
    (root / "conf").mkdir()
    shared = {
        "features": {f"f{i}": {"expr": f"x{i} + 1"} for i in range(60)},
        "sources": {"a": {"kind": "csv", "path": "a.csv"}},
    }
    rows: list[dict[str, object]] = []
    for index in range(1, count + 1):
        folder = root / "runs" / str(index)
        folder.mkdir(parents=True)
        at, metrics = (
            f"2026-01-01T00:00:00.{index:06d}Z",
            {name: draw.random() for name in ("roc_auc", "log_loss", "brier")},
        )
        if 40 < index <= count - 3:
            template = rows[index % 40]
            rows.append(
                {
                    **template,
                    "run_id": str(index),
                    "started_at": at,
                    "metrics": json.dumps(metrics),
                    "run_dir": str(folder),
                }
            )
            continue
        leaves = draw.choice([15, 31, 63, 127])
        config = {**shared, "name": "p", "train": {"rounds": draw.randrange(50, 500), "params": {"num_leaves": leaves}}}
        record = RunRecord(
            run_id=str(index), pipeline="p", status="succeeded", verdict="promote", started_at=at,
            config_digest=digest(config), plan_digest=digest(index), overrides=(f"train.params.num_leaves={leaves}",),
            metrics=tuple(Metric(name=name, value=value) for name, value in metrics.items()),
        )  # fmt: skip
        (folder / "run.json").write_text(_whole(record))
        stores.index.record_run(record, str(folder), config)
        if index <= 40:
            rows += stores.database.query("SELECT * FROM runs WHERE run_id = ?", (str(index),))
    names = list(rows[0])
    statement = f"INSERT INTO runs ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
    with stores.database.transaction("benchmark") as transaction:
        for row in rows[40:]:
            transaction.execute(statement, [row[name] for name in names])


def _whole(record: RunRecord) -> str:
    import msgspec

    return msgspec.json.encode(record).decode()


def measure(root: Path, *words: str) -> float:
    """Time a command five times; gives the median."""
    times = []
    for _ in range(5):
        since = time.perf_counter()
        subprocess.run([ENGINE, *words], cwd=root, check=True, capture_output=True)
        times.append(time.perf_counter() - since)
    return round(statistics.median(times), 3)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        fill(root, count)
        where = "metrics.roc_auc > 0.9 and train.params.num_leaves = 63"
        found = {
            "runs": count,
            "help": measure(root, "runs", "--help"),
            "list": measure(root, "runs", "list"),
            "list_where_sort": measure(root, "runs", "list", "--where", where, "--sort", "metrics.roc_auc desc"),
            "list_only_differences": measure(root, "runs", "list", "--only-differences"),
            "diff": measure(root, "runs", "diff", str(count - 1), str(count)),
            "best": measure(root, "runs", "best", "roc_auc"),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
