"""kill -9 while events are pushed: every acknowledged event is there, whole, and the next writer goes on.

`PLUMBLINE_KILLS=200 pytest tests/online/test_kill.py` kills that often.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from engine.components import Catalogue
from engine.features.compute import compute
from engine.online.opening import open_cells, register
from tests.features.worlds import REQUEST, bits, to_frame
from tests.online.killed_writer import events, program
from tests.online.servers import running_server

KILLS = int(os.environ.get("PLUMBLINE_KILLS", "2"))
ROOT = Path(__file__).resolve().parents[2]


def start(url: str, writer: int, first: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.online.killed_writer", url, "killed", str(writer), str(first)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "POLARS_MAX_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment)


def acknowledged(process: subprocess.Popen[str], first: int, chance: random.Random) -> int:
    """Let it push for a random moment, kill it, and give the last number that it said was safe."""
    assert process.stdout is not None
    line = process.stdout.readline()
    time.sleep(chance.uniform(0, 0.1))
    process.kill()
    rest = process.stdout.read()
    process.wait()
    process.stdout.close()
    whole = [text for text in (line + rest).split("\n")[:-1] if text]
    return int(whole[-1]) if whole else first


def check(url: str, catalogue: Catalogue, safe: dict[int, int]) -> dict[int, int]:
    """Everything acknowledged is there; of what was not, whole pushes or nothing. Gives where each writer is to go on."""
    cells = open_cells(url, "killed", catalogue)
    try:
        state = register(cells, program(), "2024-01-01T00:00:00Z")
        base = {"k": "key1", "j": 1, "v": 0.5, "n": 1, "s": "a", "b": True}
        asked = [{"event_time": 10**7, "row_id": 0, **base, "k": f"key{key}", "j": key % 3} for key in range(7)]
        spine = to_frame(asked, {"event_time": "timestamp", "row_id": "i64", **REQUEST})
        found = state.read(spine)["ev"]
        numbers = {writer: found.filter(pl.col("id") // 10**9 == writer)["n"].to_list() for writer in safe}
        ends = {}
        for writer, end in safe.items():
            held = set(numbers[writer])
            assert held >= set(range(end)), f"writer {writer} lost {sorted(set(range(end)) - held)[:5]} of {end}"
            next_push = end + 1 + end % 4
            assert held in (set(range(end)), set(range(next_push))), "half a push"
            ends[writer] = len(held)
        everything = pl.concat([events(writer, 0, end) for writer, end in ends.items() if end])
        history = {"ev": everything}
        assert bits(compute(state.program, spine, {"ev": found})) == bits(compute(state.program, spine, history))
        assert state.watermark("ev").events == everything.height
        return ends
    finally:
        cells.close()


@pytest.mark.parametrize("kind", ["file", "redis"])
def test_nothing_acknowledged_is_lost(kind: str, tmp_path: Path, catalogue: Catalogue) -> None:
    """Two writers at once; both are killed, at different moments."""
    chance = random.Random(7)

    def kill_all(url: str) -> None:
        ends = {1: 0, 2: 0}
        for _ in range(KILLS):
            running = {writer: start(url, writer, end) for writer, end in ends.items()}
            safe = {writer: acknowledged(process, ends[writer], chance) for writer, process in running.items()}
            ends = check(url, catalogue, safe)
        assert min(ends.values()) > 0

    if kind == "file":
        kill_all(f"file://{tmp_path}?map=1")
    else:
        with running_server(tmp_path) as (url, _):
            kill_all(url)


def test_a_killed_server_keeps_what_it_acknowledged(tmp_path: Path, catalogue: Catalogue) -> None:
    chance = random.Random(8)
    end = 0
    for _ in range(max(1, KILLS // 3)):
        with running_server(tmp_path) as (url, server):
            process = start(url, 1, end)
            assert process.stdout is not None
            said = process.stdout.readline()
            time.sleep(chance.uniform(0, 0.1))
            server.kill()
            said += process.stdout.read()
            process.stdout.close()
            process.wait()
            end = int(said.split("\n")[-2])
        with running_server(tmp_path) as (url, _):
            end = check(url, catalogue, {1: end})[1]
