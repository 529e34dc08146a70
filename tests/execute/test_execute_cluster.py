"""A real scheduler and worker in processes of their own, by address: the same keys, digests and events as embedded."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from engine.errors import UnavailableError, UsageError

ENGINE = Path(__file__).parents[2]


def _wait(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)
    return found


def _is_gone(pid):
    """A zombie that its new parent has not reaped yet is gone too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dask")
    bodies = folder / "bodies"
    bodies.mkdir()
    environment = {**os.environ, "PYTHONPATH": f"{ENGINE}{os.pathsep}{bodies}"}
    contact = folder / "scheduler.json"
    log = (folder / "log").open("w")

    def start(*arguments):
        command = [sys.executable, "-m", "dask", *arguments]
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)

    address = "tcp://127.0.0.1:0"
    scheduler = start(
        "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(contact)
    )
    worker = start(
        "worker",
        "--scheduler-file",
        str(contact),
        "--nthreads",
        "2",
        "--nworkers",
        "1",
        "--no-dashboard",
        "--resources",
        "slot=2",
    )
    try:
        _wait(contact.exists)
        address = _wait(lambda: _address(contact))
        yield address, bodies, scheduler
    finally:
        for process in (worker, scheduler):
            process.send_signal(signal.SIGINT)
        for process in (worker, scheduler):
            with suppress(subprocess.TimeoutExpired):
                process.wait(3)
            process.kill()
            process.wait()
        log.close()


def _address(contact):
    with suppress(ValueError):
        return json.loads(contact.read_text())["address"]
    return None


@pytest.fixture
def shared(cluster, bench):
    address, bodies, _ = cluster
    (bodies / "plumbline_test_bodies.py").write_text((bench.root / "plumbline_test_bodies.py").read_text())
    bench.request = replace(bench.request, address=address)
    return bench


def test_the_same_keys_digests_and_events_as_embedded(shared, node, tmp_path):
    nodes = node("a", word="x"), node("b", inputs=["a"]), node("c", inputs=["a", "b"]), node("bad", "fail", how="data")
    remote = shared.run(*nodes)
    assert [result.state for result in remote.values()] == ["ran", "ran", "ran", "failed"]
    assert remote["a"].worker.startswith("tcp://")
    assert remote["bad"].exit_code == 5
    _wait(lambda: {"running", "ran"} <= {event.state for event in shared.heard.events})
    assert any(event.event == "progress" and event.rows == 7 for event in shared.heard.events)
    shared.store = type(shared.store)(tmp_path / "other")
    local = shared.run(*nodes, address=None)
    assert [(r.key, r.output and r.output.digest) for r in local.values()] == [
        (r.key, r.output and r.output.digest) for r in remote.values()
    ]


def test_a_resource_that_no_worker_has(shared, node):
    started = time.monotonic()
    with pytest.raises(UnavailableError, match=r"no worker of .* has the resource gpu=1") as error:
        shared.run(node("a"), resources={"gpu": 1.0})
    assert "--resources gpu=1" in error.value.hint
    assert time.monotonic() - started < 30  # Dask itself would wait for ever
    assert shared.run(node("a"), resources={"slot": 1.0})["a"].state == "ran"


def test_parts_of_a_node_are_tasks_of_the_scheduler_which_do_not_wait_for_what_the_node_holds(shared, node):
    """The node asks for both slots, and gives its thread back; its parts take the threads of the worker side by side."""
    result = shared.run(node("w", "whole", how="meet"), resources={"slot": 2.0})["w"]
    assert (result.state, result.error) == ("ran", None)
    assert shared.text(result) == "0 1 2 3 4"
    assert len(result.output.notes["pids"]) >= 2
    failed = shared.run(node("w", "whole", how="data", seconds=60))["w"]
    assert (failed.state, failed.exit_code) == ("failed", 5)
    assert failed.error.startswith("users.csv:3: no key")
    pids = [int(pid) for pid in (shared.root / "pids").read_text().split()]
    _wait(lambda: all(_is_gone(pid) for pid in pids), 10.0)
    assert shared.run(node("k", "whole", how="kill"))["k"].state == "ran"


