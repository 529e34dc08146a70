"""What a server logged, monitored: latency, failures, parity bit by bit, types as in training."""

from __future__ import annotations

import json
import random
from pathlib import Path

import polars as pl
import pytest

from engine.cli import main
from tests.serve.conftest import Rides, Server, close, make_server

MONITORS = """\
watch: {chunk: {count: 1}}
monitors:
  service: {kind: service, max_latency_ms: 60000}
  parity: {kind: parity}
  quality: {kind: quality}
"""


@pytest.fixture
def watched(project: Rides, tmp_path: Path):
    """The project with monitors, and a server whose log lies in its home."""
    root = tmp_path / "project"
    root.mkdir()
    for name in ("conf", "data", "runs"):
        (root / name).symlink_to(project.root / name)
    (root / "conf").unlink()
    (root / "conf" / "pipeline").mkdir(parents=True)
    text = (project.root / "conf" / "pipeline" / "rides.yaml").read_text()
    (root / "conf" / "pipeline" / "rides.yaml").write_text(text + MONITORS)
    (root / ".plumbline").mkdir()
    for item in project.home.iterdir():
        (root / ".plumbline" / item.name).symlink_to(item)
    server = make_server(project, root / ".plumbline")
    yield root, server
    close(server)


def ask(server: Server, count: int) -> list[str]:
    draw = random.Random(3)
    rows = [
        {"driver": f"d{draw.randrange(8)}", "distance": round(draw.expovariate(1 / 12), 2), "hour": draw.randrange(24)}
        for _ in range(count)
    ]
    return [item["prediction_id"] for item in server.post("/predict", rows).json["predictions"]]


def monitor(root: Path, capsys: pytest.CaptureFixture[str], *names: str) -> dict[str, dict]:
    capsys.readouterr()
    only = [word for name in names for word in ("--only", name)]
    main(["monitor", "pipeline=rides", "--project", str(root), "--at", "2024-03-01", "--dry-run", "--json", *only])
    return {reading["monitor"]: reading for reading in json.loads(capsys.readouterr().out)["readings"]}


def test_a_log_has_latency_failures_and_parity(watched, capsys: pytest.CaptureFixture[str]) -> None:
    root, server = watched
    ask(server, 150)
    close(server)
    found = monitor(root, capsys, "service", "parity", "quality")
    assert found["service"]["status"] == "ok"
    assert 0 < found["service"]["value"] < 10_000
    assert found["service"]["findings"][1]["now"] == 0.0
    assert found["parity"]["status"] == "ok", found["parity"]["words"]
    assert found["parity"]["details"]["compared"] >= 150
    assert not [item for item in found["quality"]["findings"] if item["component"] == "schema"], found["quality"][
        "words"
    ]


def test_a_served_value_of_other_bits_is_an_alarm(watched, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    root, server = watched
    ask(server, 40)
    close(server)
    from engine.serve import prediction_log

    read = prediction_log.read_predictions

    def tampered(*arguments):
        rows = read(*arguments)
        features = rows["features"].struct.unnest().with_columns(km=pl.col("km") + 1e-12)
        return rows.with_columns(features.to_struct("features"))

    monkeypatch.setattr(prediction_log, "read_predictions", tampered)
    found = monitor(root, capsys, "parity")["parity"]
    assert found["status"] == "alarm"
    assert [item["name"] for item in found["findings"]] == ["km"]
    assert found["value"] == 1.0
