"""What a command may import: a start costs what the command needs, and no library that it does not use."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {
    "dask", "distributed", "jsonschema", "lightgbm", "numba", "numpy", "pandas", "polars", "pyarrow", "pygit2", "rich", "scipy",
    "sqlalchemy",
}  # fmt: skip
ROOT = Path(__file__).parents[2]
CONFIG = {"hydra", "msgspec", "omegaconf", "yaml"}
PROGRAM = """\
import json, sys
from engine.cli import main
code = main(sys.argv[2:])
with open(sys.argv[1], "w") as file:
    json.dump({"code": code, "modules": sorted({name.partition(".")[0] for name in sys.modules})}, file)
"""

PIPELINE = """\
# @package _global_
defaults: [/split: time_forward, /gates: standard, _self_]
name: tiny
sources:
  visits:
    kind: startup_rows
    path: visits.json
    columns: {visit_id: str, shop: str, spent: f64, at: timestamp, again: i64}
    key: [shop]
    time: at
    id: visit_id
    available: {delay: 1h}
spine: {source: visits, request: {shop: str, spent: f64}}
features: {cost: {expr: spent}}
label: {from: visits, expr: again, maturity: 1h}
split: {train_until: 2024-01-10, validation_until: 2024-01-14}
train: {kind: majority}
baseline: {kind: majority}
evaluate: {resamples: 100}
gates: {test_size: {rows: 10, positives: 1, negatives: 1}}
"""
PLUGIN = '''\
"""Rows of a JSON file."""
import json
from engine.components import Component, Params
from engine.contracts import Pin
from engine.keys import digest_file

class RowsParams(Params, frozen=True, kw_only=True):
    """Where they are."""
    path: str

class Rows:
    """The source."""
    def __init__(self, params):
        self.params = params
    def pin(self, root):
        return Pin({"sha256": digest_file(root / self.params.path)}, self.params.path)
    def read(self, reading):
        import polars
        yield polars.DataFrame(json.loads((reading.root / self.params.path).read_text()))

def components():
    return (Component("source", "startup_rows", RowsParams, Rows),)
'''


def start(folder: Path, *arguments: str) -> tuple[int, set[str], str]:
    """Run a command in a process of its own; gives its code, the packages it imported, and its words."""
    report = folder / "modules.json"
    report.unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(report), *arguments],
        cwd=folder, env={**os.environ, "NO_COLOR": "1"}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert report.exists(), done.stderr
    found = json.loads(report.read_text())
    return found["code"], set(found["modules"]), done.stdout + done.stderr


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose pipeline has run once."""
    root = tmp_path_factory.mktemp("tiny")
    for folder in ("conf/pipeline", "plugins"):
        (root / folder).mkdir(parents=True)
    (root / "conf" / "config.yaml").write_text(
        "defaults:\n  - builtin\n  - _self_\n  - pipeline: ???\nextra_plugins: [startup_rows]\n"
    )
    (root / "conf" / "pipeline" / "tiny.yaml").write_text(PIPELINE)
    (root / "plugins" / "startup_rows.py").write_text(PLUGIN)
    draw = random.Random(3)
    visits = [
        {
            "visit_id": f"v{index}", "shop": f"s{index % 3}", "spent": float(draw.randrange(100)), "again": draw.randrange(2),
            "at": f"2024-01-{1 + index // 20:02d}T{index % 20:02d}:00:00Z",
        }
        for index in range(400)
    ]  # fmt: skip
    (root / "visits.json").write_text(json.dumps(visits))
    code, modules, words = start(root, "run", "pipeline=tiny", "--json")
    assert code in {0, 3, 4}, words
    assert "nodes" in words
    assert modules
    return root


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("nonsense",)], ids=" ".join)
def test_words_cost_nothing(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    _, modules, _ = start(tmp_path, *arguments)
    assert modules & (HEAVY | CONFIG | {"argparse", "sqlite3", "asyncio"}) == set()


@pytest.mark.parametrize("command", ["check", "plan"])
def test_the_shipped_pipeline_is_read_without_libraries_of_data(tmp_path: Path, command: str) -> None:
    code, modules, words = start(tmp_path, command, "pipeline=flights")
    assert code == 0, words
    assert modules & HEAVY == set()


@pytest.mark.parametrize(
    "arguments",
    [("check", "pipeline=tiny"), ("plan", "pipeline=tiny"), ("run", "pipeline=tiny", "--json"), ("runs", "list"),
     ("models", "list"), ("doctor",)],
    ids=" ".join,
)  # fmt: skip
def test_a_project_that_has_run_is_looked_at_without_them(tiny: Path, arguments: tuple[str, ...]) -> None:
    code, modules, words = start(tiny, *arguments)
    assert code in {0, 3, 4}, words
    assert modules & HEAVY == set()


def test_what_was_composed_before_is_composed_without_hydra(tiny: Path) -> None:
    for _ in range(2):
        _, modules, _ = start(tiny, "run", "pipeline=tiny", "--json")
    assert modules & {"hydra", "omegaconf"} == set()


def test_the_second_run_had_nothing_to_do(tiny: Path) -> None:
    _, _, words = start(tiny, "plan", "pipeline=tiny", "--json")
    nodes = json.loads(words[words.index("{") :])["nodes"]
    assert nodes
    assert {node["state"] for node in nodes} <= {"cached", "effect"}


ONE_REQUEST = """
import random, sys
from engine.features.compute import compute
from engine.features.events import FrameReader
from engine.features.prepared import prepare
from tests.features import worlds as w

ranked = {"agg": [{"quantile": {"q": 0.5}}, {"top_k": {"k": 3}}, {"last_k": {"k": 3}}, "n_distinct", "std"], "of": "n"}
events = [{**w.crowded(random.Random(0), 0), "k": "x", "j": 0}] * 30_000
events = [{**row, "id": number, "n": number % 977, "t": number} for number, row in enumerate(events)]
asked = {"event_time": 40_000, "row_id": 1, "k": "x", "j": 0, "v": None, "n": 1, "s": None, "b": None}
feature = {"f_{agg}_{window}": {"from": "ev", "window": "1d", **ranked}}
scene = w.scene(feature, events, [asked], [], w.Setting())
alone = prepare(scene.program).features(asked, FrameReader(scene.program, scene.history))
assert w.bits(compute(scene.program, scene.spine, scene.history)) == [tuple(map(w.bits_of, alone))]
assert alone[0] is not None
print("numba" in sys.modules)
"""


def test_one_request_waits_for_no_compiler() -> None:
    """However many events its key has, as arrays and as frames, and for aggregates that sweep in many rows."""
    done = subprocess.run([sys.executable, "-c", ONE_REQUEST], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.stdout, done.stderr) == ("False\n", "")
