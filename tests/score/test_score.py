"""`engine score`: all 28 tests answer, with nothing and with everything; the score is the least section; the page is whole."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from engine.api import declare
from engine.cli import main
from engine.experiment_records import Reproduction
from engine.locations import Stores
from engine.project import Project
from engine.records import GateResult, RunRecord
from engine.score.facts import Facts, gather
from engine.score.page import render_score
from engine.score.rubric import QUESTIONS, SECTIONS, band_of, score
from tests.e2e.conftest import make_project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_project(tmp_path_factory.mktemp("score"))


@pytest.fixture(scope="module")
def nothing(project: Any) -> Facts:
    declared = declare(Project(project.root), ["pipeline=rides"])
    return gather(declared, Stores(Project(project.root), declared.settings))


def test_there_are_28_tests_seven_a_section() -> None:
    assert [sum(question.section == name for question in QUESTIONS) for name in SECTIONS] == [7, 7, 7, 7]
    assert len({question.title for question in QUESTIONS}) == 28


def test_a_project_in_which_nothing_has_run_is_scored(nothing: Facts) -> None:
    report = score(nothing)
    assert report.score < 1
    assert all(test.add for test in report.tests if test.score < 1)
    assert all(test.found for test in report.tests)
    ET.fromstring(render_score(report).removeprefix("<!DOCTYPE html>\n"))


def run_with(*gates: GateResult) -> RunRecord:
    return RunRecord(
        run_id="1", pipeline="rides", status="succeeded", started_at="2026-01-01T00:00:00Z", config_digest="0" * 64,
        plan_digest="0" * 64, gates=gates,
    )  # fmt: skip


def points(facts: Facts, title: str) -> float:
    (found,) = [test.score for test in score(facts).tests if title in test.title]
    return found


@pytest.mark.parametrize(
    "outcome", [
    ("pass", "block", 1.0), ("inconclusive", "block", 0.5), ("fail", "warn", 0.5), ("fail", "block", 0.0),
])  # fmt: skip
@pytest.mark.parametrize(("kind", "title"), [
    ("fairness", "inclusion"), ("leakage", "meta-level"), ("training", "specification code"), ("beats_baseline", "simpler model"),
    ("latency", "cost is too much"), ("parity", "same values"),
])  # fmt: skip
def test_gates_count_by_what_they_showed(
    nothing: Facts, kind: str, title: str, outcome: tuple[Any, Any, float]
) -> None:
    status, severity, expected = outcome
    facts = replace(nothing, latest=run_with(GateResult(name="g", kind=kind, status=status, severity=severity)))
    assert points(facts, title) == expected
    assert points(nothing, title) == 0


def test_what_is_declared_counts_half_until_it_has_looked(nothing: Facts) -> None:
    declared = replace(nothing, declared={**nothing.declared, "monitors": frozenset({"performance", "staleness"})})
    assert points(declared, "served data") == 0.5
    assert points(replace(declared, looked={"drift": 3, "ticks": 3}), "served data") == 0.5, "others were looked at"
    assert points(replace(declared, looked={"performance": 3}), "served data") == 1
    assert points(declared, "too stale") == 0.5


def test_doing_a_run_again_counts_when_it_came_out_the_same(nothing: Facts) -> None:
    same = Reproduction(run_id="1", pipeline="rides", identical=True, at="2026-01-02T00:00:00Z")
    other = Reproduction(
        run_id="2", pipeline="rides", identical=False, first_difference="train", at="2026-01-03T00:00:00Z"
    )
    assert points(replace(nothing, latest=run_with()), "Training is reproducible") == 0.5
    assert points(replace(nothing, reproduced=(same,)), "Training is reproducible") == 1
    assert points(replace(nothing, reproduced=(same, other)), "Training is reproducible") == 0


def test_a_run_a_check_and_a_file_raise_the_score(
    project: Any, nothing: Facts, capsys: pytest.CaptureFixture[str]
) -> None:
    root = project.root
    before = score(nothing)
    (root / ".gitlab-ci.yml").write_text("check: {script: [engine ci pipeline=rides]}\n")
    assert main(["run", "--project", str(root), "pipeline=rides", "-q"]) == 0
    main(["ci", "--project", str(root), "pipeline=rides", "--sample", "50%", "-q", "--json"])
    capsys.readouterr()
    page = root / "out" / "score.html"
    code = main(["score", "--project", str(root), "pipeline=rides", "--json", "--html", str(page), "--at-least", "7"])
    after = json.loads(capsys.readouterr().out)
    assert code == 3
    assert after["score"] == min(after["sections"].values())
    assert sum(after["sections"].values()) > sum(before.sections.values()) + 3
    assert main(["runs", "--project", str(root), "reproduce", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["identical"]
    main(["score", "--project", str(root), "pipeline=rides", "--json"])
    again = json.loads(capsys.readouterr().out)
    reproducible = next(test for test in again["tests"] if test["title"] == "Training is reproducible")
    assert (reproducible["score"], "run 1 was done again" in reproducible["found"]) == (1, True)
    integrated = next(test for test in after["tests"] if "integration" in test["title"])
    assert integrated["score"] == 1
    assert ".gitlab-ci.yml" in integrated["found"]
    assert main(["score", "--project", str(root), "pipeline=rides"]) == 0
    assert "To add:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (0, "research"),
        (0.5, "serious holes"),
        (2, "first pass"),
        (3, "reasonably"),
        (5, "strong"),
        (6.5, "exceptional"),
    ],
)
def test_bands_are_the_papers(value: float, word: str) -> None:
    assert word in band_of(value)
