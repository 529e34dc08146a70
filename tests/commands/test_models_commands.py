"""`engine models`: history of production, bad versions, reviews, foreign formats, exports whose outputs are ours."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.cli import main
from engine.errors import IntegrityError
from engine.nodes.promote import write_manifest
from engine.package_format import check_readable
from engine.production import parse_span
from engine.stores.artefacts import LocalArtefactStore
from engine.stores.database import open_database
from engine.stores.registry import Candidate, Registry
from tests.e2e.conftest import make_project


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two versions, the second in production; its card's review date has passed."""
    root = tmp_path_factory.mktemp("models")
    project = make_project(root)
    project.edit("conf/pipeline/rides.yaml", "name: rides", 'name: rides\nowner: ann\ncard: {review_by: "2024-06-01"}')
    for overrides in ((), ("train.rounds=30", "gates.champion.margin=1.0")):
        outcome = project.engine("run", "pipeline=rides", *overrides, "-q")
        assert outcome.code == 0, outcome.err + outcome.out
    return root


@pytest.fixture
def root(trained: Path, tmp_path: Path) -> Iterator[Path]:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    yield tmp_path
    for path in tmp_path.rglob("*"):
        path.chmod(0o700)


def engine(root: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["models", "--project", str(root), *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def store_of(root: Path) -> LocalArtefactStore:
    return LocalArtefactStore(root / ".plumbline" / "artefacts")


def registry_of(root: Path) -> Registry:
    return Registry(open_database(str(root / ".plumbline" / "state.db")))


def test_what_was_in_production_that_day(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    today = datetime.now(UTC).date()
    code, out, _ = engine(root, capsys, "history", "rides", "--on", str(today), "--json")
    found: Any = json.loads(out)
    assert code == 0
    days = [item["version"] for item in found["tenures"]]
    assert days[-1] == 2  # the first may have been yesterday's, when the test runs at midnight
    last = found["tenures"][-1]
    assert (last["until"], last["action"], last["owner"]) == (None, "promote", "ann")
    assert last["reason"].startswith("run 2")
    assert last["run_id"] == "2"
    assert last["snapshots"]["rides"].startswith("rides@") or "@" in last["snapshots"]["rides"]
    assert last["gates"]["test_size"] == "pass"
    assert len(last["model_digest"]) == 64
    _, out, _ = engine(root, capsys, "history", "rides", "--on", "2001-01-01")
    assert "nothing held @champion" in out
    _, out, _ = engine(root, capsys, "history", "rides", "--at", last["since"], "--json")
    assert [item["version"] for item in json.loads(out)["tenures"]] == [2]
    code, _, err = engine(root, capsys, "history", "rides", "--on", "yesterday")
    assert (code, "neither a day nor a time" in err) == (2, True)


def test_a_rollback_marks_what_was_bad(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert engine(root, capsys, "rollback", "rides", "--reason", "too many alarms")[0] == 0
    _, out, _ = engine(root, capsys, "list", "--json")
    listed = {item["version"]["version"]: item for item in json.loads(out)}
    assert listed[1]["aliases"] == ["champion"]
    assert "too many alarms" in listed[2]["bad"]
    code, _, err = engine(root, capsys, "promote", "rides", "2", "--reason", "again")
    assert (code, "rolled back" in err) == (2, True)
    assert engine(root, capsys, "promote", "rides", "2", "--reason", "fixed the clock", "--force")[0] == 0
    _, out, _ = engine(root, capsys, "list", "--json")
    assert {item["version"]["version"]: item["bad"] for item in json.loads(out)} == {1: "", 2: ""}


def test_a_run_does_not_promote_again_what_was_rolled_back(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine(root, capsys, "rollback", "rides", "--reason", "too many alarms")
    code = main(
        [
            "run",
            "--project",
            str(root),
            "pipeline=rides",
            "train.rounds=30",
            "gates.champion.margin=1.0",
            "-q",
            "--json",
        ]
    )
    answer = json.loads(capsys.readouterr().out)
    assert (code, answer["model"], answer["promoted"]) == (0, "rides:2", False)
    held = registry_of(root).alias("rides", "champion")
    assert held is not None
    assert held.version == 1


def test_an_alias_that_moved_meanwhile(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = engine(root, capsys, "promote", "rides", "1", "--reason", "seen yesterday", "--expect", "1")
    assert code != 0
    assert "it was expected at version 1, but version 2 holds it" in err
    assert engine(root, capsys, "promote", "rides", "1", "--reason", "seen now", "--expect", "2")[0] == 0


def test_overdue_reviews_are_told_and_fail_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = engine(root, capsys, "verify", "rides", "--json")
    found = json.loads(out)
    assert (code, found["ok"]) == (0, True)
    assert [(item["version"], item["owner"], item["review_by"]) for item in found["overdue"]] == [
        (2, "ann", "2024-06-01")
    ]
    _, out, err = engine(root, capsys, "list")
    assert "2024-06-01 (overdue)" in out
    assert "review overdue: rides:2" in err
    main(["doctor", "--project", str(root)])
    assert "rides:2 was to be reviewed by 2024-06-01" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("version", "words"), [(0, "train the model again"), (99, "newer engine"), (None, "no format")]
)
def test_another_package_format_is_refused(root: Path, version: int | None, words: str) -> None:
    held = registry_of(root).alias("rides", "champion")
    assert held is not None
    copy = root / "copy"
    shutil.copytree(store_of(root).open(held.digest), copy, copy_function=shutil.copyfile)
    copy.chmod(0o700)
    described = json.loads((copy / "package.json").read_bytes())
    (copy / "package.json").write_text(json.dumps({**described, "package_version": version}))
    with pytest.raises(IntegrityError, match="format") as caught:
        check_readable(copy)
    assert words in str(caught.value)


def test_an_older_format_and_a_flipped_bit_are_never_promoted(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    registry, store = registry_of(root), store_of(root)
    held = registry.alias("rides", "champion")
    assert held is not None
    staged = store.stage()
    shutil.copytree(store.open(held.digest), staged, copy_function=shutil.copyfile, dirs_exist_ok=True)
    staged.chmod(0o700)
    described = json.loads((staged / "package.json").read_bytes())
    (staged / "package.json").write_text(json.dumps({**described, "package_version": 0}))
    write_manifest(staged)
    old = registry.register(
        Candidate(
            name="rides", digest=store.commit(staged), run_id="9", pipeline="rides", metrics={}, verdict="promote"
        )
    )
    code, _, err = engine(root, capsys, "promote", "rides", str(old.version), "--reason", "why not")
    assert (code, "has format 0" in err) == (8, True)
    assert engine(root, capsys, "verify", "rides")[0] == 8

    first = registry.versions("rides")[0]
    path = store.open(first.digest) / "model" / "model.txt"
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(bytes(content))
    code, _, err = engine(root, capsys, "promote", "rides", "1", "--reason", "why not")
    assert (code, "artefact" in err) == (8, True)
    still = registry.alias("rides", "champion")
    assert still is not None
    assert still.version == 2


def test_onnx_gives_our_outputs(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import onnxruntime

    target = root / "out" / "model.onnx"
    code, out, err = engine(root, capsys, "export", "rides", "--format", "onnx", "--to", str(target), "--json")
    assert code == 0, err
    answer = json.loads(out)
    assert answer["largest_difference"] < 1e-12
    assert answer["rows"] > 1000
    session = onnxruntime.InferenceSession(target.read_bytes(), providers=["CPUExecutionProvider"])
    (made,) = session.run(None, {"x": np.full((3, session.get_inputs()[0].shape[1]), np.nan)})
    assert made.shape == (3,)
    code, _, err = engine(root, capsys, "export", "rides", "--format", "onnx", "--to", str(target))
    assert (code, "something is there already" in err) == (2, True)


def test_an_export_with_other_outputs_is_not_kept(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.nodes.export.apart", lambda ours, theirs: 0.5)
    target = root / "model.onnx"
    code, _, err = engine(root, capsys, "export", "rides", "--format", "onnx", "--to", str(target))
    assert (code, "0.5 from ours" in err, target.exists()) == (8, True, False)


@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_mlflow_loads_the_directory_and_scores_as_we_do(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import mlflow.pyfunc
    import pandas as pd

    from engine.nodes.mlflow_model import load_folder, to_rows

    target = root / "mlflow-model"
    code, _, err = engine(root, capsys, "export", "rides", "--format", "mlflow", "--to", str(target))
    assert code == 0, err
    loaded = mlflow.pyfunc.load_model(str(target))
    frame = pd.DataFrame(
        {
            "km": [1.5, 40.0, None], "clock": [3, 17, 9], "driver": ["d1", "d7", "nobody"],
            "driver_late_1d": [0.1, None, 0.5], "driver_late_7d": [0.2, 0.9, None],
        }
    )  # fmt: skip
    ours = load_folder(target / "data" / "package")
    assert np.asarray(loaded.predict(frame)).tolist() == ours.score(to_rows(ours, frame)).tolist()
    assert loaded.metadata.metadata["plumbline"]["version"] == 2


def test_spans() -> None:
    day = parse_span("2026-11-23")
    moment = parse_span("2026-11-23T10:00:00+02:00")
    assert day == ("2026-11-23T00:00:00.000000Z", "2026-11-24T00:00:00.000000Z")
    assert moment[0] == "2026-11-23T08:00:00.000000Z"
    assert datetime.fromisoformat(moment[1]) - datetime.fromisoformat(moment[0]) == timedelta(microseconds=1)


def test_a_drill_goes_back_and_comes_again(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = engine(root, capsys, "rollback", "rides", "--drill", "--reason", "as every month", "--json")
    assert code == 0, err
    answer = json.loads(out)
    assert (answer["version"], answer["back_to"]) == (2, 1)
    assert answer["seconds"] < 60
    registry = registry_of(root)
    back, again = registry.history("rides")[-2:]
    assert (back.action, back.to_version, again.action, again.to_version) == ("rollback", 1, "promote", 2)
    assert (back.sequence, again.sequence) == tuple(answer["rows"])
    assert back.evidence["drill"]
    assert again.evidence["drill"]
    held = registry.alias("rides", "champion")
    assert held is not None
    assert held.version == 2
    assert registry.rolled_back("rides", "champion") == {}
    assert registry.known_good("rides", "champion") == 1
    assert registry.verify_ledger("rides") == []


def test_a_drill_towards_a_damaged_version_moves_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    registry = registry_of(root)
    first = registry.versions("rides")[0]
    path = store_of(root).open(first.digest) / "model" / "model.txt"
    path = path if path.exists() else next(store_of(root).open(first.digest).rglob("model*.txt"))
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    rows = len(registry.history("rides"))
    code, _, err = engine(root, capsys, "rollback", "rides", "--drill", "--reason", "x")
    assert code == 8, err
    assert len(registry.history("rides")) == rows
