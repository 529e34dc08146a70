"""`engine data` and `engine gc` from the command line: a small project, every action, JSON that keeps its schema."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import polars as pl
import pytest

from engine.cli import main
from engine.project import shipped

PIPELINE = """\
# @package _global_
defaults: [/split: time_forward, /gates: standard, _self_]
name: rides
sources:
  drivers:
    kind: csv
    path: data/drivers.csv
    columns: {driver: str, home: str}
    key: [driver]
    static: true
  rides:
    kind: csv
    path: data/rides*.csv
    columns: {ride: str, driver: str, km: f64, at: timestamp, late: i64}
    key: [driver]
    time: at
    id: ride
    partition: month
    expect:
      - {column: km, minimum: 0}
      - {column: driver, references: drivers.driver, severity: warn}
spine: {source: rides, request: {driver: str, km: f64}}
features: {distance: {expr: km}}
label: {from: rides, expr: late, maturity: 1h}
split: {train_until: 2024-02-01, validation_until: 2024-02-20}
train: {kind: majority}
baseline: {kind: majority}
"""
SCHEMAS = {
    "ls": "snapshot-source", "log": "snapshot-commit", "diff": "snapshot-diff", "profile": "table-profile",
    "validate": "validation", "gc": "garbage-report", "quarantine": "quarantined",
}  # fmt: skip
# Commands run in this process, and the children that they keep for later work hold their pipes open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
Run = Callable[..., tuple[int, Any, str]]


def rides(count: int = 60, bad: tuple[int, ...] = (), shift: float = 0.0) -> str:
    lines = ["ride,driver,km,at,late"]
    for number in range(count):
        km = -1.0 if number in bad else number % 13 + shift
        lines.append(
            f"r{number},d{number % 4},{km},2024-{1 + number // 30:02d}-{1 + number % 28:02d}T0{number % 10}:00:00Z,{number % 2}"
        )
    return "\n".join(lines) + "\n"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "conf" / "pipeline").mkdir(parents=True)
    (tmp_path / "conf" / "pipeline" / "rides.yaml").write_text(PIPELINE)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "drivers.csv").write_text("driver,home\n" + "".join(f"d{n},town{n}\n" for n in range(3)))
    (tmp_path / "data" / "rides.csv").write_text(rides())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(root: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command; gives its code, its stdout (as JSON with `--json`, held to its schema), and its stderr."""

    def call(*arguments: str) -> tuple[int, Any, str]:
        capsys.readouterr()
        code = main(arguments)
        told = capsys.readouterr()
        out: Any = told.out
        if "--json" in arguments and told.out:
            out = json.loads(told.out)
            name = SCHEMAS.get(arguments[1] if arguments[0] == "data" else "gc")
            if name is not None and code in {0, 5} and not {"release", "drop", "--objects"} & {*arguments}:
                schema = json.loads((shipped("schemas") / "records" / f"{name}.json").read_bytes())
                for item in out if isinstance(out, list) else [out]:
                    jsonschema.Draft202012Validator(schema).validate(item)
        return code, out, told.err

    return call


@pytest.fixture
def taken(run: Run) -> Run:
    """The same, after a first snapshot."""
    code, _, err = run("data", "snapshot", "pipeline=rides")
    assert code == 0, err
    return run


def test_a_snapshot_is_a_run_that_ingests_and_nothing_else(root: Path, run: Run) -> None:
    code, out, _ = run("data", "snapshot", "drivers", "pipeline=rides", "--json")
    assert (code, [item["source"] for item in out]) == (0, ["drivers"])
    code, out, _ = run("data", "snapshot", "pipeline=rides")
    assert "rides: data@" in out
    nodes = {
        node["name"]: node["state"] for node in json.loads((root / "runs" / "2" / "run.json").read_bytes())["nodes"]
    }
    assert (nodes["ingest.rides"], nodes["ingest.drivers"], nodes["features"]) == ("ran", "cached", "skipped")
    code, _, err = run("data", "snapshot", "driver", "pipeline=rides")
    assert (code, "did you mean `drivers`" in err) == (2, True)


def test_a_snapshot_takes_the_sources_that_no_feature_reads_too(root: Path, run: Run) -> None:
    path = root / "conf" / "pipeline" / "rides.yaml"
    unread = "  towns: {kind: csv, path: data/towns.csv, columns: {town: str}, key: [town], static: true}\n"
    path.write_text(path.read_text().replace("spine:", f"{unread}spine:"))
    (root / "data" / "towns.csv").write_text("town\ntown1\n")
    assert run("data", "snapshot", "pipeline=rides")[0] == 0
    assert [item["source"] for item in run("data", "ls", "--json")[1]] == ["drivers", "rides", "towns"]
    code, out, _ = run("data", "snapshot", "towns", "pipeline=rides", "--json")
    assert (code, [item["source"] for item in out]) == (0, ["towns"])


