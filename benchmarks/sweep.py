"""A sweep against plain Hydra `-m` jobs of the same bodies, and a trial against a bare `lgb.train`; one JSON object.

    python benchmarks/sweep.py [--trials 16] [--rows 80000] [--clicks 15] [--rounds 150]

The pipeline is made here: orders, and for each of them `--clicks` clicks before, looked at through many windows, so that
features cost at least three trainings. Both sides start from nothing; the bound N(F+T)/(F+NT) is made of the plain jobs' own
seconds.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from engine.dag import ancestors

HERE = Path(__file__).resolve().parent
ENGINE = str(Path(sys.executable).with_name("engine"))
PIPELINE = """\
# @package _global_
defaults: [/split: time_forward, /train: lightgbm_binary, _self_]
name: heavy
sources:
  orders:
    kind: csv
    path: data/orders.csv
    columns: {id: str, user: str, shop: str, amount: f64, at: timestamp, bad: i64}
    key: [user]
    time: at
    id: id
    decimals: {amount: 2}
  clicks:
    kind: csv
    path: data/clicks.csv
    columns: {id: i64, user: str, page: str, seconds: f64, at: timestamp}
    key: [user]
    time: at
    id: id
    decimals: {seconds: 1}
spine: {source: orders, request: {user: str, shop: str, amount: f64}}
features:
  now: {expr: amount}
  shop_ix: {encode: shop, with: vocab}
  spent_{agg}_{window}: {from: orders, by: user, of: amount, agg: [mean, max, sum], window: [1d, 7d]}
  looked_{agg}_{window}: {from: clicks, by: user, of: seconds, agg: [mean, std, max, sum, n_distinct], window: [1h, 6h, 1d, 7d, 30d]}
  pages_{window}: {from: clicks, by: user, of: page, agg: n_distinct, window: [1h, 6h, 1d, 7d, 30d]}
