"""The figures of the main job, each against its floor in the same run; medians of `--repeat` runs.

    .venv/bin/python benchmarks/run.py [--repeat 5]

Prints one JSON object. Cold runs start from an empty project folder each time, with the interpreter's own caches warm,
and alternate with the plain script, so that both meet the same machine.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENGINE = str(Path(sys.executable).with_name("engine"))


def measure(command: list[str], cwd: Path) -> tuple[float, float, str]:
    """Run a command; give wall seconds, CPU seconds (with its children) and stdout."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, env=environment
    )
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} exited with {done.returncode}:\n{done.stderr[-2000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, done.stdout


def fresh_project(parent: Path) -> Path:
    """Copy the benchmark's project into an empty folder."""
    root = parent / f"project-{time.monotonic_ns()}"
    shutil.copytree(HERE / "pipeline", root)
    return root


def median_of(samples: list[tuple[float, float]]) -> dict[str, float]:
    """Give the medians of wall and CPU seconds."""
    return {"wall": statistics.median(s[0] for s in samples), "cpu": statistics.median(s[1] for s in samples)}


def repeat(command: list[str], cwd: Path, times: int) -> dict[str, float]:
    """Give the medians of one command."""
    return median_of([measure(command, cwd)[:2] for _ in range(times)])


def cold(parent: Path, times: int) -> dict[str, object]:
    """Compare a cold run with the plain script, alternating."""
    ours, floor = [], []
    run = [ENGINE, "run", "pipeline=speed", "--json", "-q"]
    for _ in range(times):
        floor.append(measure([sys.executable, str(HERE / "plain_script.py")], parent)[:2])
        root = fresh_project(parent)
        ours.append(measure(run, root)[:2])
        shutil.rmtree(root)
    a, b = median_of(ours), median_of(floor)
    return {"engine": a, "script": b, "wall_ratio": a["wall"] / b["wall"], "cpu_ratio": a["cpu"] / b["cpu"]}


def warm(parent: Path, times: int) -> dict[str, object]:
    """Time the commands that do no work on data."""
    root = fresh_project(parent)
    run = [ENGINE, "run", "pipeline=speed", "--json", "-q"]
    measure(run, root)
    found: dict[str, object] = {
        "no-op run": repeat(run, root, times),
        "engine --help": repeat([ENGINE, "--help"], root, times),
        "engine check": repeat([ENGINE, "check", "pipeline=speed"], root, times),
        "engine plan": repeat([ENGINE, "plan", "pipeline=speed"], root, times),
    }
    answer = json.loads(measure(run, root)[2])
    if answer["nodes"]["ran"]:
        raise SystemExit(f"the no-op run ran {answer['nodes']['ran']} nodes")
    return found


def main() -> None:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    times = parser.parse_args().repeat
    with tempfile.TemporaryDirectory() as folder:
        parent = Path(folder)
        figures = {"cores": os.cpu_count(), "cold run": cold(parent, times), "warm": warm(parent, times)}
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
