"""From nothing to a champion with one command, and what can be asked afterwards."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from engine.project import shipped

UserProject = Any  # see conftest.py
Finished = tuple[UserProject, Any]


def copied(finished: Finished, to: Path) -> UserProject:
    shutil.copytree(finished[0].root, to, dirs_exist_ok=True)
    return finished[0].at(to)


def test_one_command_ends_with_a_champion(finished: Finished) -> None:
    _, answer = finished
    assert (answer["status"], answer["verdict"], answer["model"], answer["promoted"]) == (
        "succeeded",
        "promote",
        "rides:1",
        True,
    )
    assert answer["nodes"] == {"ran": 10, "cached": 0, "failed": 0, "skipped": 0}
    assert 0.6 < answer["metrics"]["roc_auc"] < 0.95
    low, high = answer["intervals"]["roc_auc"]
    assert low < answer["metrics"]["roc_auc"] < high
    assert Path(answer["report"]).read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(("file", "schema"), [("run.json", "run-record"), ("answer", "run-answer")])
def test_records_keep_their_published_schema(finished: Finished, file: str, schema: str) -> None:
    project, answer = finished
    document = answer if file == "answer" else project.record("1")
    (published,) = (shipped("schemas") / "records").glob(f"{schema}*.json")
    jsonschema.Draft202012Validator(json.loads(published.read_bytes())).validate(document)


def test_the_run_folder_is_complete(finished: Finished) -> None:
    project, _ = finished
    folder = project.root / "runs" / "1"
    names = {path.name for path in folder.iterdir()}
    assert {"run.json", "plan.json", "spec.json", "config.yaml", "origins.json", "events.jsonl", "report.html"} <= names
    record = project.record("1")
    assert record["environment"]["packages"]["polars"]
    assert {node["state"] for node in record["nodes"]} == {"ran"}
    assert record["snapshots"][0]["commit"]
    origins = {item["path"]: item["origin"] for item in json.loads((folder / "origins.json").read_bytes())}
    assert "rides.yaml" in origins["train.rounds"]
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert {"node", "run"} <= {event["event"] for event in events}
    assert all(event["run_id"] == "1" for event in events)


def test_a_second_run_has_nothing_to_do(finished: Finished, tmp_path: Path) -> None:
    project = copied(finished, tmp_path)
    answer = project.engine("run", "pipeline=rides", "--json", "-q").json
    assert answer["nodes"]["ran"] == 0
    assert (answer["verdict"], answer["model"], answer["promoted"]) == ("promote", "rides:1", True)


def test_plan_tells_what_a_change_costs(finished: Finished, tmp_path: Path) -> None:
    project, _ = finished
    nodes = {node["name"]: node for node in project.engine("plan", "pipeline=rides", "--json").json["nodes"]}
    assert {node["state"] for name, node in nodes.items() if name != "promote"} == {"cached"}
    told = project.engine("plan", "pipeline=rides", "train.params.num_leaves=15", "--graph", str(tmp_path / "p.svg"))
    assert "train.params.num_leaves: 31 -> 15" in told.out
    assert (tmp_path / "p.svg").read_text().lstrip().startswith("<svg")
    window = project.engine("plan", "pipeline=rides", "features.driver_late_{window}.window=[1d,3d]", "--json")
    assert window.code == 0 or "{" in window.err


def test_check_touches_no_data(project: UserProject) -> None:
    (project.root / "data" / "rides.csv").unlink()
    outcome = project.engine("check", "pipeline=rides", "--json")
    assert outcome.code == 0
    assert outcome.json["features"] == 5
    assert not (project.root / ".plumbline").exists()


def test_only_what_depends_on_a_change_runs(finished: Finished, tmp_path: Path) -> None:
    project = copied(finished, tmp_path)
    answer = project.engine("run", "pipeline=rides", "evaluate.resamples=60", "--json", "-q").json
    states = {node["name"]: node["state"] for node in project.record(answer["run_id"])["nodes"]}
    assert {name for name, state in states.items() if state == "cached"} == {
        "ingest.rides",
        "features",
        "split",
        "train",
        "baseline",
        "probe.parity",
    }


def test_a_comment_in_the_data_file_that_changes_no_row_stops_at_ingest(finished: Finished, tmp_path: Path) -> None:
    project = copied(finished, tmp_path)
    path = project.root / "data" / "rides.csv"
    path.write_text(path.read_text().rstrip("\n") + "\r\n")  # other bytes, the same rows
    answer = project.engine("run", "pipeline=rides", "--json", "-q").json
    ran = [node["name"] for node in project.record(answer["run_id"])["nodes"] if node["state"] == "ran"]
    assert ran == ["ingest.rides"]


def test_prose_trains_nothing(finished: Finished, tmp_path: Path) -> None:
    project = copied(finished, tmp_path)
    project.edit("conf/pipeline/rides.yaml", "name: rides", "name: rides\ndoc: words\nowner: me")
    project.edit("conf/pipeline/rides.yaml", "km: {expr: distance}", "km: {expr: distance, doc: how far}")
    assert project.engine("run", "pipeline=rides", "--json", "-q").json["nodes"]["ran"] == 0


def test_a_sample_registers_nothing(finished: Finished, tmp_path: Path) -> None:
    project = copied(finished, tmp_path)
    outcome = project.engine(
        "run", "pipeline=rides", "--sample", "40%", "gates={}", "+gates.n={kind: min_rows, rows: 10}", "--json", "-q"
    )
    assert outcome.json["model"] is None
    assert len(project.engine("models", "list", "--json").json) == 1


def test_force_needs_a_reason_and_runs_just_that_node(finished: Finished, tmp_path: Path) -> None:
    project = copied(finished, tmp_path)
    assert project.engine("run", "pipeline=rides", "--force", "train").code == 2
    answer = project.engine("run", "pipeline=rides", "--force", "train", "--reason", "doubt", "--json", "-q").json
    ran = [node["name"] for node in project.record(answer["run_id"])["nodes"] if node["state"] == "ran"]
    assert ran == ["train"]  # the same bytes came out: nothing after it ran


@pytest.mark.parametrize(("flag", "node", "left"), [("--to", "split", 3), ("--only", "ingest.rides", 1)])
def test_parts_of_a_plan(project: UserProject, flag: str, node: str, left: int) -> None:
    answer = project.engine("run", "pipeline=rides", flag, node, "--json", "-q").json
    assert (answer["status"], answer["nodes"]["ran"], answer["verdict"]) == ("succeeded", left, None)


def test_an_unknown_node_is_refused_with_the_nearest(project: UserProject) -> None:
    outcome = project.engine("run", "pipeline=rides", "--to", "spilt")
    assert outcome.code == 2
    assert "did you mean `split`" in outcome.err


def test_models_are_listed_shown_moved_and_verified(finished: Finished, tmp_path: Path) -> None:
    project = copied(finished, tmp_path)
    second = project.engine("run", "pipeline=rides", "train.rounds=30", "--json", "-q").json
    assert second["model"] == "rides:2"
    assert "Model card: rides" in project.engine("models", "show", "rides", "1").out
    held = {row["action"] for row in project.engine("models", "history", "rides", "--json").json}
    assert {"register", "promote"} <= held
    if second["promoted"]:
        back = project.engine("models", "rollback", "rides", "--reason", "a drill", "--json").json
        assert (back["from_version"], back["to_version"], back["action"]) == (2, 1, "rollback")
    assert project.engine("models", "verify", "rides", "--json").json["ok"] is True
    assert project.engine("models", "show", "rides", "9").code == 2


def test_a_flipped_bit_in_a_package_is_found(finished: Finished, tmp_path: Path) -> None:
    project = copied(finished, tmp_path)
    shown = project.engine("models", "show", "rides", "--json").json
    model = Path(str(shown["package"]).replace(str(finished[0].root), str(project.root))) / "model" / "model.txt"
    model.chmod(0o644)
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(bytes(content))
    outcome = project.engine("models", "verify", "rides")
    assert outcome.code == 8, outcome.out
    assert "rides:1" in outcome.out


def test_runs_are_listed_and_shown(finished: Finished) -> None:
    project, _ = finished
    assert "rides" in project.engine("runs", "list").out
    assert project.engine("runs", "show", "last", "--json").json["run_id"]
    assert project.engine("runs", "show", "99").code == 2


def test_events_as_lines_of_json(finished: Finished, tmp_path: Path) -> None:
    project = copied(finished, tmp_path)
    lines = project.engine("run", "pipeline=rides", "--ndjson").out.splitlines()
    assert all(json.loads(line)["run_id"] == "2" for line in lines)


def test_a_sweep_runs_each_combination(finished: Finished, tmp_path: Path) -> None:
    project = copied(finished, tmp_path)
    outcome = project.engine("run", "-m", "pipeline=rides", "train.rounds=20,25", "-q")
    assert outcome.code in {0, 3, 4}, outcome.err
    assert len(project.engine("runs", "list", "--json").json) == 3
