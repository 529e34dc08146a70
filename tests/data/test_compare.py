"""A diff finds every row, column and distribution that differs, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.data.compare import _Rows, compare
from engine.errors import NotFoundError
from engine.report.data_diff import render_diff

Commit = Any


def rows(count: int, seed: int = 1, **changed: Any) -> pl.DataFrame:
    draw = np.random.default_rng(seed)
    return pl.DataFrame(
        {"id": range(count), "x": draw.normal(size=count), "word": draw.choice(["a", "b"], count)}, **changed
    )


def test_rows_added_removed_and_changed(repository: Any, commit: Commit) -> None:
    before = rows(3000)
    after = before.slice(10).with_columns(x=pl.when(pl.col("id") % 1000 == 500).then(99.0).otherwise("x"))
    after = pl.concat([after, rows(5).with_columns(id=pl.col("id") + 10_000)])
    first = commit("rides", {"one": before}, ("id",))
    commit("rides", {"one": after}, ("id",))
    (found,) = compare(repository, first, "main").sources
    assert (found.rows_before, found.rows_after) == (3000, 2995)
    assert (found.rows_added, found.rows_removed, found.rows_changed, found.key) == (5, 10, 3, ("id",))
    changed = [sample for sample in found.samples if sample.kind == "changed"]
    assert [(item.before["id"], item.after["x"]) for item in changed] == [
        ("500", "99.0"),
        ("1500", "99.0"),
        ("2500", "99.0"),
    ]
    assert changed[0].before["x"] == str(before["x"][500])
    assert [(item.path, item.kind) for item in found.objects] == [("rides/one.parquet", "changed")]


def test_columns_and_distributions(repository: Any, commit: Commit) -> None:
    before = rows(4000)
    moved = rows(4000, seed=2).with_columns(x=pl.col("x") + 1, more=pl.lit(1), word=pl.col("word").cast(pl.Categorical))
    commit("rides", {"one": before.with_columns(old=pl.lit("x"), n=pl.col("id"))})
    commit("rides", {"one": moved.with_columns(n=pl.col("id").cast(pl.String))})
    (found,) = compare(repository, "main~1", "main").sources
    columns = {item.column: item for item in found.columns}
    assert {name: item.kind for name, item in columns.items() if item.kind != "kept"} == {
        "more": "added", "old": "removed", "word": "retyped", "n": "retyped",
    }  # fmt: skip
    x = columns["x"]
    assert x.moved
    assert (x.psi or 0) > 0.5
    assert (x.ks or 0) > 0.3
    assert sum(x.shares_before) == pytest.approx(1.0)
    assert not columns["id"].moved


def test_without_a_key_rows_are_a_bag(repository: Any, commit: Commit) -> None:
    frame = pl.DataFrame({"x": [1, 1, 2, None]})
    commit("s", {"a": frame})
    commit("s", {"a": pl.DataFrame({"x": [1, 2, 2, 3, None]})})
    (found,) = compare(repository, "main~1", "main").sources
    assert (found.rows_added, found.rows_removed, found.rows_changed, found.key) == (2, 1, 0, ())


def test_only_sources_that_differ_are_told(repository: Any, commit: Commit) -> None:
    first = commit("one", {"a": rows(10), "b": rows(20)}, ("id",))
    commit("two", {"a": rows(10)})
    assert [item.source for item in compare(repository, first, "main").sources] == ["two"]
    added = compare(repository, first, "main", "two").sources[0]
    assert (added.rows_before, added.rows_added, added.columns) == (0, 10, ())
    removed = compare(repository, "main", first).sources[0]
    assert (removed.rows_after, removed.rows_removed) == (0, 10)
    assert compare(repository, first, "main", "one").sources == ()
    assert compare(repository, "main", "main").sources == ()
    with pytest.raises(NotFoundError, match="did you mean `two`"):
        compare(repository, first, "main", "tow")


def test_the_page_is_whole_and_escapes_what_data_says(repository: Any, commit: Commit) -> None:
    from xml.etree import ElementTree as ET

    evil = pl.DataFrame({"id": [1, 2], "<b>": ["<script>alert(1)</script>", "&"], "x": [1.0, None]})
    commit("rides", {"a": evil}, ("id",))
    commit("rides", {"a": evil.with_columns(x=pl.lit(3.0), new=pl.lit("]]>"))}, ("id",))
    page = render_diff(compare(repository, "main~1", "main"))
    ET.fromstring(page.removeprefix("<!DOCTYPE html>\n"))
    assert "<script" not in page
    assert "2 changed" in page
    assert render_diff(compare(repository, "main", "main")).count("No source differs") == 1


FRAMES = st.dictionaries(st.integers(0, 9), st.none() | st.integers(0, 2), max_size=8)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FRAMES, FRAMES)
def test_counts_agree_with_dictionaries(before: dict[int, int], after: dict[int, int]) -> None:
    frames = [
        pl.DataFrame({"k": list(found), "v": list(found.values())}, schema={"k": pl.Int64, "v": pl.Int64})
        for found in (before, after)
    ]
    counted = _Rows(frames[0], frames[1], ("k",), ["k", "v"]).count()
    assert counted == {
        "added": len(after.keys() - before.keys()),
        "removed": len(before.keys() - after.keys()),
        "changed": sum(before[key] != after[key] for key in before.keys() & after.keys()),
    }