def test_what_is_there(taken: Run) -> None:
    code, out, _ = taken("data", "ls", "--json")
    assert code == 0
    assert {item["source"]: (item["rows"], item["objects"]) for item in out} == {"drivers": (3, 1), "rides": (60, 2)}
    assert out[1]["failed"] == ["driver is found in drivers.driver"]
    assert "2024-02-" in taken("data", "ls")[1]
    assert [item["path"] for item in taken("data", "ls", "--objects", "--json")[1]] == [
        "drivers/all.parquet", "rides/2024-01.parquet", "rides/2024-02.parquet",
    ]  # fmt: skip
    assert taken("data", "ls", "main~99")[0] == 2
    assert taken("data", "--repository", "dat", "ls")[0] == 2


def test_the_log_says_who_and_why(taken: Run) -> None:
    _, out, _ = taken("data", "log", "--source", "rides", "--limit", "1", "--json")
    assert (len(out), out[0]["metadata"]["plumbline.source"], out[0]["metadata"]["plumbline.run"]) == (1, "rides", "1")
    assert "ingest rides" in taken("data", "log")[1]
    code, _, err = taken("data", "log", "--limit", "-3")
    assert (code, "at least 1" in err) == (2, True)


def test_names_for_good(taken: Run) -> None:
    head = taken("data", "log", "--limit", "1", "--json")[1][0]["id"]
    assert taken("data", "tag", "v1", "--json")[1] == {"v1": head}
    assert taken("data", "tag", "--json")[1] == {"v1": head}
    assert taken("data", "log", "--limit", "1", "--json")[1][0]["tags"] == ["v1"]
    assert taken("data", "tag", "v1", "main~1")[0] == 6
    assert taken("data", "ls", "v1")[0] == 0


def test_diff_as_a_table_as_json_and_as_a_page(root: Path, taken: Run) -> None:
    (root / "data" / "rides.csv").write_text(rides(59, shift=0.5))
    assert taken("data", "snapshot", "pipeline=rides")[0] == 0
    code, out, _ = taken("data", "diff", "main~1", "main", "rides", "--json", "--html", "diff.html")
    (source,) = out["sources"]
    assert (code, source["rows_removed"], source["rows_changed"], source["key"]) == (0, 1, 59, ["ride"])
    assert (root / "diff.html").read_text().startswith("<!DOCTYPE html>")
    assert taken("data", "diff", "main~1", "--html", "conf/pipeline/rides.yaml/diff.html")[0] == 2
    table = taken("data", "diff", "main~1")[1]
    assert "0 added, 1 removed, 59 changed" in table
    assert "km=0.0 -> 0.5" in table
    assert taken("data", "diff", "main~1", "main", "ride")[0] == 2
    assert "no source differs" in taken("data", "diff", "main", "main")[1]


def test_checkout_writes_plain_parquet(root: Path, taken: Run) -> None:
    code, out, _ = taken("data", "checkout", "main", "rides", "--to", "out", "--json")
    assert (code, out) == (0, ["out/rides/2024-01.parquet", "out/rides/2024-02.parquet"])
    assert pl.read_parquet(root / "out" / "rides" / "*.parquet").height == 60
    code, _, err = taken("data", "checkout", "main", "--to", "out")
    assert (code, "not an empty folder" in err) == (2, True)
    assert taken("data", "checkout", "main", "rids", "--to", "other")[0] == 2
    assert not (root / "other").exists()


def test_profile_a_source_a_snapshot_and_a_file(root: Path, taken: Run) -> None:
    _, now, _ = taken("data", "profile", "rides", "pipeline=rides", "--json")
    _, then, _ = taken("data", "profile", "rides", "--ref", "main", "--json")
    _, file, _ = taken("data", "profile", "data/rides.csv", "--json")
    assert now["rows"] == then["rows"] == file["rows"] == 60
    assert {item["column"]: item["maximum"] for item in now["columns"]}["km"] == 12
    assert taken("data", "profile", "rides", "pipeline=rides", "--html", "p.html", "--write")[0] == 0
    assert "<h1>rides</h1>" in (root / "p.html").read_text()
    written = root / "conf" / "expect" / "rides.yaml"
    assert "{column: ride, not_null: true, unique: true}" in written.read_text()
    written.write_text("mine")
    code, _, err = taken("data", "profile", "rides", "pipeline=rides", "--write")
    assert (code, "by hand" in err, written.read_text()) == (2, True, "mine")
    assert taken("data", "profile", "data/none.csv")[0] == 2
    code, _, err = taken("data", "profile", "data/rides.csv", "--html", "data/rides.csv/p.html")
    assert (code, "--html data/rides.csv/p.html: " in err) == (2, True)
    assert taken("data", "profile", "conf/pipeline/rides.yaml")[0] == 2
    (root / "broken.parquet").write_bytes(b"no")
    assert taken("data", "profile", "broken.parquet")[0] == 5


