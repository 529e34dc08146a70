"""HTTP serving: this server against `mlflow models serve`, the same LightGBM model, one worker each, concurrency 16.

    python benchmarks/serving.py [--seconds 5] [--trees 500] [--peer /path/to/venv/bin/python]

`--peer` is the interpreter of an environment that has `mlflow` and `lightgbm` (this one when absent). Both are asked by the same
client (`wrk`), in turns, in one run; the ratio is what counts. A pipeline of 20 request fields that the model sees as they are is
trained once; MLflow serves its booster from an MLflow model directory made here.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

FIELDS, ROWS, CLIENTS, ROUNDS = 20, 4000, 16, 3
BIN = Path(sys.executable).parent


def pipeline(trees: int) -> str:
    names = [f"x{index}" for index in range(FIELDS)]
    return "\n".join([
        "# @package _global_",
        "defaults: [/split: time_forward, /train: lightgbm_binary, /gates: standard, _self_]",
        "name: bench",
        "sources:",
        "  rows:",
        "    kind: csv",
        "    path: data/rows.csv",
        "    columns: {row_key: str, at: timestamp, y: i64, " + ", ".join(f"{name}: f64" for name in names) + "}",
        "    key: [row_key]",
        "    time: at",
        "    id: row_key",
        "spine: {source: rows, request: {" + ", ".join(f"{name}: f64" for name in names) + "}}",
        "features: {" + ", ".join(f"f{index}: {{expr: {name}}}" for index, name in enumerate(names)) + "}",
        "label: {from: rows, expr: y}",
        "split: {train_until: 2024-01-21, validation_until: 2024-01-24}",
        f"train: {{rounds: {trees}, early_stopping: 0}}",
        "baseline: {kind: majority}",
        "evaluate: {resamples: 50}",
    ])  # fmt: skip


def rows() -> str:
    draw = random.Random(1)
    lines = [",".join(["row_key", "at", "y", *(f"x{index}" for index in range(FIELDS))])]
    for index in range(ROWS):
        x = [round(draw.gauss(0, 1), 4) for _ in range(FIELDS)]
        y = int(x[0] + x[1] * x[2] + draw.gauss(0, 0.5) > 0)
        day, minute = 1 + index * 27 // ROWS, index % 1440
        lines.append(f"k{index},2024-01-{day:02}T{minute // 60:02}:{minute % 60:02}:00Z,{y}," + ",".join(map(str, x)))
    return "\n".join(lines) + "\n"


def prepare(root: Path, trees: int) -> Path:
    (root / "conf" / "pipeline").mkdir(parents=True)
    (root / "data").mkdir()
    (root / "conf" / "pipeline" / "bench.yaml").write_text(pipeline(trees))
    (root / "data" / "rows.csv").write_text(rows())
    done = subprocess.run(
        [BIN / "engine", "run", "pipeline=bench", "-q", "--json"], cwd=root, capture_output=True, text=True, check=False
    )
    answer = json.loads(done.stdout)
    if answer["status"] != "succeeded":
        sys.exit(done.stderr)
    subprocess.run(
        [BIN / "engine", "models", "promote", "bench", "1", "--force", "--reason", "benchmark"],
        cwd=root,
        capture_output=True,
        check=True,
    )
    shown = subprocess.run(
        [BIN / "engine", "models", "show", "bench", "1", "--json"], cwd=root, capture_output=True, text=True, check=True
    )
    return Path(json.loads(shown.stdout)["package"])


def save_mlflow(peer: Path, package: Path, target: Path) -> None:
    program = "import sys, lightgbm, mlflow.lightgbm as m; m.save_model(lightgbm.Booster(model_file=sys.argv[1]), sys.argv[2])"
    model = package / "model" / "model.txt"
    subprocess.run([peer, "-c", program, model, target], capture_output=True, check=True)


def wait(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        if process.poll() is not None:
            sys.exit(f"{process.args}: ended with {process.returncode}")
        try:
            urllib.request.urlopen(url, timeout=1).read()
            return
        except OSError:
            time.sleep(0.2)
    sys.exit(f"{url} did not answer")


def ask(url: str, body: str, folder: Path, seconds: int) -> tuple[float, float, float, int]:
    """Requests a second, p50 and p99 in milliseconds, and failures."""
    script = folder / "ask.lua"
    script.write_text(f"wrk.method='POST'\nwrk.headers['Content-Type']='application/json'\nwrk.body=[==[{body}]==]\n")
    command = ["wrk", "-t1", f"-c{CLIENTS}", f"-d{seconds}s", "-s", str(script), "--latency", url]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", told)[1])
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", told)
    return rate, _ms(told, "50%"), _ms(told, "99%"), int(failed[1]) if failed else 0


def _ms(told: str, share: str) -> float:
    value, unit = re.search(rf"{share}\s+([\d.]+)(us|ms|s)", told).groups()
    return float(value) * {"us": 1e-3, "ms": 1, "s": 1e3}[unit]


def main() -> None:
    """Measure in turns, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--trees", type=int, default=500)
    parser.add_argument("--peer", type=Path, default=Path(sys.executable))
    asked = parser.parse_args()
    seconds, peer = asked.seconds, asked.peer.parent
    if shutil.which("wrk") is None:
        sys.exit("wrk is needed: apt-get install wrk")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        package = prepare(root, asked.trees)
        save_mlflow(asked.peer, package, root / "mlflow")
        names = json.loads((package / "train.json").read_text())["columns"]
        values = [0.5] * FIELDS
        ours = json.dumps({f"x{index}": value for index, value in enumerate(values)})
        theirs = json.dumps({"dataframe_split": {"columns": names, "data": [values]}})
        command = [BIN / "engine", "serve", "model=bench@champion", "--port", "5098"]
        started = [subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)]
        mlflow = [
            peer / "mlflow",
            "models",
            "serve",
            "-m",
            str(root / "mlflow"),
            "-p",
            "5097",
            "--env-manager",
            "local",
            "-w",
            "1",
        ]
        environment = {**os.environ, "PATH": f"{peer}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
        started.append(
            subprocess.Popen(
                mlflow, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
            )
        )
        try:
            wait("http://127.0.0.1:5098/healthz", started[0])
            wait("http://127.0.0.1:5097/ping", started[1])
            found: dict[str, list[tuple[float, float, float, int]]] = {"plumbline": [], "mlflow": []}
            for _ in range(ROUNDS):
                found["plumbline"].append(ask("http://127.0.0.1:5098/predict", ours, root, seconds))
                found["mlflow"].append(ask("http://127.0.0.1:5097/invocations", theirs, root, seconds))
        finally:
            started[0].terminate()
            started[0].wait()
            os.killpg(started[1].pid, signal.SIGTERM)
            started[1].wait()
        measures = ("requests_per_second", "p50_ms", "p99_ms", "failed")
        table = {
            who: {
                name: statistics.median(values)
                for name, values in zip(measures, zip(*rounds, strict=True), strict=True)
            }
            for who, rounds in found.items()
        }
        table["ratio"] = {
            "requests_per_second": table["plumbline"]["requests_per_second"] / table["mlflow"]["requests_per_second"],
            "p99": table["plumbline"]["p99_ms"] / table["mlflow"]["p99_ms"],
        }
        print(json.dumps(table, indent=2))


if __name__ == "__main__":
    main()
