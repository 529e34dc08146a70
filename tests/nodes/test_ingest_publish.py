"""Write, audit, publish: what reaches `main`, what stays on a branch, what is not written or read again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from engine.components import load_catalogue
from engine.errors import DataError
from engine.nodes.audited import read_quarantine
from engine.nodes.branches import ingest_branch
from engine.stores.disk import owned_name

Bench = Any  # see conftest.py
REPO = "data"
COLUMNS = {"id": "str", "who": "str", "x": "f64", "at": "timestamp"}
COMMON = {"columns": COLUMNS, "key": ["who"], "time": "at", "id": "id", "partition": "month"}


def rows(*months: int, count: int = 20, bad: tuple[int, ...] = ()) -> str:
    """Some rows a month; the x of `bad` ones (counted over all) is negative."""
    lines = ["id,who,x,at"]
    for month in months:
        for day in range(count):
            number = len(lines) - 1
            x = -1.0 if number in bad else float(day)
            lines.append(f"{month}-{day},w{day % 3},{x},2024-{month:02d}-{1 + day % 28:02d}T00:00:00Z")
    return "\n".join(lines) + "\n"


@pytest.fixture
def visits(bench: Bench) -> Bench:
    bench.declare("visits", **COMMON)
    bench.write("visits.csv", rows(1, 2, 3))
    return bench


def test_a_source_lies_in_partitions_and_its_commit_says_who_and_what(visits: Bench) -> None:
    done = visits.ingest("visits")
    assert list(visits.objects()) == [f"visits/2024-{month:02d}.parquet" for month in (1, 2, 3)]
    assert (done.source["rows"], done.source["first"], done.source["last"]) == (
        60, "2024-01-01T00:00:00.000000Z", "2024-03-20T00:00:00.000000Z",
    )  # fmt: skip
    metadata = visits.log()[0].metadata
    assert metadata["plumbline.source"] == "visits"
    assert metadata["plumbline.status"] == "published"
    assert metadata["plumbline.run"] == "1"
    assert metadata["plumbline.rows"] == "60"
    assert metadata["plumbline.actor"]
    assert len(metadata["plumbline.config"]) == len(metadata["plumbline.pin"]) == 64
    assert visits.store.branches(REPO) == ["main"]


def test_the_same_bytes_are_not_read_again(visits: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    first = visits.ingest("visits")
    head = visits.store.resolve(REPO, "main")
    component = load_catalogue(visits.root, ("files",)).get("source", "csv")
    kind = type(component.build(visits.spec("visits").params))
    monkeypatch.setattr(kind, "read", lambda *arguments: pytest.fail("it was read again"))
    again = visits.ingest("visits")
    assert (again.source, again.validation, again.notes) == (first.source, first.validation, first.notes)
    assert visits.store.resolve(REPO, "main") == head


def test_the_same_rows_in_other_bytes_make_no_commit(visits: Bench) -> None:
    first = visits.ingest("visits")
    head = visits.store.resolve(REPO, "main")
    visits.write("visits.csv", rows(1, 2, 3).replace("\n", "\r\n"))
    again = visits.ingest("visits")
    assert (again.source, again.notes["commit"]) == (first.source, head)
    assert visits.store.resolve(REPO, "main") == head


def test_copies_of_a_row_are_dropped_and_counted(visits: Bench) -> None:
    """Whoever delivers at least once sends some rows twice: in one file, or in another."""
    visits.ingest("visits")
    head = visits.store.resolve(REPO, "main")
    lines = rows(1, 2, 3).splitlines(keepends=True)
    visits.write("visits.csv", "".join([*lines, *lines[3:5]]))
    visits.write("visits-late.csv", lines[0] + lines[7])
    again = visits.ingest("visits")
    assert again.source["rows"] == 60
    assert visits.store.resolve(REPO, "main") == head
    told = again.failed["rows come once"]
    assert (told["severity"], told["failed"], told["checked"]) == ("warn", 3, 63)


def test_two_rows_under_one_id_are_no_copies(visits: Bench) -> None:
    lines = rows(1, 2, 3).splitlines(keepends=True)
    visits.write("visits.csv", "".join([*lines, lines[3].replace(",2.0,", ",2.5,")]))
    with pytest.raises(DataError, match="id names one row of each version: 2 of 61 rows"):
        visits.ingest("visits")


def test_only_changed_partitions_are_written_and_vanished_ones_removed(visits: Bench) -> None:
    visits.ingest("visits")
    before = visits.objects()
    visits.write("visits.csv", rows(1, 3, 4))
    visits.ingest("visits")
    changes = {item.path: item.kind for item in visits.store.diff(REPO, "main~1", "main")}
    assert changes == {
        "visits/2024-02.parquet": "removed",
        "visits/2024-04.parquet": "added",
        ".plumbline/audits/visits.json": "changed",
    }
    assert visits.objects()["visits/2024-01.parquet"] == before["visits/2024-01.parquet"]


def test_bad_data_stays_on_one_branch_however_often_it_comes(visits: Bench) -> None:
    visits.declare("visits", expect=[{"column": "x", "minimum": 0}])
    visits.ingest("visits")
    head = visits.store.resolve(REPO, "main")
    visits.write("visits.csv", rows(1, 2, 3, bad=(25, 26)))
    for _ in range(2):
        with pytest.raises(DataError, match=r"x >= 0: 2 of 60 rows .*\n  quarantined on branch quarantine-visits-"):
            visits.ingest("visits")
    assert visits.store.resolve(REPO, "main") == head
    branches = [name for name in visits.store.branches(REPO) if name != "main"]
    assert len(branches) == 1
    kept = read_quarantine(visits.store, REPO, branches[0], "visits")
    assert (kept.severity, [item.rule for item in kept.report.blocking]) == ("block", ["x >= 0"])
    assert kept.report.blocking[0].samples[0]["id"] == "2-5"
    assert visits.store.log(REPO, branches[0], 1)[0].metadata["plumbline.status"] == "quarantined"
    changed = {item.path for item in visits.store.diff(REPO, "main", branches[0])}
    assert changed == {
        "visits/2024-02.parquet", ".plumbline/audits/visits.json", ".plumbline/quarantine/visits.json",
    }  # fmt: skip


def test_rows_are_set_aside_and_the_rest_is_published(visits: Bench) -> None:
    visits.declare("visits", expect=[{"column": "x", "minimum": 0, "severity": "quarantine"}])
    visits.write("visits.csv", rows(1, 2, 3, bad=(25, 26)))
    done = visits.ingest("visits")
    assert (done.source["rows"], done.notes["set_aside"], done.validation["set_aside"]) == (58, 2, 2)
    branch = done.notes["quarantine"]
    kept = read_quarantine(visits.store, REPO, branch, "visits")
    assert (kept.severity, kept.audit.described["rows"]) == ("quarantine", 60)
    changed = {item.path for item in visits.store.diff(REPO, "main", branch)}
    assert "visits/2024-02.parquet" in changed
    assert "visits/2024-01.parquet" not in changed
    assert visits.ingest("visits").source == done.source


def test_when_every_row_is_set_aside_nothing_is_published(visits: Bench) -> None:
    visits.declare("visits", expect=[{"column": "x", "minimum": 1000, "severity": "quarantine"}])
    with pytest.raises(DataError, match="has no row that passes"):
        visits.ingest("visits")
    assert visits.objects() == {}


def test_branches_of_the_dead_are_swept_and_no_others(visits: Bench) -> None:
    visits.ingest("visits")
    store = visits.store
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True
    )
    own = ingest_branch("visits", "7")
    gone = own.replace(f"-{os.getpid()}-", f"-{dead.stdout.strip()}-")
    foreign = f"ingest-visits-7-{int(time.time())}-1-1-{'0' * 8}-{'a' * 12}"
    stale = f"ingest-visits-7-{int(time.time()) - 100_000}-1-1-{'0' * 8}-{'b' * 12}"
    quarantined = "quarantine-visits-0123456789ab"
    for branch in (own, gone, foreign, stale, quarantined, "ingest-by-hand"):
        store.create_branch(REPO, branch, "main")
    visits.ingest("visits")
    assert set(store.branches(REPO)) == {"main", own, foreign, quarantined, "ingest-by-hand"}
    assert owned_name().startswith(f"{os.getpid()}-")


def test_a_source_at_a_commit_is_what_it_was(visits: Bench) -> None:
    first = visits.ingest("visits")
    visits.write("visits.csv", rows(1, 2))
    visits.ingest("visits")
    visits.declare("visits", ref=first.notes["commit"])
    then = visits.ingest("visits")
    assert (then.source, then.validation, then.notes) == (first.source, first.validation, first.notes)
    visits.declare("visits", ref="main~9")
    with pytest.raises(Exception, match="commit"):
        visits.ingest("visits")


def test_a_declaration_that_changed_is_audited_anew_without_a_commit(visits: Bench) -> None:
    visits.ingest("visits")
    head = visits.store.resolve(REPO, "main")
    visits.declare("visits", expect=[{"column": "x", "maximum": 100}])
    assert "x <= 100" in {item["rule"] for item in visits.ingest("visits").validation["findings"]}
    assert visits.store.resolve(REPO, "main") == head
    visits.declare("visits", expect=[{"column": "x", "maximum": 3}])
    with pytest.raises(DataError, match="holds the same rows since before"):
        visits.ingest("visits")
    assert visits.store.branches(REPO) == ["main"]


KILLED = """
import sys, threading, time, os, signal
from pathlib import Path
sys.path.insert(0, sys.argv[4])
import conftest
root, seconds = Path(sys.argv[1]), float(sys.argv[2])
bench = conftest.Bench(root)
bench.declare("visits", **eval(sys.argv[3]))
bench.work("visits")  # imports and plugins are loaded: what follows is the ingestion
threading.Thread(target=lambda: (time.sleep(seconds), os.kill(os.getpid(), signal.SIGKILL)), daemon=True).start()
done = bench.ingest("visits")
print(done.notes["commit"], flush=True)
"""


def whole(bench: Bench) -> dict[str, int]:
    """Check that `main` is whole: every object readable, and just what its audit says; gives rows by source."""
    from engine.nodes.audited import read_audit

    objects = bench.store.list(REPO, "main", "visits/")
    if not objects:
        return {}
    audit = read_audit(bench.store, REPO, "main", "visits", objects)
    assert audit is not None
    for item in objects:
        bench.store.fetch(REPO, "main", item.path)
    return {"visits": audit.described["rows"]}


@pytest.mark.parametrize("moment", range(int(os.environ.get("PLUMBLINE_KILLS", "6"))))
def test_killed_at_any_moment_main_is_whole_and_the_next_one_cleans_up(
    visits: Bench, moment: int, record_property: Any
) -> None:
    visits.ingest("visits")
    months = tuple(range(1, 13))
    visits.write("visits.csv", rows(*months, count=200))
    generator = __import__("random").Random(moment)
    script = [sys.executable, "-c", KILLED, str(visits.root), str(generator.uniform(0.0, 0.4)), repr(COMMON)]
    child = subprocess.run(
        [*script, str(Path(__file__).parent)], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert child.returncode in {0, -9}, child.stderr
    found = whole(visits)
    assert found["visits"] in {60, 2400}
    record_property("outcome", f"{child.returncode} {found['visits']} {len(visits.store.branches(REPO))}")
    if child.returncode == 0:  # it was acknowledged, so it is there
        assert visits.store.resolve(REPO, "main") == child.stdout.strip()
        assert found["visits"] == 2400
    done = visits.ingest("visits")
    assert (done.source["rows"], whole(visits)) == (2400, {"visits": 2400})
    assert visits.store.branches(REPO) == ["main"]
