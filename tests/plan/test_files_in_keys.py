"""A program that trains is part of the training's key, and a program that is not there is a mistake with its place."""

from __future__ import annotations

import pytest

from engine.api import declare, plan
from engine.errors import ConfigError
from engine.plan.model import action_key
from engine.project import Project
from tests.e2e.conftest import make_project

COMMAND = (
    "train: {kind: command, task: binary, train: [python3, learn.py], score: [python3, learn.py], files: [learn.py]}"
)


@pytest.fixture
def project(tmp_path):
    made = make_project(tmp_path)
    made.edit("conf/pipeline/rides.yaml", "  - /train: lightgbm_binary\n", "")
    made.edit(
        "conf/pipeline/rides.yaml", "train: {rounds: 20, early_stopping: 0, params: {min_data_in_leaf: 20}}", COMMAND
    )
    made.write("learn.py", "print('one')\n")
    return made


def key_of(project, node="train"):
    planned = plan(declare(Project(project.root), ["pipeline=rides"]))
    return action_key(planned.plan.node(node), {"rows": "1", "split": "2"})


def test_another_content_is_another_training_and_nothing_else(project):
    before, baseline = key_of(project), key_of(project, "baseline")
    assert key_of(project) == before
    project.write("learn.py", "print('two')\n")
    assert key_of(project) != before
    assert key_of(project, "baseline") == baseline


def test_a_file_that_is_not_there_is_told_with_its_place(project):
    (project.root / "learn.py").unlink()
    with pytest.raises(ConfigError, match=r"rides.yaml:\d+") as caught:
        key_of(project)
    assert "train.files" in str(caught.value)
    assert "learn.py" in str(caught.value)
