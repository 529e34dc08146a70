"""What a run does for its trackers: a row in the outbox for each, and a sender started beside it. Never waits, never raises.

Called when a run has been recorded. A tracker that is down costs the run nothing: the letter stays.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from engine.clock import Clock, isoformat
from engine.errors import EngineError
from engine.locations import Stores
from engine.records import RunRecord
from engine.stores.outbox import Letter

NO_SENDER = "PLUMBLINE_NO_SENDER"
"""Set in the environment, no sender is started: `engine runs sync` is left to cron or to CI."""


def post(stores: Stores, record: RunRecord, config: Mapping[str, Any], where: str, clock: Clock) -> int:
    """Leave a letter for each tracker that the config declares; gives how many."""
    declared = config.get("trackers")
    if not isinstance(declared, Mapping) or not declared:
        return 0
    plugins = (*config.get("plugins", ()), *config.get("extra_plugins", ()))
    with suppress(EngineError):  # a run that has been recorded does not fail for its mirrors
        for name, tracker in declared.items():
            letter = Letter(
                record.run_id, str(name), dict(tracker), tuple(plugins), where, queued_at=isoformat(clock.now())
            )
            stores.outbox.put(letter)
    return len(declared)


def start_sender(stores: Stores) -> None:
    """Start a process that delivers what is due, and leave it alone: it lives on when this one ends."""
    if os.environ.get(NO_SENDER):
        return
    places = stores.settings.stores
    words = [sys.executable, "-m", "engine", "runs", "--project", str(stores.project.root), "--runs-dir", places.runs]
    words += ["--state", places.state] if places.state else []
    words += ["--artefacts", places.artefacts] if places.artefacts else []
    with suppress(OSError):
        stores.project.home.mkdir(parents=True, exist_ok=True)
        with (stores.project.home / "trackers.log").open("a") as log:
            subprocess.Popen(  # noqa: S603 - our own command
                [*words, "sync", "--json"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                close_fds=True,
            )
