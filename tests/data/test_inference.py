"""Expectations inferred from data are met by that data, are readable YAML, and never replace a person's file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.inference import infer_expectations, pattern_of, render_expectations, write_expectations
from engine.errors import UsageError
from engine.features.source_compiler import compile_source
from engine.nodes.expectations import LastGood, Surroundings
from engine.nodes.validation import audit
from engine.profiling.columns import profile_table, shape_of
from engine.spec import Expectation, SourceSpec, rebuild

NOW = datetime(2024, 6, 1, tzinfo=UTC)


def frame(seed: int, count: int = 500) -> pl.DataFrame:
    draw = np.random.default_rng(seed)
    return pl.DataFrame({
        "id": [f"T{number:05d}" for number in range(count)], "x": draw.normal(size=count) * 10.0 ** draw.integers(-9, 9),
        "n": draw.integers(-5, 1000, count), "word": draw.choice(["red", "on", "no: yes"], count),
        "code": [f"{letter}{number:03d}" for letter, number in zip(draw.choice(list("ABC"), count), range(count), strict=True)],
        "gaps": pl.Series(draw.normal(size=count)).scatter(range(0, count, 7), None), "ok": draw.random(count) < 0.5,
        "at": pl.datetime_range(datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC), "1h", eager=True).head(count),
    })  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_the_data_meets_what_was_inferred_from_it(seed: int) -> None:
    rows = frame(seed)
    profile = profile_table("s", rows, NOW)
    said = yaml.safe_load(render_expectations(profile))["sources"]["s"]["expect"]
    columns = {item.column: item.type for item in profile.columns}
    spec = SourceSpec(kind="csv", params=Expectation(), columns=columns, key=("id",), time="at")
    spec = rebuild(
        SourceSpec, {"kind": "csv", "columns": columns, "key": ["id"], "time": "at", "expect": said}, spec.params
    )
    compile_source("s", spec)
    report = audit(rows, spec, "s", Surroundings(last_good=LastGood(rows.height, rows.lazy), now=NOW)).report
    assert [item.rule for item in report.findings if item.status == "fail"] == []


def test_what_is_inferred_is_worth_having() -> None:
    found = infer_expectations(profile_table("s", frame(1), NOW))
    by_column = {item["column"]: item for item in found if "column" in item and "distribution" not in item}
    assert by_column["id"] == {"column": "id", "not_null": True, "unique": True, "pattern": "^[A-Z][0-9]{5}$"}
    assert by_column["word"]["values"] == ["no: yes", "on", "red"]
    assert by_column["gaps"]["max_null_fraction"] == pytest.approx(0.226)
    assert by_column["at"] == {"column": "at", "not_null": True, "increasing": True, "past": True}
    early = infer_expectations(profile_table("s", frame(1), datetime(2024, 1, 2, tzinfo=UTC)))
    assert not [item for item in early if "past" in item]  # a timetable has times to come
    assert {"min_rows": 250} in found
    assert {item["severity"] for item in found if "distribution" in item} == {"warn"}


@settings(deadline=None)
@given(st.text(alphabet="AZaz09-+.*()[]\\^$| é", min_size=1, max_size=12))
def test_a_pattern_matches_the_text_whose_shape_it_is_of(text: str) -> None:
    found = pl.Series([text]).str.contains(pattern_of(shape_of(text)))
    assert found.item()


def test_a_file_of_a_person_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "conf" / "expect" / "s.yaml"
    write_expectations(profile_table("s", frame(1), NOW), path)
    write_expectations(profile_table("s", frame(2), NOW), path)  # nobody touched it
    text = path.read_text()
    path.write_text(text.replace("min_rows: 250", "min_rows: 300"))
    with pytest.raises(UsageError, match="changed by hand"):
        write_expectations(profile_table("s", frame(1), NOW), path)
    path.write_text("sources: {}\n")
    with pytest.raises(UsageError, match="by hand"):
        write_expectations(profile_table("s", frame(1), NOW), path)
    assert path.read_text() == "sources: {}\n"
