"""The application without a socket: what is answered, what is refused and how, and that rubbish never is a fault."""

from __future__ import annotations

import json
import random
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.serve.app import Limits
from engine.serve.batching import BatchLimits
from engine.serve.feedback import current_labels, labelled_answers, read_feedback
from engine.serve.prediction_log import read_answers, read_predictions
from tests.serve.conftest import ROW, Rides, Server, close, make_server

EVENT = {"ride_id": "new", "driver": "d1", "distance": 11.239, "hour": 3, "at": "2024-01-31T20:00:00Z", "late": 1}


def test_one_row_and_many_are_answered_with_the_same_bits(server: Server) -> None:
    one = server.post("/predict", {**ROW, "prediction_id": "mine"})
    many = server.post("/predict", {"rows": [ROW, {**ROW, "driver": None}, ROW]})
    listed = server.post("/predict", [ROW])
    assert one.status == many.status == listed.status == 200
    assert one.json["prediction_id"] == "mine"
    assert one.json["model"] == "rides:1"
    scores = [item["score"] for item in many.json["predictions"]]
    assert scores[0] == scores[2] == one.json["score"] == listed.json["predictions"][0]["score"]
    assert scores[1] != scores[0]
    assert len({item["prediction_id"] for item in many.json["predictions"]}) == 3
    assert all(item["logged"] for item in many.json["predictions"])


def test_every_mistake_is_told_at_once_with_its_path(server: Server) -> None:
    answer = server.post("/predict", {"rows": [ROW, {"driver": 5, "distanc": 1.0, "hour": "4", "event_time": "noon"}]})
    assert answer.status == 422
    found = {item["path"]: item for item in answer.json["errors"]}
    assert set(found) == {f"$.rows[1].{name}" for name in ("driver", "distance", "hour", "event_time", "distanc")}
    assert "did you mean `distance`" in found["$.rows[1].distanc"]["message"]
    assert found["$.rows[1].hour"]["value"] == '"4"'
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400), (b"{", 400), (b"\xff\xfe", 400), (b"[" * 100_000, 400), (b"null", 422), (b"[]", 422), (b'{"rows": []}', 422),
        (b'{"rows": [{}], "more": 1}', 422), (b'{"driver": "a", "distance": 1e999, "hour": 1}', 400),
        (b'{"driver": "a", "distance": 1, "hour": 99999999999999999999}', 422), (b'{"driver": "a", "distance": NaN, "hour": 1}', 400),
        (b'{"driver": "a", "distance": 1, "hour": 1, "event_time": "0001-01-01T00:00:00+14:00"}', 422),
        (b'{"driver": "\\ud800", "distance": 1, "hour": 1}', 400), (b'{"driver": "a", "distance": true, "hour": 1}', 422),
    ],
)  # fmt: skip
def test_rubbish_is_refused_in_words(server: Server, body: bytes, status: int) -> None:
    answer = server.post("/predict", body)
    assert answer.status == status
    assert answer.json["errors"][0]["message"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["rows", "driver", "distance", "hour", "labels", "source", "events", "prediction_id", "x"]),
            inner,
        )
    ),
    max_leaves=12,
)


@given(document=JSON, path=st.sampled_from(["/predict", "/events", "/feedback"]))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_document_is_a_fault(server: Server, document: Any, path: str) -> None:
    assert server.post(path, json.dumps(document).encode()).status < 500


def test_no_bytes_are_a_fault(server: Server) -> None:
    draw = random.Random(1)
    good = json.dumps({"rows": [{**ROW, "event_time": "2024-01-31T00:00:00Z", "prediction_id": "a"}]})
    for _ in range(300):
        text = list(good)
        for _ in range(draw.randrange(1, 5)):
            text[draw.randrange(len(text))] = draw.choice(string.printable + "\x00é")
        assert server.post(draw.choice(["/predict", "/events", "/feedback"]), "".join(text).encode()).status < 500


def test_a_pushed_event_is_seen_from_when_it_is_available(server: Server) -> None:
    def score(at: str) -> float:
        return float(server.post("/predict", {**ROW, "event_time": at}).json["score"])

    before = score("2024-01-31T22:00:00Z")
    pushed = server.post(
        "/events", {"source": "rides", "events": [EVENT, {**EVENT, "ride_id": "left out", "hour": -1}]}
    )
    assert pushed.json == {"accepted": 1, "repeated": 0, "unknowable": 0, "expired": 0, "filtered": 1}
    assert server.post("/events", {"source": "rides", "events": [EVENT]}).json["repeated"] == 1
    log = read_predictions(Path(server.maker.predictions), "rides", server.service.live.champion.served.version.digest)
    assert log["features"].struct.field("driver_far").to_list() == [0.0]
    score("2024-01-31T21:00:00Z")  # exactly when it becomes available
    score("2024-01-31T20:59:59Z")
    after = read_predictions(
        Path(server.maker.predictions), "rides", server.service.live.champion.served.version.digest
    )
    assert after["features"].struct.field("driver_far").to_list() == [0.0, 1.0, 0.0]
    assert score("2024-01-31T22:00:00Z") != before


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"source": "ride"}, "$.source"), ({"events": []}, "$.events"), ({"events": [{**EVENT, "late": "yes"}]}, "$.events[0].late"),
        ({"events": [{**EVENT, "colour": 1}]}, "$.events[0].colour"), ({"events": [{**EVENT, "at": None}]}, "$.events[*].at"),
        ({"events": [EVENT, {**EVENT, "driver": None}]}, "$.events[*].driver"),
    ],
)  # fmt: skip
def test_an_event_that_does_not_fit_is_refused(server: Server, change: dict[str, Any], path: str) -> None:
    answer = server.post("/events", {"source": "rides", "events": [EVENT], **change})
    assert answer.status == 422
    assert [item["path"] for item in answer.json["errors"]] == [path]


