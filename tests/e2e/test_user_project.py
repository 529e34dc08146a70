"""A project of one's own: plugins written by a user, configs that build on the shipped ones, schemas that know both."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

UserProject = Any  # see conftest.py
DOCUMENT = Path(__file__).parents[2] / "docs" / "plugins.md"


def documented_plugin(name: str = "weekdays") -> str:
    """A plugin of docs/plugins.md, so that the page stays true."""
    found = re.findall(r"```python\n(# plugins/(\w+)\.py\n.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    return {title: code for code, title in found}[name]


@pytest.fixture
def with_plugin(project: UserProject) -> UserProject:
    project.write("plugins/weekdays.py", documented_plugin())
    project.edit("conf/pipeline/rides.yaml", "  - /split: time_forward\n", "")
    project.edit(
        "conf/pipeline/rides.yaml",
        "split: {train_until: 2024-01-20, validation_until: 2024-01-25}",
        "extra_plugins: [weekdays]\nsplit: {kind: weekend, validation: 0.25}",
    )
    return project


def test_the_documented_plugin_works(with_plugin: UserProject) -> None:
    outcome = with_plugin.engine("run", "pipeline=rides", "--json", "-q")
    assert outcome.json["status"] == "succeeded", outcome.err
    summary = next(node for node in with_plugin.record("1")["nodes"] if node["name"] == "split")["output"]["notes"]
    assert all(summary[part] > 0 for part in ("train", "validation", "test"))


def test_its_parameters_are_checked_like_the_built_in_ones(with_plugin: UserProject) -> None:
    outcome = with_plugin.engine("check", "pipeline=rides", "split.validation=7")
    assert outcome.code == 2
    assert "split.validation" in outcome.err
    assert "split.validation=7" in outcome.err
    typo = with_plugin.engine("check", "pipeline=rides", "split.validatoin=0.5")
    assert "did you mean `validation`" in typo.err


def test_its_parameters_are_in_the_schemas(with_plugin: UserProject) -> None:
    assert with_plugin.engine("schema", "--plugin", "weekdays", "write", "schemas").code == 0
    schema = json.loads((with_plugin.root / "schemas" / "strict" / "split.json").read_bytes())
    assert "weekend" in json.dumps(schema)
    assert with_plugin.engine("schema", "--plugin", "weekdays", "check", "schemas").code == 0


def test_editing_a_plugin_runs_its_node_again(with_plugin: UserProject) -> None:
    with_plugin.engine("run", "pipeline=rides", "-q", "--to", "split")
    with_plugin.edit("plugins/weekdays.py", "% 1000", "% 1000  # a comment")
    nodes = {node["name"]: node for node in with_plugin.engine("plan", "pipeline=rides", "--json").json["nodes"]}
    assert (nodes["features"]["state"], nodes["split"]["state"]) == ("cached", "run")
    assert any("splitter:weekend" in change["path"] for change in nodes["split"]["changes"])


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import does_not_exist_anywhere", "failed to load: ModuleNotFoundError"),
        ("x = (", "failed to load: SyntaxError"),
        ("", "has no function `components()`"),
        ("def components():\n    return (1,)", "not a Component"),
        ("def components():\n    raise RuntimeError('no')", "failed to load: RuntimeError: no"),
    ],
)
def test_a_plugin_that_fails_to_load_is_fatal(project: UserProject, code: str, words: str) -> None:
    project.write("plugins/broken.py", code)
    outcome = project.engine("check", "pipeline=rides", "extra_plugins=[broken]")
    assert outcome.code == 2
    assert words in outcome.err
    assert "Traceback" not in outcome.err


def test_a_missing_plugin_says_where_it_was_looked_for(project: UserProject) -> None:
    outcome = project.engine("check", "pipeline=rides", "extra_plugins=[nowhere]")
    assert outcome.code == 2
    assert "put nowhere.py into one of" in outcome.err


def test_a_pipeline_builds_on_a_shipped_one(tmp_path: Path, project: UserProject) -> None:
    user = project.at(tmp_path / "fresh")
    assert project.engine("init", "fresh", "--name", "mine").code == 0
    outcome = user.engine("check", "pipeline=mine", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["pipeline"] == "mine"
    assert outcome.json["features"] > 20
    assert project.engine("init", "fresh", "--name", "mine").out.count("kept") == 3


def test_features_are_listed_and_explained(project: UserProject) -> None:
    assert "driver_late_7d" in project.engine("features", "list", "pipeline=rides").out
    told = project.engine("features", "explain", "driver_late_7d", "pipeline=rides", "--json").json
    assert told["name"] == "driver_late_7d"
    assert project.engine("features", "explain", "driver_late_8d", "pipeline=rides").code == 2


def test_hydra_can_do_what_hydra_does(project: UserProject) -> None:
    assert "rounds: 33" in project.engine("run", "pipeline=rides", "train.rounds=33", "--cfg", "job").out
    assert project.engine("run", "--hydra-help").code == 0


def test_garbage_is_collected_but_not_what_models_need(project: UserProject) -> None:
    assert project.engine("run", "pipeline=rides", "-q").code == 0
    collect = ("gc", "--keep-runs", "0", "--older-than", "0", "--json")
    found = project.engine(*collect).json
    assert (found["dry_run"], found["found"] > 0, found["deleted"]) == (True, True, 0)
    assert project.engine(*collect, "--yes").json["deleted"] == found["found"]
    assert project.engine("models", "verify", "rides").code == 0
