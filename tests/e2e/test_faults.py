"""Bad input and faults: a clear message, the right exit code, nothing lost, nothing half-done visible."""

from __future__ import annotations

import gzip
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest

UserProject = Any  # see conftest.py
Finished = tuple[UserProject, Any]
HEADER = b"ride_id,driver,distance,hour,at,late\n"
PACKAGED = ("ingest.rides", "features", "split", "train", "baseline", "evaluate", "gate", "package")


def digests(project: UserProject, run_id: str) -> dict[str, str]:
    return {node["name"]: node["output"]["digest"] for node in project.record(run_id)["nodes"] if node["output"]}


def wait_for(project: UserProject, run_id: str, text: str, seconds: float = 60) -> None:
    """Wait until the journal of a run has an event that holds all words of a text."""
    journal = project.root / "runs" / run_id / "events.jsonl"
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if journal.exists() and any(
            all(word in line for word in text.split()) for line in journal.read_text().splitlines()
        ):
            return
        time.sleep(0.01)
    raise AssertionError(f"nothing like {text!r} in {journal}")


def slow_training(project: UserProject) -> None:
    project.edit("conf/pipeline/rides.yaml", "train: {rounds: 20,", "train: {rounds: 20000,")


def leftovers(project: UserProject) -> list[Path]:
    return [path for path in (project.root / ".plumbline" / "artefacts" / "staging").glob("*") if path.is_dir()]


def test_kill_9_redoes_no_finished_node(project: UserProject, finished: Finished) -> None:
    slow_training(project)
    process = project.start("run", "pipeline=rides", "-q")
    wait_for(project, "1", '"train" running')
    process.kill()
    process.communicate()
    assert project.engine("runs", "show", "1", "--json").json["status"] == "interrupted"
    project.edit("conf/pipeline/rides.yaml", "rounds: 20000", "rounds: 20")
    answer = project.engine("run", "pipeline=rides", "--json", "-q").json
    states = {node["name"]: node["state"] for node in project.record(answer["run_id"])["nodes"]}
    assert {states[name] for name in ("ingest.rides", "features", "split")} == {"cached"}
    resumed, cold = digests(project, answer["run_id"]), digests(finished[0], "1")
    assert {name: resumed[name] for name in PACKAGED} == {name: cold[name] for name in PACKAGED}
    assert leftovers(project) == []


def test_the_children_of_a_killed_run_die_with_it(project: UserProject) -> None:
    slow_training(project)
    process = project.start("run", "pipeline=rides", "-q")
    wait_for(project, "1", '"train" running')
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(children, timeout=5)
    assert alive == []


