"""The whole of Hydra behind `engine run`: sweeps, printing, and no litter."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from engine.config import ComposedConfig, needs_hydra, run_hydra
from engine.errors import ConfigError, DataError, UsageError


@pytest.fixture(autouse=True)
def _quiet_logging() -> Iterator[None]:
    """`--info` sets the root logger up; leave it as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level


def jobs_of(stage: Any, *argv: str) -> list[ComposedConfig]:
    jobs: list[ComposedConfig] = []
    run_hydra(stage.project, list(argv), jobs.append)
    return jobs


def files_in(stage: Any) -> set[str]:
    return {
        str(path.relative_to(stage.project.root))
        for path in stage.project.root.rglob("*")
        if "__pycache__" not in str(path) and "composed" not in path.parts  # a cache of its own
    }


def test_what_needs_the_whole_of_hydra(stage) -> None:
    assert not needs_hydra(["pipeline=mine", "+train.x=hydra.y"], stage.project)
    for argv in (["-m", "a=1,2"], ["--cfg", "job"], ["hydra.run.dir=x"], ["+hydra.job.num=1"], ["~hydra/launcher"]):
        assert needs_hydra(argv, stage.project)
    stage.write("config.yaml", "defaults: [builtin, _self_, {pipeline: mine}]\nhydra:\n  mode: MULTIRUN\n")
    assert needs_hydra([], stage.project)


def test_a_sweep_gives_each_combination_in_order(stage) -> None:
    before = files_in(stage)
    jobs = jobs_of(stage, "-m", "pipeline=mine,loans", "train.trees=1,2", "execute.retries=3")
    assert [(job.pipeline, job.values["train"]["trees"]) for job in jobs] == [
        ("mine", 1),
        ("mine", 2),
        ("loans", 1),
        ("loans", 2),
    ]
    assert jobs[0].overrides == ("pipeline=mine", "train.trees=1", "execute.retries=3")
    assert str(jobs[1].origins["train.trees"]) == "train.trees=2"
    assert jobs[3].values["execute"] == {"retries": 3}
    assert files_in(stage) - before == {".plumbline", ".plumbline/multirun", ".plumbline/multirun/multirun.yaml"}


def test_a_sweep_from_elsewhere_keeps_to_the_project(stage, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert len(jobs_of(stage, "-m", "pipeline=mine", "train.trees=1,2")) == 2
    assert list(elsewhere.iterdir()) == []


def test_a_range_and_a_group_can_be_swept(stage) -> None:
    jobs = jobs_of(stage, "-m", "pipeline=mine", "split=glob(*)", "train.trees=range(1,3)")
    assert [(job.values["split"]["kind"], job.values["train"]["trees"]) for job in jobs] == [
        ("by_chance", 1), ("by_chance", 2), ("by_time", 1), ("by_time", 2),
    ]  # fmt: skip


def test_a_plain_run_through_hydra_leaves_nothing(stage) -> None:
    before = files_in(stage)
    (job,) = jobs_of(stage, "pipeline=mine", "train.trees=7", "hydra.verbose=false")
    assert job.values == stage.compose("pipeline=mine", "train.trees=7").values
    assert files_in(stage) == before


def test_the_run_folder_is_hydra_s_when_asked_for(stage) -> None:
    jobs_of(stage, "pipeline=mine", "hydra.run.dir=there", "hydra.output_subdir=kept")
    assert "there/kept/overrides.yaml" in files_in(stage)


def test_the_configuration_can_be_printed(stage, capsys: pytest.CaptureFixture[str]) -> None:
    stage.pipeline('sources: {loans: {password: "${secret:PW}"}}\n')
    assert jobs_of(stage, "--cfg", "job", "--resolve", "pipeline=mine", "train.seed=5") == []
    printed = capsys.readouterr().out
    assert "seed: 5" in printed
    assert "password: ${secret:PW}" in printed
    jobs_of(stage, "--cfg", "job", "--package", "split", "pipeline=mine")
    assert "kind: by_time" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [["--info", "defaults-tree"], ["--info", "searchpath"], ["--hydra-help"]])
def test_hydra_s_own_answers(stage, argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert jobs_of(stage, *argv, *([] if argv == ["--hydra-help"] else ["pipeline=mine"])) == []
    assert capsys.readouterr().out


def test_completion_lists_pipelines(stage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMP_LINE", "engine pipeline=")
    monkeypatch.setenv("COMP_POINT", "16")
    jobs_of(stage, "--shell-completion", "query=bash")
    assert capsys.readouterr().out.split() == ["pipeline=loans", "pipeline=mine"]


@pytest.mark.parametrize(
    "argv",
    [
        ["--bogus"], ["-m", "--cfg", "job", "pipeline=mine"], ["--config-dir", "x", "pipeline=mine"],
        ["-m", "pipeline=mine", "train.trees=interval(0,1)"], ["hydra.nothing=1", "pipeline=mine"],
        ["pipeline=mine", "hydra.searchpath=[/elsewhere]"],
    ],
)  # fmt: skip
def test_what_hydra_refuses_is_a_usage_error(stage, argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError):
        jobs_of(stage, *argv)


def test_mistakes_are_found_before_hydra_meets_them(stage) -> None:
    stage.write("train/forest.yaml", "kind: forest\n\ttrees: 3\n")
    with pytest.raises(ConfigError, match=r"conf/train/forest.yaml:2:1"):
        jobs_of(stage, "-m", "pipeline=mine", "train.trees=1,2")


def test_a_failing_job_is_raised_after_the_others_ran(stage) -> None:
    seen: list[int] = []

    def task(config: ComposedConfig) -> None:
        seen.append(config.values["train"]["trees"])
        if len(seen) == 1:
            raise DataError("the first one fails")

    with pytest.raises(DataError, match="the first one fails"):
        run_hydra(stage.project, ["-m", "pipeline=mine", "train.trees=1,2"], task)
    assert seen == [1, 2]


def test_a_crash_of_a_job_is_not_swallowed(stage) -> None:
    def task(_: ComposedConfig) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_hydra(stage.project, ["pipeline=mine", "hydra.verbose=false"], task)


def test_hydra_is_left_as_it_was(stage, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    from hydra.core.global_hydra import GlobalHydra

    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    jobs_of(stage, "-m", "pipeline=mine", "train.trees=1,2")
    assert "HYDRA_FULL_ERROR" not in os.environ
    assert not GlobalHydra.instance().is_initialized()
