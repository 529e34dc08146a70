"""Trackers against real receivers: an MLflow server, Weights & Biases offline, an OTLP and an OpenLineage endpoint.

Each hears of a run twice and has it once; one that is down or answers 500 loses nothing, and no secret reaches any.
"""

from __future__ import annotations

import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.components import load_catalogue
from engine.contracts import MirroredRun
from engine.errors import UnavailableError
from engine.keys import digest
from engine.project import shipped
from engine.records import Event, Metric, NodeOutput, NodeResult, RunRecord, SnapshotPin

AT = "2026-03-01T10:00:00Z"


def build(kind: str, **params: Any) -> Any:
    component = load_catalogue(shipped("conf").parent, ("trackers",)).get("tracker", kind)
    return component.build(msgspec.convert(params, component.params, strict=True))


@pytest.fixture
def run(tmp_path: Path) -> MirroredRun:
    """A promoted run with two nodes, a metric and files."""

    def node(name: str, key: str, output: str, seconds: float) -> NodeResult:
        made = NodeOutput(digest=output * 64)
        return NodeResult(name=name, kind=name, state="ran", key=key * 64, output=made, seconds=seconds, started_at=AT)

    broken = NodeResult(name="gate", kind="gate", state="failed", error="it broke", started_at=AT)
    nodes = (node("features", "a", "b", 2.0), node("train", "c", "d", 1.0), broken)
    record = RunRecord(
        run_id="7", pipeline="rides", status="succeeded", verdict="promote", started_at=AT, finished_at="2026-03-01T10:00:05Z",
        config_digest=digest("c"), plan_digest=digest("p"), nodes=nodes, metrics=(Metric(name="roc_auc", value=0.71),),
        model="rides:2", model_digest="e" * 64, promoted=True,
        snapshots=(SnapshotPin(source="rides", repository="data", commit="abc", digest="f" * 64, rows=9),),
    )  # fmt: skip
    package = tmp_path / "package"
    package.mkdir()
    (package / "model.txt").write_text("tree")
    (tmp_path / "report.html").write_text("<p>report</p>")
    event = Event(at=AT, run_id="7", event="metric", node="train", step=4, value=0.5)
    return MirroredRun(
        record=record, project="shop", root=tmp_path, params={"train.rounds": "20"}, metrics={"roc_auc": 0.71},
        tags={"plumbline.run": "7", "tag.team": "risk"}, events=(event,), edges={"train": ("features",), "gate": ("train",)},
        files=(tmp_path / "report.html",), package=package, alias="champion",
    )  # fmt: skip


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLflow server on the loopback."""
    home, port = tmp_path_factory.mktemp("mlflow"), free_port()
    words = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
             "--backend-store-uri", f"sqlite:///{home}/db", "--artifacts-destination", str(home / "files")]  # fmt: skip
    with (home / "log").open("w") as log:
        process = subprocess.Popen(
            words,
            stdout=log,
            stderr=log,
            cwd=home,
            start_new_session=True,
            env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
        )
        url = f"http://127.0.0.1:{port}"
        try:
            end = time.monotonic() + 600
            while not _answers(url + "/health"):
                assert process.poll() is None, (home / "log").read_text()[-2000:]
                assert time.monotonic() < end, (home / "log").read_text()[-2000:]
                time.sleep(0.2)
            yield url
        finally:
            os.killpg(process.pid, 9)
            process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.mark.filterwarnings("ignore")
def test_mlflow_has_the_run_once_with_its_model_under_the_alias(server: str, run: MirroredRun) -> None:
    mlflow = pytest.importorskip("mlflow") if not os.environ.get("CI") else __import__("mlflow")
    tracker = build("mlflow", uri=server)
    first = tracker.mirror(run)
    assert tracker.mirror(run) == first
    client = mlflow.MlflowClient(tracking_uri=server, registry_uri=server)
    (mirrored,) = client.search_runs([client.get_experiment_by_name("rides").experiment_id])
    assert mirrored.info.status == "FINISHED"
    assert mirrored.data.metrics["roc_auc"] == 0.71
    assert mirrored.data.params == {"train.rounds": "20"}
    assert mirrored.data.tags["tag.team"] == "risk"
    assert {item.path for item in client.list_artifacts(first)} == {"report.html", "package"}
    version = client.get_model_version_by_alias("rides", "champion")
    assert (version.tags["plumbline.digest"], version.tags["plumbline.version"]) == ("e" * 64, "2")
    assert len(client.search_model_versions("name = 'rides'")) == 1


@pytest.mark.filterwarnings("ignore")
def test_weights_and_biases_offline_leaves_files(run: MirroredRun) -> None:
    assert build("wandb", mode="offline").mirror(run)
    (written,) = (run.root / ".plumbline" / "wandb").rglob("*.wandb")
    assert written.stat().st_size > 0


class Receiver(http.server.BaseHTTPRequestHandler):
    """Keeps what is posted; answers what it was told to."""

    bodies: list[bytes] = []
    status = 200

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(type(self).status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[tuple[str, type[Receiver]]]:
    kind = type("OneReceiver", (Receiver,), {"bodies": [], "status": 200})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{made.server_address[1]}/v1", kind
        made.shutdown()
        thread.join()


def test_a_trace_has_a_span_a_node_linked_to_its_inputs(receiver: tuple[str, type[Receiver]], run: MirroredRun) -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    url, kept = receiver
    tracker = build("opentelemetry", endpoint=url)
    trace = tracker.mirror(run)
    assert tracker.mirror(run) == trace
    received = ExportTraceServiceRequest.FromString(kept.bodies[0])
    spans = {span.name: span for scope in received.resource_spans[0].scope_spans for span in scope.spans}
    assert set(spans) == {"run rides", "features", "train", "gate"}
    assert {span.trace_id.hex() for span in spans.values()} == {trace}
    assert spans["train"].parent_span_id == spans["run rides"].span_id
    assert spans["train"].links[0].span_id == spans["features"].span_id
    assert spans["features"].end_time_unix_nano - spans["features"].start_time_unix_nano == 2_000_000_000
    assert spans["gate"].status.message == "it broke"


def test_lineage_names_data_by_commit_and_the_model(receiver: tuple[str, type[Receiver]], run: MirroredRun) -> None:
    url, kept = receiver
    build("openlineage", url=url).mirror(run)
    events = [json.loads(body) for body in kept.bodies]
    assert [event["eventType"] for event in events] == [
        "START",
        "START",
        "COMPLETE",
        "START",
        "COMPLETE",
        "START",
        "FAIL",
        "COMPLETE",
    ]
    whole = events[-1]
    assert whole["inputs"][0]["facets"]["version"]["datasetVersion"] == "abc"
    assert whole["outputs"][0]["name"] == "rides/rides:2"
    times = [event["eventTime"] for event in events if event["job"]["name"] == "rides.features"]
    assert times == [AT, "2026-03-01T10:00:02.000000Z"]
    train = next(event for event in events if event["job"]["name"] == "rides.train")
    assert train["inputs"][0]["facets"]["version"]["datasetVersion"] == "b" * 64
    assert train["run"]["facets"]["parent"]["run"]["runId"] == whole["run"]["runId"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["mlflow", "opentelemetry", "openlineage"])
def test_a_tracker_that_is_down_or_answers_500_says_so(
    kind: str, receiver: tuple[str, type[Receiver]], run: MirroredRun
) -> None:
    url, kept = receiver
    kept.status = 500
    key = {"mlflow": "uri", "opentelemetry": "endpoint", "openlineage": "url"}[kind]
    places = [f"http://127.0.0.1:{free_port()}"] + ([url] if kind == "openlineage" else [])
    for place in places:
        with pytest.raises(UnavailableError):
            build(kind, **{key: place}, timeout=2.0).mirror(run)
