"""How a request gets its process: a child that outlives the tick, or this process. Called by `engine tick`."""

from __future__ import annotations

import os
import subprocess
import sys

from engine.errors import UnavailableError
from engine.locations import Stores
from engine.loop.tick import Launch
from engine.loop_records import RunRequest
from engine.project import Project
from engine.stores.loop_state import LoopState


def launch_child(project: Project) -> Launch:
    """Start `engine tick --work KEY` in a session of its own; what it prints goes to `.plumbline/loop/log/`."""

    def launch(request: RunRequest, _: Stores) -> None:
        folder = project.home / "loop" / "log"
        command = [sys.executable, "-m", "engine", "tick", "--project", str(project.root), "--work", request.key]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / f"{request.key[:16]}.log").open("ab") as log:
                subprocess.Popen(  # noqa: S603 - our own interpreter and words
                    command, cwd=project.root, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                    env=os.environ | {"PYTHONUNBUFFERED": "1"},
                )  # fmt: skip
        except OSError as error:
            raise UnavailableError(
                f"the run of {request.pipeline} could not be started: {error}",
                hint="it stays asked for; the next tick tries again",
            ) from error

    return launch


def launch_here(project: Project) -> Launch:
    """Do requests in this process, one after the other, for simulations and `--wait`."""

    def launch(request: RunRequest, stores: Stores) -> None:
        do_here(project, LoopState(stores.database), request.key)

    return launch


def do_here(project: Project, state: LoopState, key: str) -> RunRequest | None:
    """Do one request; `None` when somebody else has it."""
    from engine.loop.running import run_request  # noqa: PLC0415 - a tick that launches nothing runs nothing
    from engine.loop.work import do_request  # noqa: PLC0415

    return do_request(project, state, state.find(key).key, run_request)
