"""`engine ci`: standings, verdicts, Markdown and JUnit that their readers accept, baselines from files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from engine.ci.check import read_baseline
from engine.ci.compare import add_up, baseline_of, compare_with_baseline, standing_of
from engine.ci.render import render_junit, render_markdown
from engine.ci_records import CiReport, Compared
from engine.cli import main
from engine.errors import UsageError
from engine.records import FeatureCaseResult, FeatureComparison, GateResult, Metric
from tests.e2e.conftest import make_project


def metric(value: float, width: float = 0.01, name: str = "roc_auc", better: bool = True) -> Metric:
    return Metric(
        name=name, value=value, low=value - width, high=value + width, level=0.95, n=100, higher_is_better=better
    )


@pytest.mark.parametrize(
    ("ours", "better", "standing"),
    [(0.7, True, "same"), (0.6, True, "worse"), (0.8, True, "better"), (0.6, False, "better"), (0.8, False, "worse")],
)
def test_against_a_baseline_file(ours: float, better: bool, standing: str) -> None:
    baseline = baseline_of("p", "1", "20%", [metric(0.7, better=better)])
    (found,) = compare_with_baseline([metric(ours, better=better)], baseline, 0.0)
    assert (found.standing, found.primary) == (standing, True)
    assert found.difference == pytest.approx(ours - 0.7)
    assert found.high is not None
    assert found.difference is not None
    assert found.high - found.difference == pytest.approx(0.01 * 2**0.5)
    assert standing_of(None, 1.0, better=True, margin=0) == "unknown"


def gate(status: Any, severity: Any = "block", name: str = "g") -> GateResult:
    return GateResult(
        name=name, kind="k", status=status, severity=severity, reason="<why> & 'how'\x1b[31m", observed="1 | 2"
    )


CASE = FeatureCaseResult(
    name="c", passed=False, compared=(FeatureComparison(feature="f", expected=1.0, actual=None, equal=False),)
)
WORSE = Compared(
    metric="roc_auc", ours=0.6, theirs=0.7, difference=-0.1, low=-0.2, high=-0.05, primary=True, standing="worse"
)


def test_verdicts() -> None:
    assert add_up((), [gate("pass")], ())[0] == "promote"
    assert add_up((), [gate("pass"), gate("inconclusive")], ())[0] == "inconclusive"
    assert add_up((), [gate("pass"), gate("fail", "warn")], ())[0] == "promote"
    assert add_up((), [gate("pass"), gate("fail")], ())[0] == "reject"
    assert add_up((CASE,), [gate("pass")], ())[0] == "reject"
    assert add_up((), [gate("pass")], (WORSE,))[0] == "reject"
    assert add_up((), (), ())[0] == "inconclusive"


def test_both_formats_are_read_by_others() -> None:
    gates = (
        gate("pass", name="a"),
        gate("fail", name="b"),
        gate("fail", "warn", name="c"),
        gate("inconclusive", name="d"),
    )
    report = CiReport(
        pipeline="p", run_id="7", sample="20%", status="succeeded", verdict="reject", exit_code=3, seconds=1.5, gates=gates,
        cases=(CASE,), compared=(WORSE,), against="the champion p:1", reasons=("gate b fails",), error="bad\nthings ```",
    )  # fmt: skip
    root = ET.fromstring(render_junit(report))
    suites = {suite.get("name"): suite for suite in root}
    counts = {name: (suite.get("tests"), suite.get("failures"), suite.get("skipped")) for name, suite in suites.items()}
    assert counts == {
        "p.run": ("1", "1", "0"), "p.features": ("1", "1", "0"), "p.gates": ("4", "1", "2"), "p.metrics": ("1", "1", "0"),
    }  # fmt: skip
    markdown = render_markdown(report)
    assert markdown.startswith("## p: failed\n")
    table = [line for line in markdown.splitlines() if line.startswith("| b ")]
    assert table[0].count("|") - table[0].count("\\|") == 6


def test_a_change_is_checked_and_registers_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = make_project(tmp_path)
    base, junit, markdown = tmp_path / "base.json", tmp_path / "out" / "ci.xml", tmp_path / "out" / "ci.md"
    common = ["--project", str(project.root), "pipeline=rides", "--sample", "100%", "-q"]
    code = main(["ci", *common, "--write-baseline", str(base), "--json"])
    first = json.loads(capsys.readouterr().out)
    assert (code, first["verdict"], first["compared"]) == (0, "promote", [])
    assert "no champion" in first["against"]
    assert read_baseline(base).metrics["roc_auc"].value is not None
    broken = [
        "train.rounds=1",
        "train.params.learning_rate=0.0001",
        "train.features=[clock]",
        "gates.baseline.severity=warn",
    ]
    code = main(["ci", *common, *broken, "--baseline", str(base), "--junit", str(junit), "--markdown", str(markdown)])
    assert code == 3
    assert "roc_auc is worse" in capsys.readouterr().out
    assert ET.parse(junit).getroot().tag == "testsuites"
    assert "**worse**" in markdown.read_text()
    main(["models", "--project", str(project.root), "list", "--json"])
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize("content", ["{", '{"pipeline": 3}', None])
def test_a_baseline_that_is_none(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "base.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match="--baseline"):
        read_baseline(path)
