"""Looking back: lists, differences, tags, the best, exports, and a run done again to the same digests."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import polars as pl
import pytest

UserProject = Any  # see conftest.py


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory, finished: tuple[UserProject, Any]) -> UserProject:
    """A project with two runs that differ in rounds."""
    root = tmp_path_factory.mktemp("two") / "p"
    project = finished[0].at(shutil.copytree(finished[0].root, root))
    assert project.engine("run", "pipeline=rides", "train.rounds=9", "--json", "-q").code in {0, 3, 4}
    return project


def test_a_diff_tells_only_what_differs(two_runs: UserProject) -> None:
    diff = two_runs.engine("runs", "diff", "1", "2", "--json").json
    assert diff["config"] == [{"name": "train.rounds", "left": 20, "right": 9}]
    assert (diff["data"], diff["features"], diff["code"], diff["environment"]) == ([], [], [], [])
    (auc,) = [item for item in diff["metrics"] if item["name"] == "roc_auc"]
    assert auc["paired"]
    assert auc["low"] <= auc["difference"] <= auc["high"]
    nodes = {node["name"]: node["same_output"] for node in diff["nodes"]}
    assert nodes["train"] is False
    assert two_runs.engine("runs", "diff", "1", "1", "--json").json["identical"] is True
    everything = two_runs.engine("runs", "diff", "1", "2", "--all", "--json").json
    assert len(everything["config"]) > 20
    assert everything["data"][0]["same_content"] is True
    assert "train.rounds" in two_runs.engine("runs", "diff", "1", "2").out


def test_lists_are_filtered_sorted_and_told_apart(two_runs: UserProject) -> None:
    def ids(*arguments: str) -> list[str]:
        return [run["run_id"] for run in two_runs.engine("runs", "list", "--json", *arguments).json]

    assert ids() == ["2", "1"]
    assert ids("--where", "train.rounds < 10") == ["2"]
    assert ids("--where", "train.rounds in (20) and metrics.roc_auc > 0.5") == ["1"]
    assert ids("--sort", "run_id") == ["1", "2"]
    assert ids("--sort", "train.rounds desc", "--limit", "1") == ["1"]
    (differing,) = {
        tuple(run["differences"]) for run in two_runs.engine("runs", "list", "--only-differences", "--json").json
    }
    assert differing == ("train.rounds",)
    wrong = two_runs.engine("runs", "list", "--where", "train.rounds <")
    assert wrong.code == 2
    assert "^" in wrong.err


def test_tags_notes_best_compare_and_export(two_runs: UserProject, tmp_path: Path) -> None:
    assert two_runs.engine("runs", "tag", "2", "team=risk", "keep", "--json").json["tags"] == {
        "keep": "",
        "team": "risk",
    }
    assert two_runs.engine("runs", "tag", "2", "keep", "--remove", "--json").json["tags"] == {"team": "risk"}
    assert [run["run_id"] for run in two_runs.engine("runs", "list", "--where", "tags.team = risk", "--json").json] == [
        "2"
    ]
    two_runs.engine("runs", "note", "2", "worth", "a", "look")
    assert "worth a look" in two_runs.engine("runs", "show", "2").out
    best = two_runs.engine("runs", "best", "log_loss", "--json").json
    listed = {run["run_id"]: run["metrics"]["log_loss"] for run in two_runs.engine("runs", "list", "--json").json}
    assert best["value"] == min(listed.values())
    assert two_runs.engine("runs", "best", "auc").code == 2
    page = tmp_path / "compare.html"
    compared = two_runs.engine("runs", "compare", "1", "2", "--json", "--html", str(page)).json
    assert [run["differences"]["train.rounds"] for run in compared] == [20, 9]
    assert page.read_text().startswith("<!DOCTYPE html>")
    for name in ("runs.csv", "runs.parquet"):
        assert two_runs.engine("runs", "export", str(tmp_path / name), "--json").json["runs"] == 2
    assert pl.read_parquet(tmp_path / "runs.parquet")["metrics.roc_auc"].dtype == pl.Float64
    assert [row["run_id"] for row in csv.DictReader((tmp_path / "runs.csv").read_text().splitlines())] == ["2", "1"]
    assert two_runs.engine("runs", "export", str(tmp_path / "runs.xls")).code == 2
    assert two_runs.engine("runs", "tag", "99", "x").code == 2


def test_a_run_is_done_again_to_the_same_digests(two_runs: UserProject) -> None:
    found = two_runs.engine("runs", "reproduce", "1", "--threads", "2", "--json")
    assert found.code == 0, found.out + found.err
    assert found.json["identical"] is True
    assert {node["name"] for node in found.json["nodes"]} >= {
        "ingest.rides",
        "features",
        "train",
        "evaluate",
        "package",
    }
    assert not Path(found.json["workspace"]).exists()


def test_the_first_node_that_differs_is_named(two_runs: UserProject, tmp_path: Path) -> None:
    project = two_runs.at(shutil.copytree(two_runs.root, tmp_path / "p"))
    path = project.root / "runs" / "2" / "plan.json"
    plan = json.loads(path.read_bytes())
    (train,) = [node for node in plan["nodes"] if node["name"] == "train"]
    train["settings"]["params"]["rounds"] = 8
    train["code"]["library:lightgbm"] = "4.0.0"
    path.write_text(json.dumps(plan))
    found = project.engine("runs", "reproduce", "2", "--json")
    assert found.code == 8
    assert found.json["first_difference"] == "train"
    assert any("library:lightgbm was 4.0.0" in reason for reason in found.json["reasons"])
    assert Path(found.json["workspace"]).exists()


def test_a_folder_deleted_under_the_index_is_told(two_runs: UserProject, tmp_path: Path) -> None:
    project = two_runs.at(shutil.copytree(two_runs.root, tmp_path / "p"))
    shutil.rmtree(project.root / "runs" / "1")
    listed = {run["run_id"]: run["folder_gone"] for run in project.engine("runs", "list", "--json").json}
    assert listed == {"2": False, "1": True}
    diff = project.engine("runs", "diff", "1", "2", "--json")
    assert diff.code == 0, diff.err
    assert diff.json["config"] == [{"name": "train.rounds", "left": 20, "right": 9}]
    assert "is gone" in diff.json["notes"][0]
    again = project.engine("runs", "reproduce", "1")
    assert again.code == 2
    assert "its folder is gone" in again.err


def test_an_index_that_was_lost_is_made_anew(two_runs: UserProject, tmp_path: Path) -> None:
    project = two_runs.at(shutil.copytree(two_runs.root, tmp_path / "p"))
    for path in (project.root / ".plumbline").glob("state.db*"):
        path.unlink()
    assert [run["run_id"] for run in project.engine("runs", "list", "--where", "train.rounds = 9", "--json").json] == [
        "2"
    ]


def test_what_produced_the_champion_is_one_command(two_runs: UserProject) -> None:
    how = two_runs.engine("models", "show", "rides", "--how", "--json").json
    assert how["run_id"] in {"1", "2"}
    assert how["data"][0]["commit"]
    assert how["plugins"]["trainer:lightgbm"]
    told = two_runs.engine("models", "show", "champion", "--how")
    assert told.code == 0, told.err
    assert "engine runs reproduce" in told.out


def test_another_clone_reads_the_sources_anew_and_says_when_they_differ(two_runs: UserProject, tmp_path: Path) -> None:
    clone = two_runs.at(tmp_path / "clone")
    for folder in ("conf", "data"):
        shutil.copytree(two_runs.root / folder, clone.root / folder)
    same = clone.engine("runs", "reproduce", str(two_runs.root / "runs" / "1"), "--threads", "1", "--json")
    assert same.code == 0, same.out + same.err
    assert same.json["identical"] is True
    clone.edit("data/rides.csv", "r17,", "r17x,")
    other = clone.engine("runs", "reproduce", str(two_runs.root / "runs" / "1"), "--json")
    assert other.code == 8
    assert other.json["first_difference"] == "ingest.rides"
    assert "other content" in other.json["reasons"][0]


def test_a_record_that_was_edited_is_not_taken_for_chance(two_runs: UserProject, tmp_path: Path) -> None:
    project = two_runs.at(shutil.copytree(two_runs.root, tmp_path / "p"))
    project.edit("runs/2/plan.json", '"rounds":9', '"rounds":8')
    found = project.engine("runs", "reproduce", "2", "--json").json
    assert found["first_difference"] == "train"
    assert "not those that ran" in found["reasons"][0]


PLUGIN = """
from dataclasses import dataclass
from engine.components import Component, Params


