"""Backtests of a generated history: what they find, that they see no future, that they go on, that they say the same again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from engine.api import declare, plan
from engine.backtest.moments import Asked
from engine.backtest.running import Question, backtest, declare_backtest
from engine.backtest_records import BacktestReport, BacktestResult, PolicyOutcome
from engine.cli import main
from engine.clock import SystemClock
from engine.loop.running import Silent
from engine.project import Project
from engine.provenance import GitProbe
from engine.running import Around, RunOptions, execute_run
from tests.backtest.conftest import START, TURN, generated, write_project

FROM = START + timedelta(weeks=12)
GOLDEN = Path(__file__).parents[1] / "golden" / "backtest" / "turning.json"
QUESTION = Question(time=Asked(start=FROM, every="14d"), policies=("never", "monthly", "drift", "declared"))


def ask(root: Path, question: Question = QUESTION, *overrides: str) -> BacktestReport:
    """Ask in this process."""
    return backtest(declare_backtest(Project(root), ["pipeline=turning", *overrides]), question, Silent())


def found(report: BacktestReport) -> BacktestResult:
    """Give the result; a failed backtest fails the test with its words."""
    assert report.result is not None, report.error
    return report.result


@pytest.fixture(scope="module")
def answered(history: Path) -> BacktestReport:
    """The question of most tests, answered once."""
    return ask(history)


def by_name(result: BacktestResult) -> dict[str, PolicyOutcome]:
    """Give policies by name."""
    return {policy.name: policy for policy in result.policies}


def told(result: BacktestResult) -> dict[str, Any]:
    """Give what does not depend on the machine, rounded to what people read."""
    return {
        policy.name: {
            "quality": round(policy.quality.value or 0.0, 3),
            "regret": [round(end or 0.0, 3) for end in (policy.regret.value, policy.regret.low, policy.regret.high)],
            "retrained": [item.at[:10] for item in policy.decisions if item.trained],
            "promoted": [item.at[:10] for item in policy.decisions if item.promoted],
            "models": [period.model for period in policy.periods],
        }
        for policy in result.policies
    }


def test_the_outcome_is_the_golden_one(answered: BacktestReport) -> None:
    """Whoever changes what a policy decides, or how it is measured, sees it here. Delete the file to write it anew."""
    now = told(found(answered))
    if not GOLDEN.exists():
        GOLDEN.parent.mkdir(parents=True, exist_ok=True)
        GOLDEN.write_text(json.dumps(now, indent=1) + "\n")
    assert now == json.loads(GOLDEN.read_text())


def test_policies_that_react_beat_never_and_cost_less_than_always(answered: BacktestReport) -> None:
    """The history was made so: a new product comes in the seventeenth week, and nothing else changes."""
    result = found(answered)
    policies = by_name(result)
    always = policies["always"]
    for name in ("drift", "declared"):
        reacting, never = policies[name], policies["never"]
        assert (reacting.quality.value or 0) > (never.quality.value or 0) + 0.03
        assert reacting.cpu_seconds < always.cpu_seconds
        assert reacting.retrainings < always.retrainings
        assert reacting.decisions[0].trained is None
        assert all(
            item.at >= (START + timedelta(weeks=TURN)).isoformat() for item in reacting.decisions if item.trained
        )
    assert (policies["never"].regret.low or 0) > 0
    assert policies["always"].regret.value == 0
    assert result.recommended in {"drift", "declared"}


def test_asked_again_nothing_runs_and_the_same_bytes_are_written(history: Path, answered: BacktestReport) -> None:
    """The page and the document, byte by byte."""
    folder = Path(answered.folder or "")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    shutil.rmtree(folder)
    again = ask(history)
    assert again.nodes.ran == 0
    assert again.nodes.cached == answered.nodes.ran + answered.nodes.cached
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert set(before) == {"backtest.json", "report.html"}


def test_the_future_changes_no_decision_and_no_score_of_the_past(tmp_path: Path, answered: BacktestReport) -> None:
    """From some moment on everything is different: rows, labels, how many there are. What came before is as it was."""
    turn = START + timedelta(weeks=TURN + 3)
    rows = generated()
    future = rows.filter(pl.col("at") >= turn)
    changed = future.with_columns(x=-pl.col("x") * 3, y=1 - pl.col("y"), product=pl.lit("old")).sample(
        fraction=0.5, seed=1
    )
    other = write_project(tmp_path, pl.concat([rows.filter(pl.col("at") < turn), changed.sort("at")]))
    ours, theirs = (by_name(found(report)) for report in (answered, ask(other)))
    compared = 0
    for name, policy in ours.items():
        for mine, other_decision in zip(policy.decisions, theirs[name].decisions, strict=False):
            if datetime.fromisoformat(mine.at) <= turn:
                assert mine == other_decision
                compared += mine.trained is not None
        for mine_period, other_period in zip(policy.periods, theirs[name].periods, strict=False):
            if datetime.fromisoformat(mine_period.end) <= turn:
                assert mine_period == other_period
    assert compared >= 4
    assert ours["never"].quality != theirs["never"].quality


def test_a_training_is_that_of_a_run_at_its_moment(history: Path, answered: BacktestReport) -> None:
    """The very same model, byte for byte, as `engine run as_of=…` trains: nothing later was seen, nothing earlier was missed."""
    moment = next(item.trained for item in by_name(found(answered))["declared"].decisions if item.trained)
    assert moment is not None
    planned = plan(declare(Project(history), ["pipeline=turning", f"as_of='{moment}'"]))
    around = Around(Silent(), SystemClock(), GitProbe(history).start())
    record, _ = execute_run(planned, RunOptions(to="train"), around)
    run = next(node for node in record.nodes if node.name == "train")
    assert run.output is not None, run.error
    actions = (history / ".plumbline" / "artefacts" / "actions").rglob("*")
    trained = [path.read_text() for path in actions if path.is_file() and "cpu_seconds" in path.read_text()]
    assert len(trained) >= len(by_name(found(answered))["always"].decisions)
    assert any(run.output.digest in text for text in trained)


def test_a_gate_that_refuses_keeps_every_policy_at_its_first_model(history: Path, answered: BacktestReport) -> None:
    """And the trainings of before are used again."""
    report = ask(history, replace(QUESTION, policies=("monthly",)), "+gates.never={kind: min_rows, rows: 1000000}")
    policies = by_name(found(report))
    assert report.nodes.ran <= 12  # rulings, replays and the measurement: no cut and no training
    assert policies["always"].promotions == 0
    assert policies["always"].refused == policies["always"].retrainings > 0
    assert policies["always"].quality == by_name(found(answered))["never"].quality
    refused = next(item for item in policies["monthly"].decisions if item.trained)
    assert refused.gates["never"] == "fail"
    assert any("no challenger of `always` passed" in note and "never (" in note for note in found(report).notes)
    free = by_name(found(ask(history, replace(QUESTION, policies=("monthly",), gates="none"))))
    assert free["monthly"].promotions == free["monthly"].retrainings


def test_after_a_kill_it_goes_on_where_it_was(tmp_path: Path, answered: BacktestReport) -> None:
    """Finished nodes are kept, and the outcome is that of a backtest that was not killed."""
    root = write_project(tmp_path, generated())
    command = [sys.executable, "-m", "engine", "backtest", "pipeline=turning", "--project", str(root), "--json",
               f"--from={FROM.isoformat()}", "--every=14d", "--policies=never,declared"]  # fmt: skip
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if b"nodes:" in line and int(line.split()[0]) >= 6:
                break
        os.killpg(process.pid, signal.SIGKILL)
    done = subprocess.run(command, check=False, capture_output=True)
    report = msgspec.json.decode(done.stdout, type=BacktestReport)
    assert done.returncode == 0, done.stderr
    assert report.nodes.cached >= 4
    whole = told(found(answered))
    assert told(found(report)) == {name: whole[name] for name in ("always", "never", "declared")}


def test_policies_of_ones_own_and_other_metrics(history: Path, answered: BacktestReport) -> None:
    """Content, labels and age are known in a simulation too; no model is trained anew."""
    stated: Mapping[str, Any] = {
        "data": {"kind": "data_commit"}, "labels": {"kind": "new_labels", "rows": 900}, "old": {"kind": "staleness", "older_than": "20d"},
    }  # fmt: skip
    report = ask(history, replace(QUESTION, policies=("never",), stated=stated, metric="log_loss"))
    result = found(report)
    policies = by_name(result)
    assert not result.higher_is_better
    assert (policies["never"].regret.value or 0) > 0
    moments = len(policies["never"].periods)
    assert policies["data"].retrainings == moments - 1
    assert policies["old"].retrainings == (moments - 1) // 2
    assert 1 <= policies["labels"].retrainings < moments - 1
    assert report.nodes.ran <= 6


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--policies", "wekly"], "no policy `wekly`"),
        (["--metric", "rmse"], "not a metric of the task binary"),
        (["--every", "weekly"], "not a duration"),
        (["--from", "spring"], "not a moment"),
        (["--policy", "drift"], "not `name: trigger`"),
        (["--policy", "{"], "--policy"),
        (["--workers", "0"], "at least 1"),
        (["--from", "2023-12-01"], "no rows to train"),
    ],
)
def test_mistakes_are_told_and_exit_with_2(
    history: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In words, before anything is trained."""
    assert main(["backtest", "pipeline=turning", "--project", str(history), *words]) == 2
    assert said in capsys.readouterr().err


def test_a_start_that_leaves_nothing_to_train_says_which_part_is_empty(
    history: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The data, not the config, is short: exit code 5, and no table."""
    code = main(["backtest", "pipeline=turning", "--project", str(history), "--from", "2024-01-01T12:00:00Z",
                 "--every", "60d", "--json", "-q"])  # fmt: skip
    answer = json.loads(capsys.readouterr().out)
    assert code == 5
    assert answer["status"] == "failed"
    assert "start later" in answer["error"]
