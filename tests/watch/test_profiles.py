"""Profiles of large data: streamed, kept by content, made once, the same over any number of workers; `engine monitor data`."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from engine.cli import main
from engine.execute.mapping import map_over
from engine.watch.profile import decode_profile, merge_all, profile_rows
from engine.watch.profiles import Shelf, Task, cut_file, open_profiles, open_reference, profile_piece, whole_file
from engine.watch.reference import build_reference
from tests.watch.test_compare import rows


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{index}.parquet" for index in range(3)]
    for index, path in enumerate(paths):
        rows(3_000, index).with_columns(pl.col("x0") + 0.4 * (index == 2)).write_parquet(path, row_group_size=500)
    return paths


def test_a_profile_is_made_once_and_again_when_the_file_or_the_scale_changed(files: list[Path], tmp_path: Path) -> None:
    shelf, made = Shelf(tmp_path / "shelf"), []

    def run(function, tasks):
        made.extend(task.piece.name for task in tasks)
        return map_over(function, tasks, workers=2)

    columns = rows(1, 1).columns
    reference = open_reference(cut_file(files[0], 5), columns, shelf, "r")
    first = open_profiles([whole_file(path) for path in files[1:]], reference.frozen, shelf, run)
    again = open_profiles([whole_file(path) for path in files[1:]], reference.frozen, shelf, run)
    assert first == again
    assert made == ["1.parquet", "2.parquet"]
    assert open_reference(cut_file(files[0], 5), columns, shelf, "r") == reference
    rows(3_000, 9).write_parquet(files[1])
    open_profiles([whole_file(path) for path in files[1:]], reference.frozen, shelf, run)
    other = open_reference(cut_file(files[0], 6), ["x0", "x1"], shelf, "r")
    open_profiles([whole_file(files[1])], other.frozen, shelf, run)
    assert made == ["1.parquet", "2.parquet", "1.parquet", "1.parquet"]


def test_profiles_of_pieces_merge_to_that_of_the_file(files: list[Path], tmp_path: Path) -> None:
    reference = open_reference(cut_file(files[0], 5), ["x0", "city"], Shelf(tmp_path / "shelf"), "r")
    pieces = [profile_piece(Task(piece, reference.frozen)) for piece in cut_file(files[1], 7)]
    from engine.watch.profile import decode_profile

    whole = profile_rows(pl.read_parquet(files[1]), reference.frozen)
    merged = merge_all([decode_profile(piece) for piece in pieces])
    assert {name: counts.cells for name, counts in merged.columns.items()} == {
        name: counts.cells for name, counts in whole.columns.items()
    }


def test_engine_monitor_data(files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "conf").mkdir()
    words = [
        "monitor",
        "data",
        "--project",
        str(tmp_path),
        "--reference",
        str(files[0]),
        "--rows",
        *map(str, files[1:]),
        "--json",
    ]
    assert main(words) == 3
    answer = json.loads(capsys.readouterr().out)
    assert [reading["status"] for reading in answer["readings"]] == ["ok", "alarm"]
    assert answer["readings"][1]["findings"][0]["name"] == "x0"
    assert main([*words, "--column", "x1", "--column", "c*"]) == 0
    assert main(["monitor", "data", "--project", str(tmp_path), "--reference", str(files[0])]) == 2
    assert (
        main(["monitor", "data", "--project", str(tmp_path), "--reference", "none.parquet", "--rows", "none.parquet"])
        != 0
    )
    assert "none.parquet" in capsys.readouterr().err


def test_digits_of_a_csv_are_text_where_the_reference_has_text(tmp_path: Path) -> None:
    known = pl.DataFrame({"code": ["007", "12", "007", "3"] * 100, "n": range(400)})
    known.write_parquet(tmp_path / "known.parquet")
    known.write_csv(tmp_path / "now.csv")
    table = build_reference([known], ["code", "n"]).frozen
    made = [
        decode_profile(profile_piece(Task(whole_file(tmp_path / name), table))) for name in ("known.parquet", "now.csv")
    ]
    assert made[1].columns["code"].trouble == ""
    assert made[0].columns["code"].cells == made[1].columns["code"].cells


@pytest.mark.parametrize("count", [100, 60_000])
def test_numbers_at_the_end_of_what_doubles_hold_are_counted(count: int) -> None:
    usual = pl.DataFrame({"a": [float(index % 977) for index in range(count)]})
    table = build_reference([usual], ["a"]).frozen
    values = [1.7e308, -1.7e308, float("nan"), float("inf"), None]
    huge = pl.DataFrame({"a": values * (count // 5)}, schema={"a": pl.Float64})
    found = profile_rows(huge, table).columns["a"]
    assert (found.nulls, found.nans, found.infinite, found.trouble) == (count // 5, count // 5, count // 5, "")
    assert (found.cells[0], found.cells[-1], found.present) == (count // 5, count // 5, 2 * (count // 5))
