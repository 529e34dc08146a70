"""The same rides from every kind of source make the same snapshot; a source that fails says so with the right exit code."""

from __future__ import annotations

import http.server
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest

UserProject = Any  # see conftest.py
FRAME = {"distance": pl.Float64, "hour": pl.Int64, "late": pl.Int64}


def frame(root: Path) -> pl.DataFrame:
    return pl.read_csv(root / "data" / "rides.csv", schema_overrides=FRAME)


def as_ndjson(root: Path) -> str:
    frame(root).write_ndjson(root / "data" / "rides.ndjson")
    return "kind: ndjson\n    path: data/rides.ndjson"


def as_arrow(root: Path) -> str:
    frame(root).with_columns(pl.col("at").str.to_datetime(time_zone="UTC")).write_ipc(root / "data" / "rides.arrow")
    return "kind: arrow\n    path: data/rides.arrow"


def as_excel(root: Path) -> str:
    frame(root).write_excel(root / "data" / "rides.xlsx")
    return "kind: excel\n    path: data/rides.xlsx"


def as_folders(root: Path) -> str:
    for (driver,), part in frame(root).partition_by("driver", as_dict=True, include_key=False).items():
        folder = root / "data" / f"driver={driver}"
        folder.mkdir()
        part.write_parquet(folder / "rides.parquet")
    return "kind: parquet\n    path: data/*/rides.parquet\n    hive: true"


def as_sqlite(root: Path) -> str:
    rows = frame(root)
    with closing(sqlite3.connect(root / "rides.db")) as connection, connection:
        connection.execute(f"CREATE TABLE rides ({', '.join(rows.columns)})")
        connection.executemany("INSERT INTO rides VALUES (?, ?, ?, ?, ?, ?)", rows.rows())
    return "kind: sqlite\n    path: rides.db\n    query: SELECT * FROM rides"


def as_duckdb(root: Path) -> str:
    import duckdb

    with duckdb.connect(str(root / "rides.duckdb")) as connection:
        connection.execute(f"CREATE TABLE rides AS FROM read_csv('{root}/data/rides.csv')")
    return (
        "kind: duckdb\n    path: rides.duckdb\n    query: SELECT * FROM rides\n    version: SELECT count(*) FROM rides"
    )


def as_delta(root: Path) -> str:
    frame(root).write_delta(root / "data" / "delta")
    return "kind: delta\n    path: data/delta\n    version: 0"


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The digest of what the CSV file makes, kept for the module."""
    return {}


def ingest(project: UserProject) -> str:
    done = project.engine("run", "pipeline=rides", "--to", "ingest.rides", "--json", "-q")
    assert done.code == 0, done.err
    (node,) = [item for item in project.record(done.json["run_id"])["nodes"] if item["name"] == "ingest.rides"]
    return str(node["output"]["digest"])


@pytest.mark.parametrize("write", [as_ndjson, as_arrow, as_excel, as_folders, as_sqlite, as_duckdb, as_delta])
def test_the_same_rides_make_the_same_snapshot(
    write: Callable[[Path], str], project: UserProject, snapshot: dict[str, str]
) -> None:
    if not snapshot:
        snapshot["csv"] = ingest(project)
    project.edit("conf/pipeline/rides.yaml", "kind: csv\n    path: data/rides.csv", write(project.root))
    assert ingest(project) == snapshot["csv"]
    again = project.engine("run", "pipeline=rides", "--to", "ingest.rides", "--json", "-q").json
    assert again["nodes"]["ran"] == 0


def test_the_documented_plugin(project: UserProject, snapshot: dict[str, str]) -> None:
    if not snapshot:
        snapshot["csv"] = ingest(project)
    page = Path(__file__).parents[2] / "docs" / "plugins.md"
    found = re.findall(r"```python\n# plugins/sheets\.py\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    project.write("plugins/sheets.py", found[0])
    text = (project.root / "data" / "rides.csv").read_text(encoding="utf-8")
    project.write("data/rides.tsv", text.replace(",", "\t"))
    project.edit("conf/pipeline/rides.yaml", "name: rides\n", "name: rides\nextra_plugins: [sheets]\n")
    project.edit(
        "conf/pipeline/rides.yaml", "kind: csv\n    path: data/rides.csv", "kind: sheet\n    path: data/rides.tsv"
    )
    assert ingest(project) == snapshot["csv"]


@pytest.fixture
def server(project: UserProject) -> Iterator[str]:
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *words: None})
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=project.root / "data"))
    threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"http://127.0.0.1:{made.server_port}"
    made.shutdown()
    made.server_close()


def test_a_web_server(project: UserProject, server: str, snapshot: dict[str, str]) -> None:
    if not snapshot:
        snapshot["csv"] = ingest(project)
    project.edit("conf/pipeline/rides.yaml", "path: data/rides.csv", f"path: {server}/rides.csv")
    assert ingest(project) == snapshot["csv"]
    project.edit("conf/pipeline/rides.yaml", "/rides.csv", "/none.csv")
    done = project.engine("plan", "pipeline=rides")
    assert (done.code, "there is nothing (HTTP 404)" in done.err) == (5, True)


@pytest.mark.parametrize(
    ("source", "code", "words"),
    [
        ("kind: csv\n    path: http://127.0.0.1:1/rides.csv", 7, "no answer after 4 tries"),
        ("kind: postgres\n    dsn: postgresql://me@127.0.0.1:1/x\n    query: SELECT 1\n    version: SELECT 1", 7, "no connection"),
        ("kind: sqlite\n    path: none.db\n    query: SELECT 1", 5, "there is no database file"),
        ("kind: delta\n    path: none", 5, "there is no Delta table"),
        ("kind: iceberg\n    table: none", 5, "there is no Iceberg table"),
        ("kind: dvc\n    path: none.csv", 5, "is no git checkout"),
        ("kind: csv\n    path: https://me:hunter2@host/x.csv", 2, "${secret:NAME}"),
    ],
)  # fmt: skip
def test_a_source_that_fails(source: str, code: int, words: str, project: UserProject) -> None:
    project.edit("conf/pipeline/rides.yaml", "kind: csv\n    path: data/rides.csv", source)
    done = project.engine("plan", "pipeline=rides")
    assert done.code == code, done.err
    assert words in done.err
    assert "Traceback" not in done.err
    assert "next:" in done.err or code == 2


def test_sources_that_cannot_be_pinned_are_told_together_with_their_lines(project: UserProject) -> None:
    project.write(
        "conf/pipeline/lost.yaml",
        "# @package _global_\ndefaults: [rides, _self_]\nname: lost\nsources:\n  rides: {path: data/gone.csv}\n"
        "  more:\n    kind: parquet\n    path: data/away.parquet\n    columns: {driver: str, x: f64}\n"
        "    key: [driver]\n    static: true\nfeatures: {x: {lookup: more.x}}\n",
    )
    outcome = project.engine("plan", "pipeline=lost")
    assert outcome.code == 5
    assert "conf/pipeline/lost.yaml:5:3: sources.rides: " in outcome.err
    assert "conf/pipeline/lost.yaml:6:3: sources.more: " in outcome.err