def test_inferred_expectations_can_be_taken_into_the_pipeline(root: Path, taken: Run) -> None:
    assert taken("data", "profile", "rides", "pipeline=rides", "--write")[0] == 0
    path = root / "conf" / "pipeline" / "rides.yaml"
    text = path.read_text().replace("/gates: standard, _self_", "/gates: standard, /expect: rides, _self_")
    path.write_text(text[: text.index("    expect:")] + text[text.index("spine:") :])
    code, out, _ = taken("data", "validate", "rides", "pipeline=rides", "--json")
    assert (code, out["ok"]) == (0, True)
    assert "loses at most 10.0% of its rows" in {item["rule"] for item in out["findings"]}


def test_validate_publishes_nothing(root: Path, taken: Run) -> None:
    head = taken("data", "log", "--limit", "1", "--json")[1][0]["id"]
    (root / "data" / "rides.csv").write_text(rides(bad=(3,)))
    code, out, _ = taken("data", "validate", "rides", "pipeline=rides", "--json")
    assert (code, out["ok"]) == (5, False)
    assert "km >= 0: 1 rows, such as" in taken("data", "validate", "pipeline=rides")[1]
    assert taken("data", "validate", "ridez", "pipeline=rides")[0] == 2
    assert taken("data", "log", "--limit", "1", "--json")[1][0]["id"] == head


def test_a_source_that_cannot_be_read_is_named(root: Path, run: Run) -> None:
    (root / "data" / "rides.csv").write_text(rides() + "r99,d1\n")
    code, _, err = run("data", "validate", "rides", "pipeline=rides")
    assert (code, err.startswith("error: source `rides`: "), "data row 61 (line 62)" in err) == (5, True, True)
    code, _, err = run("data", "snapshot", "pipeline=rides")
    assert (code, "source `rides`: " in err) == (5, True)
    (root / "data" / "rides.csv").unlink()
    code, _, err = run("data", "validate", "rides", "pipeline=rides")
    assert (code, err.startswith("error: source `rides`: no file matches")) == (5, True)


def test_quarantine_is_shown_released_and_then_accepted(root: Path, taken: Run) -> None:
    assert taken("data", "quarantine", "ls")[1] == "nothing is quarantined\n"
    (root / "data" / "rides.csv").write_text(rides(bad=(3, 4)))
    code, _, err = taken("data", "snapshot", "pipeline=rides")
    assert (code, "quarantined on branch quarantine-rides-" in err) == (5, True)
    _, listed, _ = taken("data", "quarantine", "ls", "--json")
    branch = listed[0]["branch"]
    assert (listed[0]["failed"], listed[0]["severity"], listed[0]["run_id"]) == (["km >= 0"], "block", "2")
    _, shown, _ = taken("data", "quarantine", "show", branch[-12:], "--json")
    blocking = next(item for item in shown["findings"] if item["severity"] == "block")
    assert [sample["ride"] for sample in blocking["samples"]] == ["r3", "r4"]
    assert "r3" in taken("data", "quarantine", "show", branch)[1]
    assert taken("data", "quarantine", "release", branch)[0] == 2  # a reason is asked for
    code, released, _ = taken("data", "quarantine", "release", branch, "--reason", "refunds", "--json")
    assert (code, released["metadata"]["plumbline.reason"]) == (0, "refunds")
    assert taken("data", "log", "--limit", "1", "--json")[1][0]["message"] == "release rides: refunds"
    assert taken("data", "ls", "--json")[1][1]["released"].endswith(": refunds")
    assert taken("data", "quarantine", "ls", "--json")[1] == []
    assert taken("data", "snapshot", "pipeline=rides")[0] == 0  # the same data is known as released
    (root / "data" / "rides.csv").write_text(rides(bad=(3, 4, 5)))
    assert taken("data", "snapshot", "pipeline=rides")[0] == 5  # other data is not


