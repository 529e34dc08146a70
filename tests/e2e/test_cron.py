"""A real cron daemon ticks a project through a retraining and a promotion, with nobody there.

The entry goes into the user's own crontab by `engine tick --install cron --yes`, beside what is there already, and is taken out
again. A daemon that runs is used; otherwise one is started, which needs root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import UserProject

ROOT = Path(__file__).parents[2]
LOOP = """
triggers: {each_minute: {kind: cron, schedule: "* * * * *"}}
retrain: {cooldown: 0s, budget: {runs: 1, per: 1d}}
"""


def table() -> str:
    done = subprocess.run(["crontab", "-l"], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""


def set_table(text: str) -> None:
    command = ["crontab", "-"] if text.strip() else ["crontab", "-r"]
    subprocess.run(command, input=text, capture_output=True, text=True, check=False)


def daemon_runs() -> bool:
    names = [path.read_text().strip() for path in Path("/proc").glob("[0-9]*/comm") if path.exists()]
    return "cron" in names


@pytest.fixture
def cron() -> Iterator[None]:
    """A cron daemon; afterwards the crontab is as it was."""
    if not (shutil.which("crontab") and (shutil.which("cron") or Path("/usr/sbin/cron").exists())):
        if os.environ.get("CI"):
            pytest.fail("Debian's cron is not installed, and CI has to have it")
        pytest.skip("cron is not installed")
    before, daemon = table(), None
    if not daemon_runs():
        elevate = [] if os.geteuid() == 0 else ["sudo", "-n"]
        daemon = subprocess.Popen([*elevate, "/usr/sbin/cron", "-f"], stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        set_table(before)
        if daemon is not None:
            daemon.terminate()
            daemon.wait(10)


def test_cron_retrains_and_promotes_unattended(project: UserProject, cron: None) -> None:
    pipeline = project.root / "conf/pipeline/rides.yaml"
    project.write("conf/pipeline/rides.yaml", pipeline.read_text() + LOOP)
    assert project.engine("run", "pipeline=rides", "-q").code == 0
    project.edit("conf/pipeline/rides.yaml", "rounds: 20", "rounds: 25")  # so that there is another model to make
    assert project.engine("tick").code == 0  # seen for the first time: slots count from now on
    assert project.engine("tick", "--install", "cron", "--every", "1", "--yes").code == 0
    assert table().count(f"# plumbline tick of {project.root}") == 1
    set_table(f"PYTHONPATH={ROOT}\n{table()}")  # this checkout's code, wherever the environment was made
    deadline = time.monotonic() + 170
    finished = []
    while not finished and time.monotonic() < deadline:
        time.sleep(2)
        entries = project.engine("triggers", "explain", "rides", "--json").json
        finished = [entry["decision"]["why"] for entry in entries if entry["decision"]["action"] == "finish"]
    log = project.root / ".plumbline/loop/tick.log"
    assert finished, log.read_text() if log.exists() else "cron has not called the tick"
    assert "verdict promote" in finished[0]
    held = {item["version"]["version"]: item["aliases"] for item in project.engine("models", "list", "--json").json}
    assert held == {1: [], 2: ["champion"]}
    assert project.engine("triggers", "verify").code == 0
