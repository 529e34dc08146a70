"""`engine monitor` from the command line: quiet when nothing changed, alerts with causes, deduplicated, delivered, restated."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from engine.cli import main
from tests.watch.conftest import START, scored

LATER = START + timedelta(days=40)


@pytest.fixture
def monitor(project: Path, capsys: pytest.CaptureFixture[str]):
    """Run the command on the project's files and give its answer and its exit code."""

    def run(*arguments: str):
        files = ["--rows", str(project / "rows.parquet"), "--reference", str(project / "reference.parquet")]
        capsys.readouterr()
        code = main(["monitor", "pipeline=small", "--project", str(project), *files, "--json", *arguments])
        return json.loads(capsys.readouterr().out), code

    return run


def found(answer: dict, monitor: str) -> list[dict]:
    return [reading for reading in answer["readings"] if reading["monitor"] == monitor]


def change(project: Path, *columns: pl.Expr) -> None:
    rows = scored(6, 2, start=LATER)
    last = pl.col("event_time") >= LATER + timedelta(days=5)
    rows.with_columns(
        *(
            pl.when(last).then(item).otherwise(pl.col(item.meta.output_name())).alias(item.meta.output_name())
            for item in columns
        )
    ).write_parquet(project / "rows.parquet")


def test_nothing_changed(monitor, project: Path) -> None:
    answer, code = monitor()
    assert code == 0, [reading["words"] for reading in answer["readings"] if reading["status"] != "ok"]
    assert answer["status"] == "ok"
    assert answer["chunks"] == 6
    assert answer["alerts"] == []
    assert (project / "runs" / "monitor" / "small.html").read_text().startswith("<!DOCTYPE html>")
    kinds = {reading["kind"] for reading in answer["readings"]}
    assert kinds >= {
        "drift",
        "prediction",
        "multivariate",
        "quality",
        "calibration",
        "performance",
        "estimated",
        "concept",
    }