def test_a_scheduler_that_is_not_there(shared, node, monkeypatch):
    monkeypatch.setattr("engine.execute.cluster._CONNECT_SECONDS", 0.5)
    with pytest.raises(UnavailableError, match=r"no Dask scheduler answers at tcp://127.0.0.1:9"):
        shared.run(node("a"), address="tcp://127.0.0.1:9")
    with pytest.raises(UsageError, match=r"dask.address=odd://x"):
        shared.run(node("a"), address="odd://x")


def test_a_version_mismatch_is_shown(shared, node, monkeypatch):
    import warnings

    from distributed import Client
    from distributed.versions import VersionMismatchWarning

    def connect(*args, **kwargs):
        warnings.warn(VersionMismatchWarning("msgpack differs"), stacklevel=1)
        return Client(*args, **kwargs)

    monkeypatch.setattr("engine.execute.cluster.Client", connect)
    assert shared.run(node("a"))["a"].state == "ran"
    assert "msgpack differs" in shared.heard.messages("warning")


def test_a_worker_that_does_not_see_the_store(shared, node, monkeypatch):
    monkeypatch.setattr("engine.execute.cluster.Path.touch", lambda self: None)
    with pytest.raises(UnavailableError, match="does not see the artefact store"):
        shared.run(node("a"))


def test_ctrl_c_kills_the_bodies_on_the_workers(shared, node):
    import threading

    sent = []

    def interrupt():
        _wait((shared.root / "pids").exists)
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    results = shared.run(node("a", word="ctrl-c"), node("s", "slow", inputs=["a"]), node("after", inputs=["s"]))
    assert time.monotonic() - sent[0] < 10.0  # a second, and the rest for a busy machine; the body takes longer
    thread.join()
    assert [result.state for result in results.values()] == ["ran", "cancelled", "cancelled"]
    pids = [int(pid) for pid in (shared.root / "pids").read_text().split()]
    _wait(lambda: all(_is_gone(pid) for pid in pids), 3.0)
    _wait(lambda: shared.staged() == [], 2.0)


def test_a_lost_client_ends_its_work(shared, node, project):
    code = f"""
import sys
sys.path[:0] = [{str(ENGINE)!r}]
from pathlib import Path
from engine.contracts import Place
from engine.execute.request import ExecuteRequest
from engine.execute.run import execute
from engine.plan.model import ExecutionPlan, PlanNode
from engine.stores.artefacts import LocalArtefactStore
class Deaf:
    def on_event(self, event): pass
root = Path({str(shared.root)!r})
request = ExecuteRequest(bodies={{"slow": "plumbline_test_bodies:slow"}}, address={shared.request.address!r})
execute(ExecutionPlan(pipeline="p", nodes=(PlanNode(name="s", kind="slow"),)), request,
        Place(root, "", str(root / "store"), (), 1, "9"), LocalArtefactStore(root / "store"), Deaf())
"""
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as process:
        try:
            _wait((shared.root / "pids").exists)
        finally:
            process.kill()
    pids = [int(pid) for pid in (shared.root / "pids").read_text().split()]
    _wait(lambda: all(_is_gone(pid) for pid in pids), 5.0)


def test_a_killed_worker_costs_one_repetition(shared, node):
    import threading

    def kill():
        child = int(_wait(lambda: (shared.root / "pids").exists() and (shared.root / "pids").read_text().split())[0])
        worker = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(worker, signal.SIGKILL)
        _wait(lambda: _is_gone(child), 3.0)

    thread = threading.Thread(target=kill)
    thread.start()
    result = shared.run(node("s", "slow", seconds=1.0))["s"]
    thread.join()
    assert (result.state, len(shared.calls())) == ("ran", 2)


def test_a_scheduler_that_dies_ends_the_run_with_words(shared, cluster, node):
    import threading

    def kill():
        _wait((shared.root / "pids").exists)
        cluster[2].kill()

    thread = threading.Thread(target=kill)
    thread.start()
    started = time.monotonic()
    result = shared.run(node("s", "slow", seconds=30))["s"]
    thread.join()
    assert time.monotonic() - started < 28  # the body sleeps for half a minute
    assert (result.state, result.exit_code) == ("failed", 7)
    assert "scheduler was lost" in result.error
    pids = [int(pid) for pid in (shared.root / "pids").read_text().split()]
    _wait(lambda: all(_is_gone(pid) for pid in pids), 10.0)
