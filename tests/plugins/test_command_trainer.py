"""The user's own program: a protocol of files, processes that end with all that they started, errors that show what it said."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from engine.components import load_catalogue
from engine.contracts import FitRequest, Matrix
from engine.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
COMPONENT = load_catalogue(ROOT, ("command_trainer",)).get("trainer", "command")


@pytest.fixture(autouse=True)
def in_a_project(tmp_path, monkeypatch):
    shutil.copyfile(Path(__file__).with_name("command_program.py"), tmp_path / "program.py")
    monkeypatch.chdir(tmp_path)


def build(**changes):
    said = {
        "train": [sys.executable, "program.py", "train"], "score": [sys.executable, "program.py", "score"],
        "files": ["program.py"], **changes,
    }  # fmt: skip
    return COMPONENT.build(msgspec.convert(said, COMPONENT.params))


def rows(n=200):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, 2))
    return Matrix(x, (x[:, 0] > 0) * 1.0, ("a", "b"))


def fit(trainer, told=None):
    say = (lambda *words: told.append(words)) if told is not None else (lambda *_: None)
    return trainer.train(rows(), rows(50), FitRequest("binary", 3, 1, say))


def test_it_trains_scores_and_shows_what_the_program_says():
    told = []
    files = fit(build(), told)
    assert {"command.json", "artefact/model.json", "program/program.py"} <= set(files)
    assert any("learning 2 columns" in words for words, _, _ in told)
    Path("program.py").unlink()  # the model carries its program
    predictor = build().load(files)
    x = rows(80).x
    whole = predictor.predict(x)
    assert whole.shape == (80,)
    assert set(np.round(whole[x[:, 0] > 0], 6)) == {1.0}
    assert predictor.predict(x[5:6]).tobytes() == whole[5:6].tobytes()
    assert fit_again(files) == files


def fit_again(files):
    Path("program.py").write_bytes(files["program/program.py"])
    return fit(build())


@pytest.mark.parametrize(
    ("params", "timeout", "words"),
    [
        ({"behave": "fail"}, "60s", r"failed \(exit code 1\).*no memory left"),
        ({"behave": "sleep"}, "3s", r"took longer than 3 s and was ended"),
        ({"behave": "nothing"}, "60s", "left no artefact"),
    ],
)
def test_a_training_that_goes_wrong_is_told(params, timeout, words):
    with pytest.raises(DataError, match=words) as caught:
        fit(build(params=params, timeout=timeout))
    assert caught.value.hint


def test_a_program_that_cannot_be_found():
    with pytest.raises(DataError, match="cannot be started"):
        fit(build(train=["/no/such/program"]))
    with pytest.raises(DataError, match=r"there is no other\.py"):
        fit(build(files=["other.py"]))
    with pytest.raises(msgspec.ValidationError, match="leaves the project"):
        build(files=["../secret.py"])


def test_what_the_scoring_program_says_of_an_error_is_told_and_it_is_started_again():
    predictor = build().load(fit(build()))
    with pytest.raises(DataError, match="thirteen rows"):
        predictor.predict(rows(13).x)
    assert np.isfinite(predictor.predict(rows(14).x)).all()


def test_scores_that_are_none_are_counted():
    predictor = build().load(fit(build()))
    with pytest.raises(DataError, match="4 of 12 rows NaN"):
        predictor.predict(rows(12).x)
    with pytest.raises(DataError, match=r"shape \(10,\), not \(11,\)"):
        predictor.predict(rows(11).x)


def test_a_program_that_says_nothing_or_nonsense():
    files = dict(fit(build()))
    for command, words in (("import time; time.sleep(60)", "no answer"), ("print('hello')", "hello")):
        document = msgspec.json.decode(files["command.json"])
        document["score"] = [sys.executable, "-c", command]
        broken = files | {"command.json": msgspec.json.encode(document)}
        with pytest.raises(DataError, match=words):
            build(start_timeout="2s").load(broken).predict(rows(3).x)


def test_the_whole_group_ends():
    """A training program that leaves a child behind, which notes its process id and sleeps."""
    script = (
        "import subprocess, sys, pathlib; p = subprocess.Popen(['sleep', '600']);"
        "pathlib.Path(sys.argv[-1], 'artefact', 'pid').write_text(str(p.pid))"
    )
    pid = int(fit(build(train=[sys.executable, "-c", script]))["artefact/pid"])
    state = Path(f"/proc/{pid}/stat")
    assert (
        not state.exists() or state.read_text(encoding="utf-8").split()[2] == "Z"
    )  # ended, and nobody has asked how yet
