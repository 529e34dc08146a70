"""Comparisons of a chunk with a reference: what changed is named first, and broken data is a status."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from engine.watch.compare import Rules, compare
from engine.watch.counting import count_numbers, summarise
from engine.watch.distances import chi_squared
from engine.watch.distinct import codes_of, estimate_distinct, sketch
from engine.watch.profile import decode_profile, encode_profile, merge_profiles, profile_rows
from engine.watch.reference import Reference, build_reference, decode_reference, encode_reference, split_evenly
from engine.watch.sequential import find_trends


def rows(count: int, seed: int) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    numbers = {f"x{index}": random.normal(size=count) for index in range(6)}
    return pl.DataFrame(
        {
            **numbers,
            "whole": random.integers(0, 4, count),
            "colour": random.choice(["red", "green", "blue"], count, p=[0.5, 0.3, 0.2]),
            "city": random.integers(0, 2_000, count).astype(str),
            "flag": random.random(count) < 0.3,
            "id": [f"{seed}-{index}" for index in range(count)],
        }
    )


@pytest.fixture(scope="module")
def reference() -> Reference:
    return build_reference(split_evenly(rows(20_000, 1), 10))


@pytest.fixture(scope="module")
def chunk() -> pl.DataFrame:
    return rows(2_000, 2)


def test_nothing_changed(reference: Reference, chunk: pl.DataFrame) -> None:
    found = compare(reference, profile_rows(chunk, reference.frozen))
    assert found.status == "ok"
    assert not found.alarms


EVERY_TENTH = pl.int_range(pl.len()) % 10 == 0
EVERY_HUNDREDTH = pl.int_range(pl.len()) % 100 == 0


@pytest.mark.parametrize(
    ("change", "column", "component"),
    [
        (pl.col("x0") + 0.25, "x0", "location"),
        (pl.col("x0") * 1.3, "x0", "spread"),
        (pl.when(EVERY_TENTH).then(None).otherwise(pl.col("x1")).alias("x1"), "x1", "nulls"),
        (pl.when(EVERY_TENTH).then(float("nan")).otherwise(pl.col("x1")).alias("x1"), "x1", "not_finite"),
        (pl.when(EVERY_TENTH).then(0.0).otherwise(pl.col("x2")).alias("x2"), "x2", "spike"),
        (pl.when(EVERY_HUNDREDTH).then(50.0).otherwise(pl.col("x2")).alias("x2"), "x2", "range"),
        (
            pl.when(EVERY_HUNDREDTH).then(pl.lit("new")).otherwise(pl.col("colour")).alias("colour"),
            "colour",
            "new_value",
        ),
        (pl.when(EVERY_HUNDREDTH).then(pl.lit("new")).otherwise(pl.col("city")).alias("city"), "city", "new_value"),
        (pl.when(EVERY_TENTH).then(pl.lit("blue")).otherwise(pl.col("colour")).alias("colour"), "colour", "category"),
    ],
)
def test_what_changed_is_the_first_alarm(
    reference: Reference, chunk: pl.DataFrame, change: pl.Expr, column: str, component: str
) -> None:
    found = compare(reference, profile_rows(chunk.with_columns(change), reference.frozen))
    assert found.alarms[0].column == column
    assert component in {part.name for part in found.alarms[0].parts[:3]}
    assert found.alarms[0].words.startswith(f"{column}: ")


def test_correlation_alone(reference: Reference, chunk: pl.DataFrame) -> None:
    mixed = chunk.with_columns(x1=0.4 * pl.col("x0") + 0.9165 * pl.col("x1"))
    found = compare(reference, profile_rows(mixed, reference.frozen))
    assert [item.column for item in found.alarms] == ["x0 with x1"]


def test_an_effect_too_small_to_matter_is_no_alarm_however_sure(reference: Reference) -> None:
    many = rows(200_000, 3).with_columns(pl.col("x0") + 0.06)
    profile = profile_rows(many, reference.frozen)
    quiet = {item.column: item.status for item in compare(reference, profile, Rules(effect=0.1)).columns}
    assert quiet["x0"] == "ok"


BROKEN = {
    "empty": lambda rows: rows[:0],
    "one row": lambda rows: rows[:1],
    "all null": lambda rows: rows.with_columns(pl.lit(None).alias("x0"), pl.lit(None, pl.String).alias("colour")),
    "constant": lambda rows: rows.with_columns(pl.lit(1.0).alias("x0"), pl.lit("red").alias("colour")),
    "infinite": lambda rows: rows.with_columns(pl.lit(float("inf")).alias("x0")),
    "lost": lambda rows: rows.drop("x0", "colour"),
    "new": lambda rows: rows.with_columns(pl.lit(1).alias("extra")),
    "retyped": lambda rows: rows.with_columns(pl.col("x0").cast(pl.String), pl.lit(4).alias("colour")),
    "nested": lambda rows: rows.with_columns(pl.concat_list("x0", "x1").alias("colour")),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_column_never_hides_the_others(reference: Reference, chunk: pl.DataFrame, name: str) -> None:
    broken = BROKEN[name](chunk.with_columns(pl.col("x5") + 0.5))
    profile = profile_rows(broken, reference.frozen)
    found = compare(reference, profile)
    assert {item.column for item in found.columns} == set(chunk.columns)
    if broken.height < 30:
        assert found.status == "insufficient_data"
    else:
        assert "x5" in {item.column for item in found.alarms}
    if name in {"lost", "retyped"}:
        assert [item.status for item in found.columns if item.column == "x0"] == ["broken"]
    assert profile.extra == ({"extra": "i64"} if name == "new" else {})


def test_a_reference_of_few_chunks_gives_sizes_and_no_evidence(chunk: pl.DataFrame) -> None:
    small = build_reference([rows(1_000, 4)])
    found = compare(small, profile_rows(chunk, small.frozen))
    assert found.status == "insufficient_data"
    assert {item.column: item for item in found.columns}["x0"].distances["psi"] < 0.05


@settings(max_examples=25, deadline=None)
@given(cut=st.integers(0, 2_000))
def test_profiles_of_parts_merge_to_the_whole(reference: Reference, chunk: pl.DataFrame, cut: int) -> None:
    whole = profile_rows(chunk, reference.frozen)
    merged = merge_profiles(profile_rows(chunk[:cut], reference.frozen), profile_rows(chunk[cut:], reference.frozen))
    for name, counts in whole.columns.items():
        assert merged.columns[name].cells == counts.cells
        assert merged.columns[name].nulls == counts.nulls
        assert merged.columns[name].unseen == counts.unseen
        assert merged.columns[name].registers == counts.registers
    np.testing.assert_allclose(merged.moments.matrices()[1], whole.moments.matrices()[1], atol=1e-8)


def test_lazy_rows_are_profiled_like_those_in_memory(reference: Reference, chunk: pl.DataFrame, tmp_path) -> None:
    chunk.write_parquet(tmp_path / "chunk.parquet", row_group_size=300)
    streamed = profile_rows(pl.scan_parquet(tmp_path / "chunk.parquet"), reference.frozen, batch=500)
    whole = profile_rows(chunk, reference.frozen)
    assert {name: counts.cells for name, counts in streamed.columns.items()} == {
        name: counts.cells for name, counts in whole.columns.items()
    }


def test_profiles_and_references_come_back_as_they_were(reference: Reference, chunk: pl.DataFrame) -> None:
    profile = profile_rows(chunk, reference.frozen)
    assert decode_profile(encode_profile(profile)) == profile
    assert decode_reference(encode_reference(reference)) == reference
    assert encode_reference(reference) == encode_reference(build_reference(split_evenly(rows(20_000, 1), 10)))


def test_slow_change_is_found_over_several_chunks(reference: Reference) -> None:
    chunks = [rows(500, 10 + index).with_columns(pl.col("x3") + 0.05 * index) for index in range(8)]
    recent = [profile_rows(chunk, reference.frozen) for chunk in chunks]
    best = find_trends(reference, recent)[0]
    assert best.column == "x3"
    assert best.adjusted <= 0.01
    assert best.window > 1


@settings(deadline=None, max_examples=50)
@given(
    edges=st.lists(st.floats(-1e6, 1e6) | st.integers(-5, 5).map(float), min_size=2, max_size=20, unique=True).map(
        sorted
    ),
    more=st.lists(st.floats(-1e7, 1e7), max_size=20),
)
def test_counting_among_sorted_values_is_looking_each_up(edges: list[float], more: list[float]) -> None:
    bounds = np.array(edges)
    close = np.concatenate([np.nextafter(bounds, -np.inf), bounds, np.nextafter(bounds, np.inf), more])
    values = np.resize(close, 120_000)  # several blocks
    places = np.searchsorted(bounds, values, side="left")
    places[values == bounds[0]] = 1
    assert count_numbers(values, edges).tolist() == np.bincount(places, minlength=len(edges) + 1).tolist()


@pytest.mark.parametrize("scale", [1e-42, 1.0, 1e300])
@pytest.mark.parametrize("close", [3, 30])
def test_values_that_round_to_an_edge_lie_where_they_are(close: int, scale: float) -> None:
    rng = np.random.default_rng(close)
    bounds = np.sort(rng.normal(size=40)) * scale
    near = np.concatenate([np.nextafter(bounds[:close], way) for way in (-np.inf, np.inf)] + [bounds[:close]])
    values = rng.permutation(np.concatenate([rng.normal(size=120_000) * scale, np.repeat(near, 50)]))
    places = np.searchsorted(bounds, values, side="left")
    places[values == bounds[0]] = 1
    assert count_numbers(values, bounds.tolist()).tolist() == np.bincount(places, minlength=41).tolist()


def test_what_is_not_finite_is_counted_apart() -> None:
    found = summarise(np.array([np.nan, np.inf, -np.inf, 1.0, 3.0]), (0.0, 2.0))
    assert (found.nans, found.infinite, found.counts.tolist()) == (1, 2, [0, 1, 1])


@pytest.mark.parametrize("edges", [(0.0, 2.0), (0.1, 2.1), (1e-50, 2.1), (-1e300, 2.1), ()])
def test_what_is_far_or_not_finite_is_counted_whatever_the_edges(edges: tuple[float, ...]) -> None:
    values = np.array([np.nan, np.inf, -np.inf, 1.0, 3.0, 1e-49, 1e200, -1e301, -np.inf])
    found = summarise(values, edges)
    finite = values[np.isfinite(values)]
    assert (found.nans, found.infinite, int(found.counts.sum())) == (1, 3, len(finite))
    assert found.counts.tolist()[:1] == [sum(value < edge for value in finite for edge in edges[:1])]
    assert found.counts.tolist()[-1] == sum(not edges or value > edges[-1] for value in finite)


def test_chi_squared_is_that_of_scipy() -> None:
    before, now = np.array([90.0, 60.0, 104.0, 95.0]), np.array([30.0, 50.0, 51.0, 20.0])
    assert chi_squared(before, now) == pytest.approx(
        stats.chi2_contingency([before, now], correction=False)[0], abs=1e-9
    )


@pytest.mark.parametrize("count", [30, 1_000, 20_000, 50_000])
@pytest.mark.parametrize("form", ["{}", "user-{:09}", "{:020b}", "{}@example.com"])
def test_distinct_values_are_estimated(form: str, count: int) -> None:
    codes = codes_of([form.format(index) for index in range(count)])
    assert estimate_distinct(sketch(codes)) == pytest.approx(count, rel=0.1)
    halves = np.maximum(sketch(codes[: count // 2]), sketch(codes[count // 3 :]))
    assert halves.tolist() == sketch(codes).tolist()


@pytest.mark.parametrize(
    ("change", "column"),
    [
        (
            pl.Series("city", np.random.default_rng(1).integers(0, 900, 2_000).astype(str)),
            "city",
        ),  # 2,000 values to 900
        (pl.Series("id", [f"2-{index // 3}" for index in range(2_000)]), "id"),  # every id three times
    ],
)
def test_a_changed_number_of_distinct_values(reference: Reference, chunk: pl.DataFrame, change, column: str) -> None:
    found = compare(reference, profile_rows(chunk.with_columns(change), reference.frozen))
    entry = {item.column: item for item in found.columns}[column]
    assert entry.status == "alarm"
    assert "cardinality" in {part.name for part in entry.parts if part.tail < 0.001}


@pytest.mark.parametrize("count", [5_000, 60_000])
def test_identifiers_of_chunks_of_any_size_are_no_surprise(count: int) -> None:
    def ids(first: int, size: int) -> pl.DataFrame:
        return pl.DataFrame({"id": [f"u{index}" for index in range(first, first + size)]})

    reference = build_reference([ids(5_000 * part, 5_000) for part in range(10)])
    chunk = ids(1_000_000, count)
    whole = profile_rows(chunk, reference.frozen)
    assert not compare(reference, whole).alarms
    parts = [profile_rows(part, reference.frozen) for part in (chunk[: count // 3], chunk[count // 3 :])]
    assert merge_profiles(*parts).columns == whole.columns == profile_rows(chunk.lazy(), reference.frozen).columns


def test_distinct_values_of_larger_chunks_are_no_surprise(reference: Reference) -> None:
    for count in (500, 8_000):
        found = compare(reference, profile_rows(rows(count, 5), reference.frozen))
        parts = {item.column: {part.name: part for part in item.parts} for item in found.columns}
        assert all(part["cardinality"].tail > 0.001 for part in parts.values() if "cardinality" in part)