def test_quarantined_data_is_dropped(root: Path, taken: Run) -> None:
    (root / "data" / "rides.csv").write_text(rides(bad=(3,)))
    assert taken("data", "snapshot", "pipeline=rides")[0] == 5
    branch = taken("data", "quarantine", "ls", "--json")[1][0]["branch"]
    code, _, err = taken("data", "quarantine", "drop", "quarantine-rides-000000000000")
    assert (code, branch in err) == (2, True)
    assert taken("data", "quarantine", "drop", branch)[0] == 0
    _, found, _ = taken("data", "gc", "--older-than", "0", "--json")
    assert (found["dry_run"], found["deleted"]) == (True, 0)
    dropped = {item["name"] for item in found["garbage"]}
    assert dropped
    assert taken("data", "gc", "--older-than", "0", "--yes", "--json")[1]["deleted"] == len(dropped)
    assert taken("data", "gc", "--older-than", "0", "--json")[1]["found"] == 0
    assert taken("data", "ls")[0] == 0


def test_a_release_that_main_has_overtaken_is_refused(root: Path, taken: Run) -> None:
    (root / "data" / "rides.csv").write_text(rides(bad=(3,)))
    assert taken("data", "snapshot", "pipeline=rides")[0] == 5
    branch = taken("data", "quarantine", "ls", "--json")[1][0]["branch"]
    (root / "data" / "rides.csv").write_text(rides(shift=1))
    assert taken("data", "snapshot", "pipeline=rides")[0] == 0
    code, _, err = taken("data", "quarantine", "release", branch, "--reason", "late")
    assert (code, "published anew since" in err) == (6, True)
    assert taken("data", "quarantine", "show", branch)[0] == 0  # it can still be looked at, and dropped
    assert taken("data", "quarantine", "drop", branch)[0] == 0


def test_rows_set_aside_are_named_in_the_run(root: Path, taken: Run) -> None:
    path = root / "conf" / "pipeline" / "rides.yaml"
    path.write_text(
        path.read_text().replace("{column: km, minimum: 0}", "{column: km, minimum: 0, severity: quarantine}")
    )
    (root / "data" / "rides.csv").write_text(rides(bad=(3, 4)))
    code, out, _ = taken("data", "snapshot", "pipeline=rides")
    assert (code, "2 rows set aside on quarantine-rides-" in out) == (0, True)
    record = json.loads((root / "runs" / "2" / "run.json").read_bytes())
    pin = next(item for item in record["snapshots"] if item["source"] == "rides")
    assert (pin["rows"], pin["set_aside"]) == (58, 2)
    assert taken("data", "quarantine", "release", pin["quarantine"], "--reason", "fine")[0] == 0
    assert {item["source"]: item["rows"] for item in taken("data", "ls", "--json")[1]}["rides"] == 60


def test_gc_keeps_what_runs_and_models_need(root: Path, taken: Run) -> None:
    assert taken("run", "pipeline=rides", "-q")[0] in {0, 3, 4}
    (root / "data" / "rides.csv").write_text(rides(shift=2))
    assert taken("run", "pipeline=rides", "-q")[0] in {0, 3, 4}
    old = ["--older-than", "0", "--keep-history", "0"]
    _, dry, _ = taken("gc", *old, "--keep-runs", "1", "--json")
    assert dry["kept"]["commits of runs and results"] >= 2
    _, done, _ = taken("gc", *old, "--keep-runs", "1", "--yes", "--json")
    assert (done["found"], done["dry_run"]) == (dry["found"], False)
    for commit in {pin["commit"] for run in ("1", "2", "3") for pin in json.loads(
        (root / "runs" / run / "run.json").read_bytes())["snapshots"]}:  # fmt: skip
        assert taken("data", "checkout", commit, "--to", f"out-{commit[:8]}")[0] == 0
    assert taken("models", "verify", "rides")[0] == 0
    again = taken("run", "pipeline=rides", "-q")
    assert again[0] in {0, 3, 4}, again


def test_gc_does_nothing_when_it_cannot_tell(root: Path, taken: Run) -> None:
    (root / "runs" / "1" / "run.json").write_text("{")
    code, _, err = taken("gc", "--older-than", "0", "--yes")
    assert (code, "run 1 cannot be read" in err) == (8, True)
    assert taken("gc", "--older-than", "-1")[0] == 2


def test_words_without_a_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", "ls"]) == 2
    assert "engine data snapshot" in capsys.readouterr().err
    assert main(["data"]) == 2
    assert main(["data", "lss"]) == 2
    assert main(["data", "ls", "main", "extra"]) == 2
    assert msgspec.json.decode(b"[]") == []