def test_a_shifted_feature_is_an_alert_with_its_cause_and_runbook(monitor, project: Path) -> None:
    change(project, pl.col("x") + 0.6)
    answer, code = monitor("--only", "drift")
    (alert,) = answer["alerts"]
    assert code == 3
    assert alert["state"] == "open"
    assert alert["owner"] == "team"
    assert alert["causes"][0]["name"] == "x"
    assert "call the team" in alert["runbook"]
    assert "--only drift" in alert["command"]
    lines = (project / "alerts.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["opened"]
    again, _ = monitor("--only", "drift")
    assert [item["id"] for item in again["alerts"]] == [alert["id"]]
    assert len((project / "alerts.jsonl").read_text().splitlines()) == 1


def test_what_a_column_explains_of_the_scores_movement(monitor, project: Path) -> None:
    rows = scored(6, 2, start=LATER)
    rows.with_columns(
        x=pl.col("x") + 0.8, prediction=1 / (1 + (-(pl.col("x") + 0.3 - 0.5 * pl.col("z"))).exp())
    ).write_parquet(project / "rows.parquet")
    answer, _ = monitor("--only", "drift")
    causes = {item["name"]: item for item in answer["alerts"][0]["causes"]}
    assert causes["x"]["explains"] == pytest.approx(1.0, abs=0.25)


def test_reversed_labels_are_performance_and_concept_not_drift(monitor, project: Path) -> None:
    change(project, pl.col("label") * -1.0 + 1.0)
    answer, code = monitor()
    alarms = {reading["monitor"] for reading in answer["readings"] if reading["status"] == "alarm"}
    assert {"performance", "concept", "calibration"} <= alarms
    assert not alarms & {"drift", "prediction", "estimated"}
    assert code == 5


def test_labels_mature_and_chunks_are_restated(monitor) -> None:
    day = (LATER + timedelta(days=1, hours=6)).isoformat()
    early, _ = monitor("--only", "performance", "--at", day)
    late, _ = monitor("--only", "performance")
    first, second = found(early, "performance")[0], found(late, "performance")[0]
    assert first["chunk"] == second["chunk"]
    assert first["coverage"] == pytest.approx(0.25, abs=0.02)
    assert second["coverage"] == 1.0
    assert first["status"] == "insufficient_data"


def test_an_alert_is_acknowledged_and_resolved(monitor, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(project, pl.col("x") + 0.6)
    answer, _ = monitor("--only", "drift")
    start = answer["alerts"][0]["id"][:6]
    project_flag = ["--project", str(project)]
    assert main(["monitor", "alerts", "ack", start, "--reason", "known", *project_flag]) == 0
    again, code = monitor("--only", "drift")
    assert again["alerts"][0]["state"] == "acknowledged"
    assert code == 0
    assert main(["monitor", "alerts", "resolve", start, *project_flag]) == 0
    capsys.readouterr()
    assert main(["monitor", "alerts", "ls", "--json", *project_flag]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert main(["monitor", "alerts", "ack", start, *project_flag]) != 0


def test_a_quiet_time_resolves_an_alert(monitor, project: Path) -> None:
    rows = scored(6, 2, start=LATER)
    second = pl.col("event_time").is_between(LATER + timedelta(days=1), LATER + timedelta(days=2), closed="left")
    rows.with_columns(x=pl.when(second).then(pl.col("x") + 2.0).otherwise(pl.col("x"))).write_parquet(
        project / "rows.parquet"
    )
    answer, _ = monitor(
        "--only",
        "quality",
        "--only",
        "multivariate",
        "--only",
        "prediction",
        "--at",
        (LATER + timedelta(days=2)).isoformat(),
    )
    opened = {alert["monitor"] for alert in answer["alerts"]}
    assert "multivariate" in opened
    answer, _ = monitor("--only", "multivariate")
    assert not [alert for alert in answer["alerts"] if alert["monitor"] == "multivariate"]


def test_a_notifier_that_is_down_breaks_nothing_and_is_tried_again(monitor, project: Path) -> None:
    file = project / "conf" / "pipeline" / "small.yaml"
    good = file.read_text()
    file.write_text(
        good.replace("  file: {", "  hook: {kind: webhook, url: 'http://127.0.0.1:9/', timeout: 1}\n  file: {")
    )
    change(project, pl.col("x") + 0.6)
    answer, code = monitor("--only", "drift")
    assert (answer["undelivered"], code) == (1, 3)
    assert len((project / "alerts.jsonl").read_text().splitlines()) == 1
    file.write_text(good.replace("  file: {", f"  hook: {{kind: log, path: {project / 'other.jsonl'}}}\n  file: {{"))
    answer, _ = monitor("--only", "drift")
    assert answer["undelivered"] == 0
    assert len((project / "other.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    "broken",
    [
        lambda rows: rows.drop("x"),
        lambda rows: rows.with_columns(x=pl.lit(None, pl.Float64)),
        lambda rows: rows.with_columns(x=pl.lit("text")),
        lambda rows: rows.with_columns(prediction=pl.lit(float("nan"))),
        lambda rows: rows.with_columns(label=pl.lit(1.0)),
        lambda rows: rows.drop("prediction", "label"),
        lambda rows: rows.sample(fraction=1.0, shuffle=True, seed=1),
        lambda rows: pl.concat([rows, rows.with_columns(label=1 - pl.col("label"))]),
        lambda rows: rows[:1],
        lambda rows: rows[:0],
    ],
)
def test_bad_rows_are_a_status_and_never_a_traceback(monitor, project: Path, broken) -> None:
    broken(scored(3, 2, start=LATER)).write_parquet(project / "rows.parquet")
    answer, _ = monitor()
    assert not [reading["words"] for reading in answer["readings"] if reading["status"] == "broken"]


def test_slices_are_read_too(monitor, project: Path) -> None:
    rows = scored(4, 2, start=LATER, per_day=900)
    french = pl.when(pl.col("country") == "fr").then(pl.col("x") + 1.0).otherwise(pl.col("x"))
    rows.with_columns(x=french).write_parquet(project / "rows.parquet")
    answer, _ = monitor("--only", "drift", "watch.slices=[country]")
    alarms = {reading["slice"] for reading in found(answer, "drift") if reading["status"] == "alarm"}
    assert "country=fr" in alarms
    assert "country=de" not in alarms


def test_compat_gives_the_numbers_of_others(monitor, project: Path) -> None:
    change(project, pl.col("x") + 0.6)
    answer, code = monitor("--only", "drift", "--only", "prediction", "--only", "estimated", "watch.mode=compat")
    last = found(answer, "drift")[-1]
    entry = next(item for item in last["findings"] if item["name"] == "x")
    assert entry["details"]["evidently"]["method"] == "wasserstein"
    assert entry["details"]["evidently"]["drifted"]
    assert {"evidently_psi", "nannyml_jensen_shannon"} <= set(entry["distances"])
    assert last["details"]["evidently_share"] == pytest.approx(1 / 3)
    assert found(answer, "estimated")[0]["findings"][0]["details"]["error"] > 0
    assert code == 3


def test_moments_move_on_and_are_not_watched(monitor, project: Path) -> None:
    for name in ("rows", "reference"):
        file = project / f"{name}.parquet"
        pl.read_parquet(file).with_columns(ordered_at=pl.col("event_time") - pl.duration(days=3)).write_parquet(file)
    answer, code = monitor("--only", "drift", "--only", "quality")
    assert (answer["status"], code) == ("ok", 0), [reading["words"] for reading in answer["readings"]]


def test_a_monitor_alone_says_what_it_says_among_all(monitor, project: Path) -> None:
    change(project, pl.col("x") + 0.25)
    alone, among = (found(monitor(*words)[0], "drift")[-1] for words in (["--only", "drift"], []))
    assert (alone["status"], alone["words"]) == (among["status"], among["words"])


def test_unknown_monitors_and_pipelines_without_any_are_told(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["monitor", "pipeline=small", "--project", str(project), "--only", "nothing"]) == 2
    assert "drift" in capsys.readouterr().err
    assert main(["monitor", "pipeline=small", "--project", str(project)]) != 0


def test_a_day_without_rows_has_a_status_too(monitor, project: Path) -> None:
    rows = pl.read_parquet(project / "rows.parquet")
    days = sorted(rows["event_time"].dt.date().unique())
    rows.filter(pl.col("event_time").dt.date() != days[2]).write_parquet(project / "rows.parquet")
    answer, _ = monitor()
    told = {item["monitor"]: item for item in answer["readings"] if item["chunk"] == str(days[2])}
    assert {item["rows"] for item in told.values()} == {0}
    assert {item["status"] for name, item in told.items() if name != "staleness"} == {"insufficient_data"}
    assert {item["status"] for item in answer["readings"] if item["chunk"] == str(days[3])} <= {
        "ok",
        "insufficient_data",
    }