def test_labels_come_late_and_are_revised(server: Server) -> None:
    made = [server.post("/predict", {**ROW, "prediction_id": name}).json for name in ("a", "b", "c")]
    sent = [
        {"prediction_id": "a", "label": 0},
        {"prediction_id": "b", "label": True},
        {"prediction_id": "z", "label": 1},
    ]
    assert server.post("/feedback", {"labels": sent}).json["accepted"] == 3
    assert server.post("/feedback", {"prediction_id": "a", "label": 1, "at": "2024-03-01T00:00:00Z"}).status == 200
    assert server.post("/feedback", [{"prediction_id": "b", "label": None}]).status == 200
    root = Path(server.maker.predictions).parent
    history = read_feedback(root / "feedback", "rides")
    assert history.height == 5
    assert current_labels(history).select("prediction_id", "label", "revisions").rows() == [
        ("z", 1.0, 0),
        ("a", 1.0, 1),
    ]
    joined = labelled_answers(root / "predictions", root / "feedback", "rides")
    assert joined.select("prediction_id", "label", "score").rows() == [("a", 1.0, made[0]["score"])]
    refused = server.post("/feedback", {"prediction_id": "a", "label": 0.5})
    assert (refused.status, refused.json["errors"][0]["path"]) == (422, "$.label")


def test_the_log_has_the_bits_of_every_answer(server: Server) -> None:
    rows = [{"driver": f"d{index}", "distance": index / 7, "hour": index} for index in range(8)]
    answered = server.post("/predict", {"rows": rows}).json["predictions"]
    served = server.service.live.champion.served
    log = read_predictions(Path(server.maker.predictions), "rides", served.version.digest)
    assert log["prediction_id"].to_list() == [item["prediction_id"] for item in answered]
    assert log["score"].to_list() == [item["score"] for item in answered]
    assert log["request"].to_list() == rows
    x = log["features"].struct.unnest().select(served.columns).to_numpy()
    assert served.model.predictor.predict(x).tolist() == log["score"].to_list()
    assert set(log["program"]) == {served.program.digest}
    assert read_answers(Path(server.maker.predictions), "rides").height == 8


def test_a_token_is_demanded_of_all_but_probes(project: Rides, tmp_path: Path) -> None:
    server = make_server(project, tmp_path, token="s3cret")
    assert [server.get(path).status for path in ("/healthz", "/readyz", "/metrics", "/", "/openapi.json")] == [
        200,
        200,
        401,
        401,
        401,
    ]
    assert server.post("/predict", ROW).status == 401
    assert server.post("/predict", ROW, authorization="Bearer s3cre").status == 401
    assert server.post("/predict", ROW, authorization="Bearer s3cret").status == 200
    close(server)


def test_other_sites_pages_are_refused(server: Server) -> None:
    assert server.post("/predict", ROW, host="localhost:8000", origin="https://evil.example").status == 403
    assert server.post("/predict", ROW, host="localhost:8000", origin="http://localhost:8000").status == 200


def test_limits_hold(project: Rides, tmp_path: Path) -> None:
    server = make_server(project, tmp_path, limits=Limits(body=400, rows=3, batch=BatchLimits(rows=2, queued=3)))
    assert server.post("/predict", {"rows": [ROW] * 3}).status == 200  # more than a batch: scored beside the loop
    assert server.post("/predict", {"rows": [ROW] * 4}).status == 413
    assert server.post("/predict", {**ROW, "driver": "x" * 500}).status == 413
    assert server.post("/predict", ROW, content_length="401").status == 413
    assert server.post("/predict", ROW, content_encoding="gzip").status == 415
    server.app.batcher.queued = 3
    busy = server.post("/predict", ROW)
    assert (busy.status, busy.headers["retry-after"]) == (503, "1")
    server.app.batcher.queued = 0
    close(server)


def test_routes_methods_and_what_people_and_machines_read(server: Server) -> None:
    assert server.get("/nothing").status == 404
    assert server.get("/predict").status == 405
    assert server.get("/readyz").json["status"] == "ready"
    assert b"plumbline_model_info" in server.get("/metrics").body
    document = server.get("/openapi.json").json
    assert document["components"]["schemas"]["Row"]["required"] == ["distance", "driver", "hour"]
    assert "/events" in document["paths"]
    page = server.get("/").body.decode()
    assert "rides:1" in page
    assert "http://" not in page
    assert "https://" not in page
    server.service.draining = True
    assert server.get("/readyz").status == 503


def test_few_rows_many_rows_and_every_way_give_the_same_bits(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    events = [
        {**EVENT, "ride_id": f"p{index}", "driver": f"d{index % 5}", "distance": index * 1.37, "late": index % 2,
         "at": f"2024-01-{25 + index % 6}T0{index % 9}:00:00Z"}
        for index in range(60)
    ]  # fmt: skip
    assert server.post("/events", {"source": "rides", "events": events}).json["accepted"] == 60
    rows = [
        {"driver": None if index % 9 == 8 else f"d{index % 7}", "distance": index / 7, "hour": index % 24,
         "event_time": f"2024-01-31T{index % 24:02}:00:00Z"}
        for index in range(90)
    ]  # fmt: skip
    many = [item["score"] for item in server.post("/predict", {"rows": rows}).json["predictions"]]
    few = [item["score"] for item in server.post("/predict", {"rows": rows[:40]}).json["predictions"]]
    single = [server.post("/predict", row).json["score"] for row in rows]
    assert many == single
    assert many[:40] == few
    monkeypatch.setattr("engine.serve.scorer.ROW_BY_ROW", 0)
    assert [server.post("/predict", row).json["score"] for row in rows[:40]] == few
    assert len(set(many)) > 20
