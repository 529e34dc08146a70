"""One tick, in this process and without runs: what is wrong with one pipeline or one database stops nothing else."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.clock import isoformat
from engine.commands.triggers import run as run_triggers
from engine.errors import EngineError, LockedError, UnavailableError
from engine.loop.locating import pipeline_of, state_of
from engine.loop.tick import Around, exit_code_of, tick
from engine.loop.work import Outcome, do_request
from engine.loop_records import LoopDecision, RunRequest, TickReport, TriggerMemory
from engine.project import Project
from engine.stores.loop_state import LoopState
from tests.e2e.conftest import PIPELINE

# Runs end by the real clock, and the suite may take long to come here: ticks are well after that.
NOW = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(days=1)
MINUTE = timedelta(minutes=1)
LOOP = """
triggers: {often: {kind: cron, schedule: "* * * * *"}}
retrain: {cooldown: 0s, budget: {runs: null}, backoff: {first: 1s, give_up_after: 2}}
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Two pipelines with triggers; no data, since nothing runs."""
    folder = tmp_path / "conf/pipeline"
    folder.mkdir(parents=True)
    (folder / "rides.yaml").write_text(PIPELINE + LOOP)
    (folder / "other.yaml").write_text("# @package _global_\ndefaults: [rides, _self_]\nname: other\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/rides.csv").write_text("ride_id,driver,distance,hour,at,late\n")
    return Project(tmp_path)


def at(project: Project, minutes: int, launched: list[RunRequest] | None = None, **changes: Any) -> TickReport:
    kept = launched if launched is not None else []
    around = Around(now=NOW + minutes * MINUTE, launch=lambda request, _: kept.append(request))
    return tick(project, replace(around, **changes))


def actions(report: TickReport) -> dict[str, str]:
    return {item.pipeline: item.action for item in report.pipelines}


def finish(project: Project, outcome: Callable[[], Outcome]) -> None:
    _, state = pipeline_of(project, "rides")
    for request in state.open_requests():
        do_request(project, state, request.key, lambda *_: outcome())


def failed() -> Outcome:
    return Outcome(None, 1, "it broke", {}, (), None)


def test_what_a_newer_engine_wrote_stops_its_pipeline_only(project: Project) -> None:
    at(project, 0)
    with sqlite3.connect(project.home / "state.db") as database:
        ((text,),) = database.execute("SELECT memory FROM loop_memory WHERE pipeline = 'rides'").fetchall()
        newer = json.dumps(json.loads(text) | {"schema_version": 99})
        database.execute("UPDATE loop_memory SET memory = ? WHERE pipeline = 'rides'", (newer,))
    report = at(project, 1)
    assert (actions(report), exit_code_of(report)) == ({"other": "launch", "rides": "error"}, 8)
    assert "a newer one wrote it" in next(item.error or "" for item in report.pipelines if item.pipeline == "rides")
    _, state = pipeline_of(project, "rides")
    state.forget("rides", LoopDecision(pipeline="rides", at=isoformat(NOW), action="reset", why="w"))
    assert actions(at(project, 2))["rides"] == "nothing"


def test_a_cursor_that_cannot_be_read_is_told_with_the_way_out(project: Project) -> None:
    at(project, 0)
    _, state = pipeline_of(project, "rides")
    memory = state.memories()["rides"]
    assert isinstance(memory, TriggerMemory)
    assert state.commit(memory, msgspec.structs.replace(memory, cursors={"often": {"slot": "soon"}}), None, None)
    report = at(project, 1)
    told = next(item for item in report.pipelines if item.pipeline == "rides")
    assert (told.exit_code, "engine triggers reset rides --forget" in (told.error or "")) == (8, True)


def test_a_locked_database_is_waited_for_once(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def memories(_: LoopState) -> Any:
        asked.append(1)
        raise LockedError("somebody writes to it")

    monkeypatch.setattr(LoopState, "memories", memories)
    report = at(project, 0)
    assert (actions(report), exit_code_of(report), len(asked)) == ({"other": "error", "rides": "error"}, 6, 1)


def test_what_cannot_be_launched_stays_asked_for_and_the_others_are(project: Project) -> None:
    at(project, 0)
    started: list[str] = []

    def launch(request: RunRequest, _: object) -> None:
        if request.pipeline == "other":
            raise UnavailableError("no process can be started")
        started.append(request.pipeline)

    report = at(project, 1, launch=launch)
    assert (started, exit_code_of(report)) == (["rides"], 7)
    adopted = at(project, 1, kept := [])
    assert {item.pipeline for item in kept} == {"other", "rides"}
    assert len(adopted.adopted) == 2


def test_after_some_failures_nothing_is_launched_until_a_person_resets_it(project: Project) -> None:
    at(project, 0)
    for minute in (1, 2):
        assert actions(at(project, minute))["rides"] == "launch"
        finish(project, failed)
    assert actions(at(project, 5))["rides"] == "wait"
    _, state = pipeline_of(project, "rides")
    memory = state.memories()["rides"]
    assert isinstance(memory, TriggerMemory)
    state.commit(memory, msgspec.structs.replace(memory, forgiven_at="9999"), None, None)
    assert actions(at(project, 6))["rides"] == "launch"


def test_a_machine_that_slept_for_a_week_makes_up_for_it_with_one_run_and_a_clock_set_back_with_none(
    project: Project,
) -> None:
    at(project, 0)
    assert actions(at(project, 7 * 24 * 60))["rides"] == "launch"
    finish(project, lambda: Outcome(None, 0, None, {}, (), None))
    assert actions(at(project, 7 * 24 * 60))["rides"] == "nothing"
    assert actions(at(project, 7 * 24 * 60 - 60))["rides"] == "nothing"
    assert actions(at(project, 7 * 24 * 60 + 1))["rides"] == "launch"


def test_a_dry_run_writes_nothing(project: Project) -> None:
    at(project, 0)
    before = (project.home / "state.db").read_bytes()
    assert actions(at(project, 1, dry_run=True))["rides"] == "launch"
    assert (project.home / "state.db").read_bytes() == before
    assert actions(at(project, 1))["rides"] == "launch"


@pytest.mark.parametrize("state", ["postgresql://127.0.0.1:1/gone", "mysql://host/unsupported"])
def test_a_state_that_cannot_be_opened_stops_no_other_pipelines_run(
    project: Project, state: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)
    head = "# @package _global_\ndefaults: [rides, _self_]\nname: far\n"
    (project.root / "conf/pipeline/far.yaml").write_text(f'{head}stores: {{state: "{state}"}}\n')
    at(project, 0)
    report = at(project, 1, kept := [])
    assert actions(report) == {"far": "error", "other": "launch", "rides": "launch"}
    for request in kept:
        assert state_of(project, request.key).find(request.key).pipeline == request.pipeline
    words = "does not answer|not supported"
    with pytest.raises(EngineError, match=words):  # it may be there: nobody can say that it is not
        state_of(project, "unknown")
    for asked, shown in (("requests", "rides"), ("ls", "rides"), ("verify", "that can be read")):
        code = run_triggers([asked])
        told = capsys.readouterr()
        assert (code, shown in told.out) == (7 if "gone" in state else 2, True), asked
        assert "does not answer" in told.err or "not supported" in told.err
