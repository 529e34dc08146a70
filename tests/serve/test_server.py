"""A server as a process: takeover under load, what survives `kill -9`, how it ends, what it refuses to do."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

from engine.components import load_catalogue
from engine.features.sources import ingest_source
from engine.online.opening import open_cells, register
from engine.serve.package import open_served, read_plugins
from engine.serve.prediction_log import read_answers
from engine.stores.artefacts import LocalArtefactStore
from engine.stores.ledger import Versions, Why
from tests.serve.conftest import ENGINE, ROW, Rides

CLIENTS = int(os.environ.get("PLUMBLINE_CLIENTS", "4"))
SWAPS = int(os.environ.get("PLUMBLINE_SWAPS", "2"))
ROWS = [
    {"driver": f"d{index}", "distance": index * 1.5, "hour": index, "event_time": "2024-01-20T00:00:00Z"}
    for index in range(8)
]


@pytest.fixture(scope="session")
def filled(project: Rides) -> Rides:
    """The project with its online state filled."""
    served = open_served(LocalArtefactStore(project.home / "artefacts"), project.version(1), project.root)
    cells = open_cells(
        str(project.home / "online"), "rides", load_catalogue(project.root, read_plugins(served.model.folder))
    )
    state = register(cells, served.program, "2024-01-01T00:00:00.000000Z")
    raw = pl.read_csv(project.root / "data" / "rides.csv", infer_schema=False)
    rows = ingest_source(served.sources["rides"], raw).frame
    assert state.push("rides", rows.select(served.program.source_columns("rides"))).accepted == rows.height
    state.close()
    return project


@contextmanager
def serving(project: Rides, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server, and where it answers."""
    process = subprocess.Popen(
        [ENGINE, "serve", "model=rides@champion", "--port", "0", "--json", "--poll", "0.1", *arguments], cwd=project.root,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL, env={**os.environ},
    )  # fmt: skip
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        yield process, json.loads(line)["url"]
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=60)


def wait_for(what: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_new_champion_is_taken_over_without_a_failed_or_mixed_answer(filled: Rides) -> None:
    statuses: list[int] = []
    models: list[set[str]] = []
    scores: dict[str, set[tuple[float, ...]]] = {}
    stop = threading.Event()

    def ask(url: str) -> None:
        with httpx.Client(base_url=url) as client:
            while not stop.is_set():
                answer = client.post("/predict", json={"rows": ROWS})
                statuses.append(answer.status_code)
                found = answer.json()["predictions"]
                models.append({item["model"] for item in found})
                scores.setdefault(found[0]["model"], set()).add(tuple(item["score"] for item in found))

    with serving(filled) as (_, url):
        clients = [threading.Thread(target=ask, args=(url,)) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        for target, expected in ((2, 1), (1, 2)) * (SWAPS // 2):
            why = Why("test", "swap")
            filled.registry.move_alias("rides", "champion", Versions(expected, target), why, action="promote")
            wait_for(lambda target=target: models[-1] == {f"rides:{target}"} if models else False)
        stop.set()
        for client in clients:
            client.join()
    print(f"{len(statuses)} requests by {CLIENTS} clients over {SWAPS} swaps")
    assert set(statuses) == {200}
    assert all(len(found) == 1 for found in models)
    assert {name: len(found) for name, found in scores.items()} == {"rides:1": 1, "rides:2": 1}
    assert scores["rides:1"] != scores["rides:2"]


def test_what_was_acknowledged_survives_kill_9(filled: Rides) -> None:
    answered: set[str] = set()
    stop = threading.Event()

    def ask(url: str, name: str) -> None:
        with httpx.Client(base_url=url) as client:
            for number in range(100_000):
                if stop.is_set():
                    return
                try:
                    answer = client.post("/predict", json={**ROW, "prediction_id": f"{name}-{number}"})
                except httpx.HTTPError:
                    return
                if answer.json()["logged"]:
                    answered.add(f"{name}-{number}")

    with serving(filled) as (process, url):
        clients = [threading.Thread(target=ask, args=(url, f"kill{index}")) for index in range(4)]
        for client in clients:
            client.start()
        wait_for(lambda: len(answered) > 40)
        with httpx.Client(base_url=url) as client:
            event = {
                "ride_id": "pushed",
                "driver": "d1",
                "distance": 1.5,
                "hour": 3,
                "at": "2024-01-31T20:00:00Z",
                "late": 1,
            }
            assert client.post("/events", json={"source": "rides", "events": [event]}).json()["accepted"] == 1
            assert client.post("/feedback", json={"prediction_id": "kill0-0", "label": 1}).json()["accepted"] == 1
        process.send_signal(signal.SIGKILL)
        process.wait()
        stop.set()
        for client in clients:
            client.join()
    kept = set(read_answers(filled.home / "predictions", "rides")["prediction_id"])
    assert answered <= kept
    with serving(filled) as (_, url), httpx.Client(base_url=url) as client:
        assert client.post("/events", json={"source": "rides", "events": [event]}).json()["repeated"] == 1
        folder = filled.home / "predictions" / "rides"
        wait_for(lambda: len(list(folder.glob("*/*.wal"))) == 1)  # the dead server's file was sealed
    assert answered <= set(read_answers(filled.home / "predictions", "rides")["prediction_id"])
    shown = json.loads(filled.engine("feedback", "show", "rides", "--json").stdout)
    assert sum(item["labelled"] for item in shown) == 1


def test_sigterm_finishes_what_has_begun(filled: Rides) -> None:
    with serving(filled) as (process, url):
        answers: list[int] = []
        big = {"rows": [ROW] * 10_000}
        asking = threading.Thread(
            target=lambda: answers.append(httpx.post(url + "/predict", json=big, timeout=60).status_code)
        )
        with httpx.Client(base_url=url) as client:
            before = client.get("/metrics").text
            asking.start()
            wait_for(lambda: "plumbline_queued_rows 10000" in client.get("/metrics").text or not asking.is_alive())
        process.terminate()
        asking.join()
        assert process.wait(timeout=60) == 0
    assert answers == [200]
    assert "plumbline_queued_rows 0" in before


def test_two_workers_answer_and_are_counted_together(filled: Rides) -> None:
    with serving(filled, "--workers", "2") as (process, url):
        for _ in range(20):
            assert httpx.post(url + "/predict", json=ROW).status_code == 200
        counted = [
            line
            for line in httpx.get(url + "/metrics").text.splitlines()
            if line.startswith("plumbline_batch_rows_count")
        ]
        assert sum(float(line.split()[-1]) for line in counted) == 20
        process.terminate()
        assert process.wait(timeout=60) == 0


def test_slow_and_endless_heads_are_cut_off(filled: Rides) -> None:
    with serving(filled) as (_, url):
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as client:
            client.sendall(b"POST /predict HTTP/1.1\r\nhost: x\r\nx: " + b"a" * 60_000)
            assert client.recv(1000).startswith(b"HTTP/1.1 431")
        for rubbish in (
            b"\x00\xff\r\n\r\n",
            b"GET\r\n\r\n",
            b"POST /predict HTTP/9.9\r\n\r\n",
            b"GET /%ff%00 HTTP/1.1\r\n\r\n",
        ):
            with socket.create_connection((host, int(port))) as client:
                client.sendall(rubbish)
                client.settimeout(20)
                assert client.recv(1000)[9:10] == b"4"
        assert httpx.get(url + "/healthz").status_code == 200


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["model=rides@champion", "--host", "0.0.0.0"], 2, "token"),
        (["model=rides@champion", "--token", "plain"], 2, "secret"),
        (["model=rides@nobody"], 2, "registered: rides:1, rides:2"),
        (["model=nothing"], 2, "registered: none"),
        ([], 2, "say which model"),
        (["model=rides@champion", "--online", "elsewhere", "--port", "0"], 2, "engine features materialize"),
        (["model=rides@champion", "--token", "${secret:NOT_SET}", "--port", "0"], 7, "NOT_SET"),
    ],
)
def test_what_is_refused_at_the_start(filled: Rides, arguments: list[str], code: int, words: str) -> None:
    done = filled.engine("serve", *arguments)
    assert done.returncode == code, done.stderr
    assert words in done.stderr


