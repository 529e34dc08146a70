"""A backtest of five policies on 40 weeks of flights, against the five run apart; one JSON object.

    python benchmarks/backtest.py prepare                 # ingest and features of flights, once; not timed
    python benchmarks/backtest.py together                # the five at once, sharing every node; what users run
    python benchmarks/backtest.py apart --policy monthly  # one alone, with only the trainings that it launches
    python benchmarks/backtest.py table                   # what was measured so far

Each begins with the features and with nothing else. Apart, a policy trains at its own moments only, as a loop of retrainings
would; it is not charged for retraining always, which the five together need as the measure of regret.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from engine.api import plan
from engine.backtest.moments import Asked, choose_moments
from engine.backtest.planning import BACKTEST_BODIES, MEASURE, Wanted, whole_plan
from engine.backtest.policies import choose_policies
from engine.backtest.running import declare_backtest
from engine.clock import stopwatch
from engine.commands.backtest import _moment
from engine.execute.request import ExecuteRequest
from engine.execute.run import execute
from engine.loop.running import Silent
from engine.project import Project
from engine.running import place_of

POLICIES = ("never", "weekly", "monthly", "drift", "performance")
FROM, TO = "2013-03-25", "2013-12-30"
OVERRIDES = ("pipeline=flights", "watch.chunk.by=week")


def main() -> None:
    """Do one step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("prepare", "together", "apart", "table"))
    parser.add_argument("--policy", choices=POLICIES)
    parser.add_argument("--work", type=Path, default=Path("/tmp/plumbline-backtest"))
    arguments = parser.parse_args()
    step = {"prepare": _prepare, "together": _together, "apart": _apart, "table": _table}[arguments.step]
    print(json.dumps(step(arguments.work, arguments.policy), indent=1))


def _prepare(work: Path, _: str | None) -> dict[str, Any]:
    root = work / "prepared"
    (root / "conf").mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "engine", "run", "--project", str(root), "--to", "features", "-q", *OVERRIDES]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return {"prepared": done.returncode == 0, "said": done.stdout.splitlines()[:1]}


def _fresh(work: Path, name: str) -> Path:
    root = work / name
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(work / "prepared", root, symlinks=True)
    return root


def _together(work: Path, _: str | None) -> dict[str, Any]:
    root = _fresh(work, "together")
    command = [sys.executable, "-m", "engine", "backtest", "--project", str(root), "--from", FROM, "--to", TO, "--policies",
               ",".join(POLICIES), "--json", "-q", *OVERRIDES]  # fmt: skip
    seconds = []
    for _index in range(2):
        since = stopwatch()
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds.append(stopwatch() - since)
    report = json.loads(done.stdout)
    found = {policy["name"]: policy for policy in report["result"]["policies"]}
    kept = {
        "seconds": seconds[0],
        "again": seconds[1],
        "again_ran": report["nodes"]["ran"],
        "nodes": report["nodes"]["ran"] + report["nodes"]["cached"],
        "periods": len(found["always"]["periods"]),
        "trained": {
            name: [index for index, item in enumerate(policy["decisions"]) if item["trained"]]
            for name, policy in found.items()
        },
    }
    return _keep(work, "together", kept)


def _apart(work: Path, policy: str | None) -> dict[str, Any]:
    """Run one policy alone, in this process: the plan without the others, without `always`, without what it never trains."""
    if policy is None:
        raise SystemExit("apart needs --policy")
    trained = json.loads((work / "figures.json").read_text())["together"]["trained"]
    root = _fresh(work, f"apart-{policy}")
    since = stopwatch()
    planned = plan(declare_backtest(Project(root), OVERRIDES))
    spec, catalogue = planned.declared.spec, planned.declared.catalogue
    policies = tuple(item for item in choose_policies(spec, (policy,), {}, catalogue) if item.name == policy)
    start, end = _moment(FROM, "--from"), _moment(TO, "--to")
    if start is None or end is None:
        raise SystemExit("no time")
    moments = choose_moments(start.replace(month=1, day=1), end, Asked(start, end))
    wanted = Wanted(moments, policies, "roc_auc", "scores", {policy: trained[policy]})
    nodes = whole_plan(planned, wanted)
    nodes = type(nodes)(pipeline=nodes.pipeline, nodes=tuple(node for node in nodes.nodes if node.name != MEASURE))
    request = ExecuteRequest(bodies=BACKTEST_BODIES, workers=2, threads=1)
    results = execute(nodes, request, place_of(planned, "backtest"), planned.stores.artefacts, Silent())
    failed = [result.error for result in results if result.state == "failed"]
    kept = {"seconds": stopwatch() - since, "nodes": len(results), "failed": failed[:1]}
    return _keep(work, f"apart-{policy}", kept)


def _keep(work: Path, name: str, figures: dict[str, Any]) -> dict[str, Any]:
    path = work / "figures.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**known, name: figures}, indent=1))
    return figures


def _table(work: Path, _: str | None) -> dict[str, Any]:
    known = json.loads((work / "figures.json").read_text())
    apart = {name: known[f"apart-{name}"]["seconds"] for name in POLICIES if f"apart-{name}" in known}
    together = known["together"]["seconds"]
    whole = sum(apart.values()) if len(apart) == len(POLICIES) else None
    return {
        "together_seconds": together,
        "again_seconds": known["together"]["again"],
        "again_nodes_run": known["together"]["again_ran"],
        "periods": known["together"]["periods"],
        "apart_seconds": apart,
        "apart_sum": whole,
        "ratio": together / whole if whole else None,
        "targets": {"together_seconds": 300, "ratio": 0.5},
    }


if __name__ == "__main__":
    main()