label: {from: orders, expr: bad, maturity: 1h}
split: {train_until: 2024-02-15, validation_until: 2024-02-20}
train: {rounds: ROUNDS, early_stopping: 0, params: {min_data_in_leaf: 50}}
evaluate: {metrics: [roc_auc], resamples: 50}
gates: {size: {kind: min_rows, rows: 10}}
"""
DAYS, USERS = 60, 2000


def make(root: Path, orders: int, clicks: int, rounds: int) -> None:
    """Write a project."""
    import numpy as np
    import polars as pl

    draw = np.random.default_rng(1)
    (root / "conf" / "pipeline").mkdir(parents=True)
    (root / "conf" / "pipeline" / "heavy.yaml").write_text(PIPELINE.replace("ROUNDS", str(rounds)))
    (root / "data").mkdir()
    amount = draw.exponential(30, orders).round(2)
    pl.DataFrame({
        "id": [f"o{index}" for index in range(orders)], "user": _names("u", draw.integers(0, USERS, orders)),
        "shop": _names("s", draw.integers(0, 40, orders)), "amount": amount, "at": _times(draw, orders),
        "bad": (draw.random(orders) < 0.1 + amount / 400).astype(int),
    }).write_csv(root / "data" / "orders.csv")  # fmt: skip
    count = orders * clicks
    pl.DataFrame({
        "id": np.arange(count), "user": _names("u", draw.integers(0, USERS, count)),
        "page": _names("p", draw.integers(0, 300, count)), "seconds": draw.exponential(20, count).round(1),
        "at": _times(draw, count),
    }).write_csv(root / "data" / "clicks.csv")  # fmt: skip


def _names(letter: str, numbers: Any) -> list[str]:
    return [f"{letter}{number}" for number in numbers]


def _times(draw: Any, count: int) -> Any:
    import numpy as np
    import polars as pl

    seconds = np.sort(draw.integers(0, DAYS * 86_400, count)) + np.datetime64("2024-01-01", "s").astype("i8")
    return pl.from_epoch(pl.Series(seconds), "s").dt.strftime("%Y-%m-%dT%H:%M:%SZ")


def timed(words: list[str], cwd: Path) -> tuple[float, str]:
    """Run a command; gives wall seconds and stdout."""
    since = time.perf_counter()
    done = subprocess.run(
        words, cwd=cwd, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(HERE.parent)}
    )
    if done.returncode not in {0, 3, 4}:
        raise SystemExit(f"{' '.join(words)} exited with {done.returncode}:\n{done.stderr[-3000:]}")
    return time.perf_counter() - since, done.stdout


def beside_bare(answer: dict[str, Any], root: Path) -> list[tuple[float, float]]:
    """Each trial's nodes once more, on one thread, and right after it a bare `lgb.train` of the same trees; seconds of both.

    The bare training gets the trial's own rows, binned beforehand. Side by side in time, since machines change their speed.
    """
    from engine.contracts import Place
    from engine.execute.request import ExecuteRequest
    from engine.execute.run import execute
    from engine.locations import Stores
    from engine.loop.running import Silent
    from engine.nodes import BODIES
    from engine.project import Project
    from engine.runs import RunFolder
    from engine.spec import SettingsSpec

    store = Stores(Project(root), SettingsSpec()).artefacts
    numbered = {trial["number"]: trial["run_id"] for trial in answer["trials"]}
    found = []
    for number in (0, *sorted(numbered)):  # the first once to warm up
        folder = RunFolder(root / "runs" / numbered[number])
        config, plan = folder.read_config(), folder.read_plan()
        plugins = (*config["plugins"], *config.get("extra_plugins", ()))
        wanted = ancestors(plan.edges, ["tune"])
        plan = msgspec.structs.replace(plan, nodes=tuple(node for node in plan.nodes if node.name in wanted))
        place = Place(root, str(root / ".plumbline" / "snapshots"), str(store.root), plugins, 1, "beside")
        request = ExecuteRequest(bodies=BODIES, threads=1, force={"train": "", "tune": ""})
        results = {result.name: result for result in execute(plan, request, place, store, Silent())}
        if wrong := [result.name for result in results.values() if result.state not in {"ran", "cached"}]:
            raise SystemExit(f"{wrong} did not end well")
        ran = [result for result in results.values() if result.state == "ran"]
        if {result.name for result in ran} != {"train", "tune"}:
            raise SystemExit(f"{[result.name for result in ran]} ran, where train and tune were to")
        inputs = {role: results[name].output for role, name in plan.node("train").inputs.items()}
        found.append((sum(result.seconds for result in ran), bare(plan.node("train").settings, inputs, place, store)))
    return found[1:]


def bare(settings: Any, inputs: dict[str, Any], place: Any, store: Any) -> float:
    """Train the trees of a `train` node on rows that are binned already; gives seconds."""
    import lightgbm

    from engine.components import catalogue_of
    from engine.contracts import Artefact, FitRequest, Work
    from engine.features.program import FeatureProgram
    from engine.nodes.prepared import prepare_rows

    held = {role: Artefact(store.open(item.digest), item.digest, item.notes) for role, item in inputs.items()}
    work = Work("train", settings, held, place.root, place, lambda *_: None)
    rows = prepare_rows(work, FeatureProgram.from_json(settings["program"]), settings["columns"])
    component = catalogue_of(place).get("trainer", "lightgbm")
    trainer: Any = component.build(msgspec.convert(settings["params"], component.params))
    fit = FitRequest("binary", settings["seed"], 1, lambda *_: None)
    trees = trainer._settings("binary", rows.train, fit)  # noqa: SLF001 - the very ones that the trial trained with
    binning = importlib.import_module(type(trainer).__module__.rpartition(".")[0] + ".binning")
    data = binning.bin_rows(rows.train, rows.held, trees, by_category=True).rows.construct()
    since = time.perf_counter()
    lightgbm.train(trees, data)
    return time.perf_counter() - since


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--rows", type=int, default=80_000)
    parser.add_argument("--clicks", type=int, default=15, help="clicks an order")
    parser.add_argument("--rounds", type=int, default=150)
    asked = parser.parse_args()
    leaves = ",".join(str(8 + 3 * index) for index in range(asked.trials))
    with tempfile.TemporaryDirectory() as folder:
        root, times = Path(folder) / "p", Path(folder) / "times"
        make(root, asked.rows, asked.clicks, asked.rounds)
        plain, _ = timed(
            [sys.executable, str(HERE / "plain_sweep.py"), "-m", f"+leaves={leaves}", f"+project={root}", f"+times={times}",
             "+words=['pipeline=heavy']", f"hydra.sweep.dir={folder}/multirun"], root,
        )  # fmt: skip
        ours, out = timed(
            [ENGINE, "run", "-m", "pipeline=heavy", f"train.params.num_leaves={leaves}", "--json", "-q"], root
        )
        answer = json.loads(out)
        jobs = [json.loads(line) for line in times.read_text().splitlines()]
        f, t = (statistics.median(job[name] for job in jobs) for name in ("data", "training"))
        n = asked.trials
        bound = n * (f + t) / (f + n * t)
        lines = (root / "runs" / f"sweep-{answer['sweep']}" / "events.jsonl").read_text().splitlines()
        ran = Counter(
            item["node"] for item in map(json.loads, lines) if item["event"] == "node" and item["state"] == "ran"
        )
        pairs = beside_bare(answer, root)
        print(json.dumps({
            "trials": n, "features_seconds": round(f, 2), "training_seconds": round(t, 2), "features_over_training": round(f / t, 2),
            "plain_seconds": round(plain, 1), "sweep_seconds": round(ours, 1), "speedup": round(plain / ours, 2), "bound": round(bound, 2),
            "share_of_bound": round(plain / ours / bound, 3), "most_executions_of_a_node": max(ran.values()),
            "trial_over_bare_lgb_train": round(statistics.median(trial / floor for trial, floor in pairs), 3),
            "trial_seconds": round(statistics.median(trial for trial, _ in pairs), 3),
            "bare_seconds": round(statistics.median(floor for _, floor in pairs), 3),
        }, indent=2))  # fmt: skip


if __name__ == "__main__":
    main()