def test_a_file_is_scored_as_requests_are(filled: Rides, tmp_path: Path) -> None:
    source, target = tmp_path / "rows.csv", tmp_path / "scores.ndjson"
    lines = [
        "driver,distance,hour,event_time,note",
        *(f"{r['driver']},{r['distance']},{r['hour']},{r['event_time']},n" for r in ROWS),
    ]
    source.write_text("\n".join(lines) + "\n")
    done = filled.engine("predict", "model=rides@champion", "--input", str(source), "--output", str(target), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"] == len(ROWS)
    scored = [json.loads(line) for line in target.read_text().splitlines()]
    with serving(filled) as (_, url):
        asked: list[Any] = httpx.post(url + "/predict", json={"rows": ROWS}).json()["predictions"]
    assert [row["score"] for row in scored] == [item["score"] for item in asked]
    assert scored[0]["note"] == "n"
    source.write_text("driver,distance,hour\nd1,far,3\nd2,1.0,x\n")
    done = filled.engine("predict", "model=rides@champion", "--input", str(source), "--output", str(target))
    assert done.returncode == 5
    assert "row 1, column distance" in done.stderr
    assert "row 2, column hour" in done.stderr


def test_logs_are_bounded_as_the_pipeline_declares(filled: Rides) -> None:
    """Real segments of a real server; one is made old, and goes with the next materialize, whose report counts it."""
    with serving(filled) as (_, url), httpx.Client(base_url=url) as client:
        assert client.post("/predict", json={**ROW, "prediction_id": "to-be-forgotten"}).json()["logged"]
        event = {
            "ride_id": "bounded",
            "driver": "d1",
            "distance": 1.5,
            "hour": 3,
            "at": "2024-01-31T21:00:00Z",
            "late": 1,
        }
        assert client.post("/events", json={"source": "rides", "events": [event]}).json()["accepted"] == 1

    def files() -> list[Path]:
        folders = [filled.home / "predictions" / "rides", filled.home / "events" / "rides"]
        return [path for folder in folders for path in folder.rglob("*") if path.suffix in {".wal", ".parquet"}]

    def materialize(*overrides: str) -> int:
        done = filled.engine("features", "materialize", "pipeline=rides", "--json", *overrides)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["logs_deleted"]

    before = len(files())
    assert before >= 2
    assert materialize() == 0
    assert materialize("online.keep_logs=30d", "online.logs_mb=1000") == 0
    for path in files():
        os.utime(path, (0, 0))
    assert materialize("online.keep_logs=30d") == before
    assert files() == []