def test_ctrl_c_stops_soon_and_leaves_nothing_half_done(project: UserProject) -> None:
    slow_training(project)
    process = project.start("run", "pipeline=rides", "-q")
    wait_for(project, "1", '"train" running')
    since = time.monotonic()
    os.kill(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert time.monotonic() - since < 10  # one second on a machine that does nothing else
    assert process.returncode == 130
    record = project.record("1")
    assert record["status"] == "interrupted"
    assert {node["name"]: node["state"] for node in record["nodes"]}["train"] == "cancelled"
    assert leftovers(project) == []


def test_a_killed_child_is_replaced(project: UserProject) -> None:
    project.edit("conf/pipeline/rides.yaml", "train: {rounds: 20,", "train: {rounds: 2000,")
    process = project.start("run", "pipeline=rides", "--json", "-q", "execute.backoff=0.1")
    wait_for(project, "1", '"train" running')
    for child in psutil.Process(process.pid).children(recursive=True):
        child.kill()
    out, err = process.communicate(timeout=120)
    assert process.returncode in {0, 3, 4}, err
    train = next(node for node in project.record("1")["nodes"] if node["name"] == "train")
    assert (train["state"], train["attempts"]) == ("ran", 2)
    assert json.loads(out)["status"] == "succeeded"


def test_two_runs_at_once_make_one_model(project: UserProject) -> None:
    processes = [project.start("run", "pipeline=rides", "--json", "-q") for _ in range(2)]
    outcomes = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outcomes
    models = project.engine("models", "list", "--json").json
    assert [model["version"]["version"] for model in models] == [1]
    assert project.engine("models", "verify", "rides").code == 0
    ran = [answer["nodes"]["ran"] for answer in (json.loads(out) for out, _ in outcomes)]
    assert sum(ran) <= 11  # eight nodes once, promotion seen by both


def test_a_flipped_bit_is_detected_and_made_again(finished: Finished, tmp_path: Path) -> None:
    shutil.copytree(finished[0].root, tmp_path, dirs_exist_ok=True)
    project = finished[0].at(tmp_path)
    wanted = digests(project, "1")
    name = wanted["features"]
    path = tmp_path / ".plumbline" / "artefacts" / "objects" / name[:2] / name / "rows.parquet"
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 4
    path.write_bytes(bytes(content))
    answer = project.engine("run", "pipeline=rides", "--json", "-q").json
    states = {node["name"]: node["state"] for node in project.record(answer["run_id"])["nodes"]}
    assert states["features"] == "ran"
    assert digests(project, answer["run_id"])["features"] == name
    assert set(states.values()) == {"ran", "cached"}


def test_one_thread_and_two_give_the_same_bytes(project: UserProject, finished: Finished) -> None:
    answer = project.engine("run", "pipeline=rides", "execute.threads=1", "--json", "-q").json
    ours, others = digests(project, answer["run_id"]), digests(finished[0], "1")
    assert {name: ours[name] for name in PACKAGED} == {name: others[name] for name in PACKAGED}


def truncated(project: UserProject) -> None:
    path = project.root / "data" / "rides.csv.gz"
    path.write_bytes(gzip.compress((project.root / "data" / "rides.csv").read_bytes())[:-200])
    project.edit("conf/pipeline/rides.yaml", "data/rides.csv", "data/rides.csv.gz")


BROKEN = {
    "missing": (lambda p: (p.root / "data/rides.csv").unlink(), "there is no file data/rides.csv"),
    "empty": (lambda p: p.write("data/rides.csv", ""), "is empty"),
    "header only": (lambda p: p.write("data/rides.csv", "ride_id,driver,distance,hour,at,late\n"), "no rows"),
    "truncated": (truncated, "not a whole archive"),
    "wrong type": (lambda p: p.edit("data/rides.csv", "r100,", "r100,") or p.write(
        "data/rides.csv", (p.root / "data/rides.csv").read_text().rstrip("\n").rsplit(",", 1)[0] + ",maybe\n"),
        "data row 4000, column `late`: 'maybe' is not i64"),
    "no column": (lambda p: p.edit("data/rides.csv", "distance", "distanz"), "no column `distance` (did you mean `distanz`?)"),
    "not text": (lambda p: (p.root / "data/rides.csv").write_bytes(HEADER + b"\xff\xfe,1,1,1,1,1\n"), "not UTF-8"),
    "a folder": (lambda p: p.edit("conf/pipeline/rides.yaml", "data/rides.csv", "data"), "is a folder"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_source_says_what_and_where(project: UserProject, case: str) -> None:
    breaking, words = BROKEN[case]
    breaking(project)
    outcome = project.engine("run", "pipeline=rides", "-q")
    assert outcome.code == 5, outcome.err + outcome.out
    assert words in outcome.err + outcome.out
    assert "Traceback" not in outcome.err


def test_failing_data_is_quarantined_and_main_keeps_the_good(finished: Finished, tmp_path: Path) -> None:
    shutil.copytree(finished[0].root, tmp_path, dirs_exist_ok=True)
    project = finished[0].at(tmp_path)
    repository = tmp_path / ".plumbline" / "snapshots" / "data.git"
    head = (repository / "refs" / "heads" / "main").read_text()
    lines = (tmp_path / "data" / "rides.csv").read_text().splitlines()
    lines[5] = ",".join([*lines[5].split(",")[:2], "-4.5", *lines[5].split(",")[3:]])
    project.write("data/rides.csv", "\n".join(lines) + "\n")
    outcome = project.engine("run", "pipeline=rides", "--json", "-q")
    assert outcome.code == 5
    assert "distance >= 0" in outcome.json["error"]
    assert "quarantined on branch quarantine-rides-" in outcome.json["error"]
    assert (repository / "refs" / "heads" / "main").read_text() == head
    assert project.engine("models", "list", "--json").json[0]["version"]["version"] == 1


def test_a_column_that_changed_its_type(project: UserProject) -> None:
    frame = pl.read_csv(project.root / "data" / "rides.csv").with_columns(pl.col("late").cast(pl.String))
    frame.write_parquet(project.root / "data" / "rides.parquet")
    project.edit(
        "conf/pipeline/rides.yaml", "kind: csv\n    path: data/rides.csv", "kind: parquet\n    path: data/rides.parquet"
    )
    outcome = project.engine("run", "pipeline=rides", "-q")
    assert outcome.code == 5
    assert "did its type change?" in outcome.out + outcome.err


def test_a_runs_folder_that_cannot_be_written(project: UserProject) -> None:
    project.write("runs", "a file stands where the folder should be")
    outcome = project.engine("run", "pipeline=rides", "-q")
    assert outcome.code == 7
    assert "cannot create the run folder" in outcome.err


def test_a_full_disk_is_said_and_nothing_half_done_stays(project: UserProject) -> None:
    """A limit on the size of files is what a full disk looks like to a writer."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    done = subprocess.run(
        [str(Path(sys.executable).with_name("engine")), "run", "pipeline=rides", "-q", "--to", "features", "execute.retries=0"],
        cwd=project.root, capture_output=True, text=True, check=False, preexec_fn=limit, timeout=60,
    )  # fmt: skip
    assert done.returncode not in {0, 1}, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert leftovers(project) == []
