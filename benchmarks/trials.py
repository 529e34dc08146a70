"""Composing and planning 100 trials of the shipped pipeline, in a fresh process: wall and CPU seconds, imports apart.

python benchmarks/trials.py [TRIALS]
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    since, cpu = time.perf_counter(), time.process_time()
    from engine.project import Project
    from engine.sweeps.merging import merge
    from engine.sweeps.planning import TrialPlanner

    imports = time.process_time() - cpu
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "conf").mkdir()
        planner = TrialPlanner(Project(Path(folder)))
        plans = {}
        for number in range(count):
            words = ["pipeline=flights", f"train.params.num_leaves={8 + number}", "train.params.learning_rate=0.05"]
            trial = planner.plan(number, words, {})
            if trial.planned is None:
                raise SystemExit(str(trial.error))
            plans[number] = trial.planned.plan
        merged = merge(plans, {"ingest", "features", "split", "train", "tune"})
    print(
        json.dumps(
            {
                "trials": count,
                "nodes": len(merged.plan.nodes),
                "wall": round(time.perf_counter() - since, 2),
                "cpu": round(time.process_time() - cpu, 2),
                "cpu_of_imports": round(imports, 2),
            }
        )
    )


if __name__ == "__main__":
    main()
