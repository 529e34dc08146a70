"""The run index: ids that are never given twice, upserts, filters."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import msgspec
import pytest

from engine.errors import NotFoundError
from engine.records import Metric, RunRecord
from engine.stores.database import Database
from engine.stores.runs_index import RunFilter, RunsIndex

COUNTER = """
import sys
from engine.stores.database import open_database
from engine.stores.runs_index import RunsIndex
database = open_database(sys.argv[1])
index = RunsIndex(database)
sys.stdin.readline()
print(*(index.next_run_id() for _ in range(20)))
database.close()
"""


def record(number: int, **changes: object) -> RunRecord:
    made = RunRecord(
        run_id=str(number), pipeline="flights", status="running", started_at=f"2026-01-01T00:00:{number % 60:02d}.000000Z",
        config_digest="a" * 64, plan_digest="b" * 64,
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def test_ids_are_allotted_once(
    database_url: str, start: Callable[..., subprocess.Popen[str]], finish: Callable[..., list[str]]
) -> None:
    children = [start(COUNTER, database_url) for _ in range(4)]
    for child in children:
        assert child.stdin
        child.stdin.write("go\n")
        child.stdin.flush()
    numbers = [int(number) for printed in finish(children) for number in printed.split()]
    assert sorted(numbers) == list(range(1, 81))


def test_ids_pass_folders_that_outlived_a_database(database: Database) -> None:
    index = RunsIndex(database)
    assert [index.next_run_id(above) for above in (147, 0, 147, 149, 500, 3)] == [148, 149, 150, 151, 501, 502]


def test_a_run_is_written_again_as_it_goes_on(database: Database) -> None:
    index = RunsIndex(database)
    index.record_run(record(1), "/runs/1")
    assert index.find_run("1").status == "running"
    metrics = (Metric(name="auc", value=0.1 + 0.2), Metric(name="odd", value=float("nan")))
    done = record(
        1, status="succeeded", verdict="promote", seconds=1.5, metrics=metrics, promoted=True, model="m:1", error="é"
    )
    index.record_run(done, "/runs/1")
    found = index.find_run("1")
    assert (found.status, found.verdict, found.seconds, found.promoted, found.model) == (
        "succeeded",
        "promote",
        1.5,
        True,
        "m:1",
    )
    assert (found.metrics, found.error, found.run_dir) == ({"auc": 0.1 + 0.2, "odd": None}, "é", "/runs/1")
    assert len(index.list_runs()) == 1


def test_listing(database: Database) -> None:
    index = RunsIndex(database)
    for number in range(1, 13):
        index.record_run(record(number, status="failed" if number % 3 == 0 else "succeeded"), "x")
    index.record_run(record(13, pipeline="other"), "x")
    index.record_run(record(72), "x")  # the same second as run 12
    assert [run.run_id for run in index.list_runs(RunFilter(limit=4))] == ["13", "72", "12", "11"]
    assert [run.run_id for run in index.list_runs(RunFilter(pipeline="flights", status="failed"))] == [
        "12",
        "9",
        "6",
        "3",
    ]
    assert index.list_runs(RunFilter(limit=-1)) == []
    with pytest.raises(NotFoundError, match="no run 99"):
        index.find_run("99")
