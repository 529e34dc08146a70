"""What the engine adds to a node: a plan of many trivial nodes, run and then found in the cache; medians.

    .venv/bin/python benchmarks/nodes.py [--nodes 1000] [--repeat 5]

Prints one JSON object, in milliseconds a node: `run` executes a body that does nothing, with every result on disk for
good; `check` looks each of them up.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from engine.contracts import Place, Work
from engine.execute.request import ExecuteRequest
from engine.execute.run import execute
from engine.keys import Json
from engine.loop.running import Silent
from engine.plan.model import ExecutionPlan, PlanNode
from engine.stores.artefacts import LocalArtefactStore

HERE = Path(__file__).resolve().parent


def trivial(work: Work) -> Mapping[str, Json]:
    """Write one word."""
    (work.out / "word").write_text(str(work.settings["word"]))
    return {}


def plan_of(size: int, salt: int) -> ExecutionPlan:
    """Make a tree of nodes, a third of them without inputs."""
    nodes = tuple(
        PlanNode(
            name=f"n{index}",
            kind="trivial",
            inputs={"in": f"n{index // 2}"} if index % 3 else {},
            settings={"word": f"{salt}.{index}"},
        )
        for index in range(size)
    )
    return ExecutionPlan(pipeline="nodes", nodes=nodes)


def timed(plan: ExecutionPlan, store: LocalArtefactStore, root: Path) -> float:
    """Execute a plan; give milliseconds a node."""
    request = ExecuteRequest(bodies={"trivial": "nodes:trivial"}, threads=1)
    place = Place(root, "", str(store.root), (), 1, "1")
    started = time.perf_counter()
    results = execute(plan, request, place, store, Silent())
    spent = time.perf_counter() - started
    if failed := [result.error for result in results if result.state not in {"ran", "cached"}]:
        raise SystemExit(f"a node failed: {failed[0]}")
    return spent / len(plan.nodes) * 1000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=5)
    asked = parser.parse_args()
    os.environ["PYTHONPATH"] = str(HERE)  # where the child finds the body
    runs, checks = [], []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        store = LocalArtefactStore(root / "store")
        timed(plan_of(1, -1), store, root)  # starts the child and imports Dask
        for salt in range(asked.repeat):
            plan = plan_of(asked.nodes, salt)
            runs.append(timed(plan, store, root))
            checks.append(timed(plan, store, root))
    figures = {"nodes": asked.nodes, "run_ms": statistics.median(runs), "check_ms": statistics.median(checks)}
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