class OddParams(Params, frozen=True, kw_only=True):
    every: int = 5


@dataclass(frozen=True)
class OddSplit:
    params: OddParams

    def split(self, rows, seed):
        import polars as pl

        place = pl.int_range(pl.len()) % self.params.every
        return rows.select(pl.when(place == 0).then(pl.lit("test")).when(place == 1).then(pl.lit("validation"))
                           .otherwise(pl.lit("train")).alias("part"))["part"]


def components():
    return (Component(role="splitter", name="odd", params=OddParams, build=OddSplit, libraries=("polars",)),)
"""


def test_the_recorded_commit_brings_the_recorded_plugin_back(two_runs: UserProject, tmp_path: Path) -> None:
    project = two_runs.at(tmp_path / "p")
    for folder in ("conf", "data"):
        shutil.copytree(two_runs.root / folder, project.root / folder)
    project.write("plugins/odd.py", PLUGIN)
    project.write(".gitignore", "runs/\n.plumbline/\n")
    project.edit("conf/pipeline/rides.yaml", "name: rides\n", "name: rides\nextra_plugins: [odd]\n")
    project.edit(
        "conf/pipeline/rides.yaml",
        "split: {train_until: 2024-01-20, validation_until: 2024-01-25}",
        "split: {every: 4}",
    )
    project.edit("conf/pipeline/rides.yaml", "/split: time_forward", "/split: odd")
    project.edit("conf/pipeline/rides.yaml", "gates: {", "gates: {fast: {kind: latency, max_ms: 1000, calls: 20}, ")
    project.write("conf/split/odd.yaml", "kind: odd\n")
    git = ("git", "-C", str(project.root), "-c", "user.name=me", "-c", "user.email=me@example.org")
    for words in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "as it was")):
        subprocess.run([*git, *words], check=True, capture_output=True)
    assert project.engine("run", "pipeline=rides", "--json", "-q").code in {0, 3, 4}
    clone = project.at(tmp_path / "clone")  # what was measured of the first machine comes with the record
    shutil.copytree(project.root, clone.root, ignore=shutil.ignore_patterns("runs", ".plumbline", ".git"))
    again = clone.engine("runs", "reproduce", str(project.root / "runs" / "1"), "--threads", "1", "--json")
    assert again.code == 0, again.out + again.err
    assert next(node["reason"] for node in again.json["nodes"] if node["name"] == "probe.latency").startswith(
        "measured then"
    )
    project.edit("plugins/odd.py", "place == 1", "place == 2")
    edited = project.engine("runs", "reproduce", "1", "--json")
    assert (edited.code, edited.json["first_difference"]) == (8, "split")
    assert edited.json["reasons"][0].startswith("splitter:odd was ")
    kept = project.engine("runs", "reproduce", "1", "--checkout", "--json")
    assert kept.code == 0, kept.out + kept.err
    assert kept.json["identical"] is True
    left = subprocess.run([*git, "worktree", "list"], check=True, capture_output=True, text=True)
    assert len(left.stdout.splitlines()) == 1
