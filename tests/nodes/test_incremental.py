"""A source that grows: only what changed is read, audited and written, with the bytes of a complete reading."""

from __future__ import annotations

import shutil
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.components import load_catalogue
from engine.errors import DataError
from engine.nodes.declared import read_declared
from engine.nodes.reading import read_changes

Bench = Any  # see conftest.py
REPO = "data"
GROWING = {
    "columns": {"id": "str", "who": "str", "x": "f64", "at": "timestamp"}, "key": ["who"], "time": "at", "id": "id",
    "path": "in/*.csv", "partition": "day", "incremental": True,
}  # fmt: skip


def day(number: int, *values: float, tag: str = "") -> str:
    lines = [
        f"{tag}{number}-{index},w{index},{x},2024-01-{number:02d}T0{index}:00:00Z" for index, x in enumerate(values)
    ]
    return "\n".join(["id,who,x,at", *lines]) + "\n"


@pytest.fixture
def events(bench: Bench) -> Bench:
    bench.declare("events", **GROWING)
    for number in (1, 2, 3):
        bench.write(f"in/{number:02d}.csv", day(number, 1, 2, 3))
    return bench


@pytest.fixture
def opened(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The parts that are read, as they are."""
    component = load_catalogue(bench.root, ("files",)).get("source", "csv")
    kind = type(component.build(component.params(path="x")))
    real, seen = kind.read_parts, []

    def watched(self: Any, reading: Any, wanted: Any) -> Any:
        seen.extend(wanted)
        return real(self, reading, wanted)

    monkeypatch.setattr(kind, "read_parts", watched)
    return seen


def test_a_file_that_delivers_rows_again_changes_nothing(events: Bench) -> None:
    first = events.ingest("events")
    events.write("in/04.csv", day(2, 1, 2))
    again = events.ingest("events")
    assert (again.source, again.notes["commit"]) == (first.source, first.notes["commit"])
    assert again.failed["rows come once"]["failed"] == 2


def test_only_new_files_are_read_and_only_their_partitions_written(events: Bench, opened: list[str]) -> None:
    assert events.ingest("events").source["rows"] == 9
    opened.clear()
    events.write("in/04.csv", day(4, 4, 5))
    done = events.ingest("events")
    assert opened == ["in/04.csv"]
    assert (done.source["rows"], done.validation["rows"]) == (11, 2)
    assert done.source["last"] == "2024-01-04T01:00:00.000000Z"
    changed = {item.path: item.kind for item in events.store.diff(REPO, "main~1", "main")}
    assert changed == {"events/2024-01-04.parquet": "added", ".plumbline/audits/events.json": "changed"}


def test_a_partition_is_read_anew_from_every_file_that_feeds_it(events: Bench, opened: list[str]) -> None:
    events.write("in/02-late.csv", day(2, 9, tag="late"))
    events.ingest("events")
    opened.clear()
    events.write("in/02-late.csv", day(2, 8, tag="late"))
    assert events.ingest("events").source["rows"] == 10
    assert opened == ["in/02-late.csv", "in/02.csv"]
    opened.clear()
    (events.root / "in" / "02-late.csv").unlink()
    assert events.ingest("events").source["rows"] == 9
    assert opened == ["in/02.csv"]
    (events.root / "in" / "03.csv").unlink()
    assert events.ingest("events").source["rows"] == 6
    assert list(events.objects()) == ["events/2024-01-01.parquet", "events/2024-01-02.parquet"]


def test_nothing_new_reads_nothing(events: Bench, opened: list[str]) -> None:
    events.ingest("events")
    opened.clear()
    head = events.store.resolve(REPO, "main")
    events.ingest("events")
    assert (opened, events.store.resolve(REPO, "main")) == ([], head)


def test_another_declaration_reads_everything(events: Bench, opened: list[str]) -> None:
    events.ingest("events")
    opened.clear()
    events.declare("events", derive={"double": "x * 2"})
    events.ingest("events")
    assert opened == ["in/01.csv", "in/02.csv", "in/03.csv"]


def test_uniqueness_counts_over_partitions_that_are_not_read(events: Bench) -> None:
    events.declare("events", expect=[{"column": "who", "unique": True}])
    for number in (1, 2, 3):
        events.write(f"in/{number:02d}.csv", day(number, 1).replace("w0", f"only{number}"))
    events.ingest("events")
    events.write("in/04.csv", day(4, 1).replace("w0", "only2"))
    with pytest.raises(DataError, match="who is unique: 1 of 1 rows"):
        events.ingest("events")


def test_a_source_without_parts_says_so(events: Bench) -> None:
    reader = read_declared(events.work("events")).reader
    with pytest.raises(DataError, match="kind `csv` cannot be read in parts"):
        read_changes(replace(reader, source=SimpleNamespace()), None)  # type: ignore[arg-type]


FILES = st.dictionaries(
    st.sampled_from(["a", "b", "c", "d"]),
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 9)), max_size=4),
    min_size=1, max_size=4,
)  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(FILES, min_size=1, max_size=4))
def test_growing_bit_by_bit_gives_the_bytes_of_reading_it_all(bench: Bench, history: list[Any]) -> None:
    bench.declare("events", **GROWING)
    bench.declare("whole", **{**GROWING, "incremental": False})
    for folder in ("in", "snapshots"):
        shutil.rmtree(bench.root / folder, ignore_errors=True)
    for files in history:
        shutil.rmtree(bench.root / "in", ignore_errors=True)
        for name, items in files.items():
            lines = [f"{name}{index},w,{x},2024-01-{on:02d}T00:00:00Z" for index, (on, x) in enumerate(items)]
            bench.write(f"in/{name}.csv", "\n".join(["id,who,x,at", *lines]) + "\n")
        if not any(files.values()):
            for source in ("events", "whole"):
                with pytest.raises(DataError, match="no rows"):
                    bench.ingest(source)
            continue
        grown, whole = bench.ingest("events").source, bench.ingest("whole").source
        for key in ("rows", "schema", "first", "last"):
            assert grown[key] == whole[key]
        digests = [[item["digest"] for item in found["objects"]] for found in (grown, whole)]
        assert digests[0] == digests[1]
