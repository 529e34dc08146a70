"""Interrupting and killing a run at any moment, in a process of its own: nothing stays behind, nothing finished is redone."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from engine.execute.journal import read_events

ENGINE = Path(__file__).parents[2]
RUNNER = """
import json, sys
from pathlib import Path
sys.path[:0] = [sys.argv[1], sys.argv[3]]
from engine.contracts import Place
from engine.execute.journal import Journal
from engine.execute.request import ExecuteRequest
from engine.execute.run import execute
from engine.plan.model import ExecutionPlan, PlanNode
from engine.stores.artefacts import LocalArtefactStore
import msgspec
root = Path(sys.argv[1])
nodes = msgspec.json.decode(sys.argv[2], type=list[PlanNode])
kinds = {kind: f"plumbline_test_bodies:{kind}" for kind in ("text", "fail", "slow", "nap")}
def effect(node, results):
    import time
    (root / "in-effect").touch()
    time.sleep(30)
    return {}
request = ExecuteRequest(bodies=kinds, effects={"publish": effect}, threads=1, workers=2)
with Journal(root / "events.jsonl") as journal:
    results = execute(ExecutionPlan(pipeline="p", nodes=tuple(nodes)), request,
                      Place(root, "", str(root / "store"), (), 1, "9"), LocalArtefactStore(root / "store"), journal)
print(json.dumps([[result.name, result.state, result.reason] for result in results]))
"""


@pytest.fixture
def start(project):
    """Start runs, and leave none behind when a test fails."""
    started = []

    def launch(*nodes):
        command = [sys.executable, "-c", RUNNER, str(project), msgspec.json.encode(nodes).decode(), str(ENGINE)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(command, **pipes, text=True, start_new_session=True))
        return started[-1]

    yield launch
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def _pids(project, count):
    def read():
        path = project / "pids"
        lines = path.read_text().splitlines() if path.exists() else []
        return [int(pid) for line in lines for pid in line.split()] if len(lines) >= count else None

    return read


def _wait(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.005)
    return found


def _is_waiting(project):
    path = project / "events.jsonl"
    return path.exists() and "waiting for another run" in path.read_text()


def _is_gone(pid):
    """A zombie that its new parent has not reaped yet is gone too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def _staged(project):
    folder = project / "store" / "staging"
    return list(folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_kills_everything_within_a_second(project, start, node, number):
    nodes = node("done"), node("s1", "slow", inputs=["done"]), node("s2", "slow", x=2), node("after", inputs=["s1"])
    process = start(*nodes)
    pids = _wait(_pids(project, 2))
    started = time.monotonic()
    process.send_signal(number)
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)  # an impatient second one changes nothing
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - started < 10.0  # a second, and the rest for a busy machine; the body takes longer
    assert err == ""
    assert process.returncode == 0
    assert [(name, state) for name, state, _ in json.loads(out)] == [
        ("done", "ran"),
        ("s1", "cancelled"),
        ("s2", "cancelled"),
        ("after", "cancelled"),
    ]
    assert all(_is_gone(pid) for pid in pids), "the child and what it started"
    assert _staged(project) == []
    last = {event.node: event.state for event in read_events(project / "events.jsonl") if event.event == "node"}
    assert last == {"done": "ran", "s1": "cancelled", "s2": "cancelled", "after": "cancelled"}


def test_an_interrupt_reaches_an_effect(project, start, node):
    process = start(node("a"), node("e", "publish", inputs=["a"], effect=True))
    _wait((project / "in-effect").exists)
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - started < 10.0  # a second, and the rest for a busy machine; the body takes longer
    assert (err, out) == ("", '[["a", "ran", "not in the cache"], ["e", "cancelled", "interrupted"]]\n')


def test_killing_the_parent_kills_its_children(project, start, node):
    process = start(node("s1", "slow"), node("s2", "slow", x=2))
    pids = _wait(_pids(project, 2))
    process.kill()
    process.wait()
    process.communicate()
    _wait(lambda: all(_is_gone(pid) for pid in pids), 2.0)


def test_killing_a_child_is_survived(project, start, node):
    process = start(node("s", "slow", seconds=0.6, retries=1))
    child, grandchild = _wait(_pids(project, 1))
    os.kill(child, signal.SIGKILL)
    out, _ = process.communicate(timeout=60)
    assert '["s", "ran"' in out
    assert _is_gone(grandchild)


def test_whenever_it_is_killed_no_finished_node_is_redone(project, start, node):
    names = [f"n{index}" for index in range(12)]
    nodes = [
        node(name, "nap", seconds=0.03, x=name, inputs=names[max(index - 1, 0) : index])
        for index, name in enumerate(names)
    ]
    chance = random.Random(1)
    kills = 0
    for attempt in range(60):
        process = start(*nodes)
        try:
            out, err = process.communicate(timeout=chance.uniform(0.35, 0.75) + attempt / 20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
            continue
        assert (process.returncode, err) == (0, "")
        break
    assert kills >= 1
    finished = [e.node for e in read_events(project / "events.jsonl") if e.event == "node" and e.state == "ran"]
    assert len(finished) == len(set(finished)), "each node ran to its end once"
    assert {state for _, state, _ in json.loads(out)} <= {"ran", "cached"}
    calls = (project / "calls").read_text().split()
    assert len(calls) <= len(names) + kills, "only the node that was killed is done again"


def test_two_runs_at_once_compute_once(project, start, node):
    (project / "hold").touch()
    nodes = [node("a", "nap", seconds=0.0), node("b", "nap", seconds=0.0, inputs=["a"])]
    both = [start(*nodes) for _ in range(2)]
    _wait(lambda: _is_waiting(project))
    (project / "hold").unlink()
    outs = [process.communicate(timeout=60) for process in both]
    assert [err for _, err in outs] == ["", ""]
    states = [state for out, _ in outs for _, state, _ in json.loads(out)]
    assert sorted(states) == ["cached", "cached", "ran", "ran"]
    assert sorted((project / "calls").read_text().split()) == ["a", "b"]
    told = [event.message for event in read_events(project / "events.jsonl")]
    assert "waiting for another run that is computing this node" in told
    assert list((project / "store" / "locks").iterdir()) == []


def test_a_run_waits_no_longer_for_one_that_was_killed(project, start, node):
    first = start(node("s", "slow"))
    _wait(_pids(project, 1))
    (project / "seconds").write_text("0.1")
    second = start(node("s", "slow"))
    _wait(lambda: _is_waiting(project))
    first.kill()
    first.communicate()
    out, err = second.communicate(timeout=60)
    assert err == ""
    assert '["s", "ran"' in out
