"""The doctor: finds what is wrong, never raises, and leaves nothing behind."""

from __future__ import annotations

import ctypes
import shutil
import sqlite3
import time
from collections import namedtuple
from pathlib import Path

import pytest

from engine import doctor
from engine.commands.doctor import run as run_command
from engine.doctor import QUESTIONS, Check, diagnose
from engine.project import Project
from engine.stores.database import open_database

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "conf" / "pipeline").mkdir(parents=True)
    return Project(tmp_path)


def check(project: Project, name: str) -> Check:
    return next(found for found in diagnose(project) if found.name == name)


def test_a_sound_project_passes_and_stays_untouched(project: Project) -> None:
    diagnose(project)  # imports Hydra
    began = time.perf_counter()
    checks = diagnose(project)
    assert time.perf_counter() - began < 10
    assert [found.name for found in checks] == list(QUESTIONS)
    assert [found for found in checks if found.status == "fail"] == []
    assert all(found.next_step for found in checks if found.status != "ok")
    assert [path.name for path in project.root.rglob("*")] == ["conf", "pipeline"]


def test_no_folder_at_all_is_a_finding(tmp_path: Path) -> None:
    checks = diagnose(Project(tmp_path / "nowhere"))
    assert {found.name for found in checks if found.status == "fail"} >= {"space"}


def test_a_folder_without_conf_is_told_how_to_start(tmp_path: Path) -> None:
    found = check(Project(tmp_path), "pipelines")
    assert (found.status, found.next_step) == ("warn", "engine init")


@pytest.mark.parametrize(("gigabytes", "status"), [(0.5, "fail"), (3, "warn"), (50, "ok")])
def test_space(project: Project, monkeypatch: pytest.MonkeyPatch, gigabytes: float, status: str) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, gigabytes * 1e9))
    assert check(project, "space").status == status


def test_openmp_that_is_missing(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    found = check(project, "openmp")
    assert found.status == "fail"
    assert "libgomp1" in (found.next_step or "")


def test_a_library_that_is_missing_and_one_that_differs(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LIBRARIES", ("polars", "no-such-library"))
    assert "no-such-library" in check(project, "libraries").message
    monkeypatch.setattr(doctor, "LIBRARIES", ("polars",))
    monkeypatch.setattr(doctor, "_version", lambda _: "0.0.1")
    found = check(project, "libraries")
    assert (found.status, "polars 0.0.1 (locked: " in found.message) == ("warn", True)


def test_a_file_where_a_folder_must_be(project: Project) -> None:
    (project.root / "runs").write_text("")
    assert check(project, "folders").status == "fail"


@pytest.mark.parametrize("content", [b"not a database at all, but long enough to be read as one" * 50, None])
def test_a_database_that_is_none(project: Project, content: bytes | None) -> None:
    project.home.mkdir()
    path = project.home / "state.db"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    assert check(project, "database").status == "fail"


def test_a_database_of_a_later_engine(project: Project) -> None:
    project.home.mkdir()
    path = project.home / "state.db"
    database = open_database(str(path))
    database.query("SELECT 1 AS one")
    database.close()
    assert check(project, "database").status == "ok"
    with sqlite3.connect(path) as connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        (migrations,) = [name for name in tables if "version" in name or "migration" in name][:1]
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({migrations})")]
        rows = connection.execute(f"SELECT * FROM {migrations}").fetchall()
        later = [999 if isinstance(value, int) else value for value in rows[-1]]
        connection.execute(f"INSERT INTO {migrations} VALUES ({','.join('?' * len(columns))})", later)
    connection.close()
    assert check(project, "database").status == "fail"


def test_leftovers_of_a_killed_run(project: Project) -> None:
    staging = project.home / "artefacts" / "staging"
    staging.mkdir(parents=True)
    (staging / "stray").mkdir()
    assert check(project, "artefacts").status == "ok"  # young and nobody's: perhaps at work
    import os

    os.utime(staging / "stray", (0, 0))
    assert check(project, "artefacts").status == "warn"


def test_a_snapshot_repository_without_its_head(project: Project) -> None:
    for folder in ("objects", "refs"):
        (project.home / "snapshots" / "data.git" / folder).mkdir(parents=True)
    assert check(project, "snapshots").status == "fail"


def test_a_question_that_breaks_is_an_answer(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(_: Project) -> doctor.Finding:
        raise RuntimeError("boom")

    monkeypatch.setitem(QUESTIONS, "git", break_down)
    found = check(project, "git")
    assert (found.status, found.message) == ("fail", "RuntimeError: boom")


def test_the_command_prints_and_decides(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project.root)
    assert run_command([]) == 0
    assert "ok    python: Python 3." in capsys.readouterr().out
    (project.root / "runs").write_text("")
    assert run_command(["--json"]) == 7
    assert '"status":"fail"' in capsys.readouterr().out.replace(" ", "")
