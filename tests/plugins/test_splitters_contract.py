"""Every splitter goes through every check of its kind; then what each promises of time, and of ids."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.components import load_catalogue
from engine.errors import DataError

CATALOGUE = load_catalogue(Path(__file__).resolve().parents[2], ("splits",))
KINDS = CATALOGUE.names("splitter")
START = datetime(2020, 1, 1, tzinfo=UTC)
PARTS = {"train", "validation", "test", "unused"}


NEEDED = {"group": {"by": "city"}, "rolling_origin": {"horizon": "2d", "validation": "2d"}}
SHARES = ("time_forward", "random", "group", "stratified")


def build(kind, **params):
    params = NEEDED.get(kind, {}) | params
    component = CATALOGUE.get("splitter", kind)
    return component.build(msgspec.convert(params, component.params))


def rows(hours, delays=None):
    times = [None if hour is None else START + timedelta(hours=hour) for hour in hours]
    delays = delays if delays is not None else [1] * len(hours)
    known = [
        None if time is None or delay is None else time + timedelta(hours=delay)
        for time, delay in zip(times, delays, strict=True)
    ]
    return pl.DataFrame(
        {
            "row_id": [f"r{i}" for i in range(len(hours))],
            "event_time": times,
            "label_known_at": known,
            "city": [f"c{i % 7}" for i in range(len(hours))],
            "label": [i % 10 == 0 for i in range(len(hours))],
        },
        schema_overrides={"event_time": pl.Datetime("us", "UTC"), "label_known_at": pl.Datetime("us", "UTC")},
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_for_each_row_in_order_whatever_the_order(kind):
    table = rows(range(500))
    part = build(kind).split(table, 3)
    assert len(part) == 500
    assert part.dtype == pl.String
    assert set(part) <= PARTS
    assert {"train", "validation", "test"} <= set(part)
    assert part.equals(build(kind).split(table, 3))
    shuffled = table.with_columns(part=part).sample(fraction=1.0, shuffle=True, seed=1)
    again = build(kind).split(shuffled.drop("part"), 3)
    assert again.to_list() == shuffled["part"].to_list()


@pytest.mark.parametrize("kind", KINDS)
def test_empty_parts_are_told(kind):
    for table in (rows([]), rows([0])):
        with pytest.raises(DataError) as caught:
            build(kind).split(table, 0)
        assert caught.value.hint


@pytest.mark.parametrize("kind", SHARES)
@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"test": 0}, "without test rows"),
        ({"validation": 0.6, "test": 0.5}, "no rows to train on"),
        ({"test": 1.0}, "< 1.0"),
        ({"tests": 0.1}, "unknown field"),
    ],
)
def test_parameters_are_checked(kind, params, words):
    with pytest.raises(msgspec.ValidationError, match=words):
        build(kind, **params)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"train_until": "2020-13-01"}, "`train_until`: '2020-13-01' is not a moment"),
        ({"train_until": "2020-02-01", "test": 0.2}, "not both"),
        ({"validation_until": "2020-02-01"}, "`train_until` is missing"),
        ({"train_until": "2020-02-01", "validation_until": "2020-02-01"}, "must rise"),
        ({"train_until": "2020-02-01", "test_until": "2020-01-01"}, "must rise"),
        ({"embargo": "3 days"}, "embargo"),
    ],
)
def test_moments_are_checked(params, words):
    with pytest.raises(msgspec.ValidationError, match=words):
        build("time_forward", **params)


def test_boundaries_belong_to_the_later_part():
    splitter = build(
        "time_forward",
        train_until="2020-01-01T04:00:00Z",
        validation_until="2020-01-01T08:00:00+02:00",
        test_until="2020-01-01T09:00:00",
    )
    part = splitter.split(rows(range(11), [0] * 11), 0).to_list()
    assert part == ["train"] * 4 + ["validation"] * 2 + ["test"] * 3 + ["unused"] * 2


def test_without_a_validation_the_test_follows_the_training():
    part = build("time_forward", train_until="2020-01-01T04:00:00Z").split(rows(range(8), [0] * 8), 0).to_list()
    assert part == ["train"] * 4 + ["test"] * 4


def test_labels_must_be_known_when_they_are_used():
    """A label known exactly at the boundary may be used; one an hour later may not. Test labels may come at any time."""
    splitter = build("time_forward", train_until="2020-01-01T04:00:00Z", validation_until="2020-01-01T08:00:00Z")
    part = splitter.split(rows(range(12), [0, 3, 3, 0, 0, 3, 3, 0, 0, 0, 99, None]), 0).to_list()
    assert part == [
        "train",
        "train",
        "unused",
        "train",
        "validation",
        "validation",
        "unused",
        "validation",
        "test",
        "test",
        "test",
        "unused",
    ]


def test_embargo_leaves_out_the_end_of_the_earlier_part():
    splitter = build(
        "time_forward", train_until="2020-01-01T04:00:00Z", validation_until="2020-01-01T08:00:00Z", embargo="2h"
    )
    part = splitter.split(rows(range(10), [0] * 10), 0).to_list()
    assert part == ["train"] * 2 + ["unused"] * 2 + ["validation"] * 2 + ["unused"] * 2 + ["test"] * 2


def test_shares_are_shares_and_equal_times_stay_together():
    part = build("time_forward", validation=0.15, test=0.2).split(rows(range(100), [0] * 100), 0).to_list()
    assert [part.count(name) for name in ("train", "validation", "test")] == [65, 15, 20]
    assert part == ["train"] * 65 + ["validation"] * 15 + ["test"] * 20
    tied = rows([i // 30 for i in range(120)], [0] * 120)
    assigned = tied.with_columns(part=build("time_forward", validation=0.25, test=0.25).split(tied, 0))
    assert assigned.group_by("event_time").agg(pl.col("part").n_unique())["part"].max() == 1


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 200), st.one_of(st.none(), st.integers(0, 100))), min_size=5, max_size=80),
    st.integers(20, 90), st.one_of(st.none(), st.integers(95, 150)), st.sampled_from(["0s", "1h", "1d"]),
)  # fmt: skip
def test_no_part_ever_sees_its_future(items, first, second, embargo):
    table = rows([hour for hour, _ in items], [delay for _, delay in items])
    params = {"train_until": (START + timedelta(hours=first)).isoformat(), "embargo": embargo}
    if second is not None:
        params["validation_until"] = (START + timedelta(hours=second)).isoformat()
    try:
        part = build("time_forward", **params).split(table, 0)
    except DataError:  # a part would be empty
        return
    table = table.with_columns(part=part)
    train, validation, test = (table.filter(pl.col("part") == name) for name in ("train", "validation", "test"))
    train_end = START + timedelta(hours=first)
    test_start = START + timedelta(hours=first if second is None else second)
    assert train["event_time"].max() < train_end
    assert train["label_known_at"].max() <= train_end
    assert test["event_time"].min() >= test_start
    if validation.height:
        assert train_end <= validation["event_time"].min() <= validation["event_time"].max() < test_start
        assert validation["label_known_at"].max() <= test_start
    lost = table.filter((pl.col("part") == "unused") & (pl.col("event_time") >= test_start))
    assert lost["label_known_at"].null_count() == lost.height


def test_a_table_without_times_is_refused():
    with pytest.raises(DataError, match="no timestamp column `label_known_at`"):
        build("time_forward").split(rows(range(10)).drop("label_known_at"), 0)
    with pytest.raises(DataError, match="no row has an event time"):
        build("time_forward").split(rows([None] * 5), 0)


def test_random_keeps_ids_together_and_in_place():
    table = rows(range(3000))
    part = build("random").split(table, 0)
    counts = {name: (part == name).sum() / 3000 for name in PARTS}
    assert counts == pytest.approx({"train": 0.65, "validation": 0.15, "test": 0.2, "unused": 0}, abs=0.03)
    some = table.filter(pl.col("row_id").str.ends_with("7"))
    assert build("random").split(some, 0).to_list() == part.filter(table["row_id"].str.ends_with("7")).to_list()
    assert not part.equals(build("random").split(table, 1))
    assert not part.equals(build("random", salt="x").split(table, 0))
    grouped = table.with_columns(part=build("random", by="city", validation=0.3, test=0.3).split(table, 5))
    assert grouped.group_by("city").agg(pl.col("part").n_unique())["part"].max() == 1


def test_random_refuses_unknown_columns_and_nulls():
    table = rows(range(50))
    with pytest.raises(DataError, match="no column `town`") as caught:
        build("random", by="town").split(table, 0)
    assert "city" in caught.value.hint
    with pytest.raises(DataError, match="50 rows have no `city`"):
        build("random", by="city").split(table.with_columns(city=pl.lit(None, pl.String)), 0)


def test_strata_have_the_same_shares():
    table = rows(range(1000))
    counts = table.with_columns(part=build("stratified").split(table, 1)).group_by("label", "part").len()
    found = {(label, part): n for label, part, n in counts.iter_rows()}
    assert found == {
        (True, "test"): 20, (True, "validation"): 15, (True, "train"): 65,
        (False, "test"): 180, (False, "validation"): 135, (False, "train"): 585,
    }  # fmt: skip


def test_a_group_stays_together():
    table = rows(range(500))
    assert (
        table.with_columns(part=build("group").split(table, 1))
        .group_by("city")
        .agg(pl.col("part").n_unique())["part"]
        .max()
        == 1
    )


def test_an_origin_rolls_back():
    table = rows(range(100), [0] * 100)
    splitter = build("rolling_origin", horizon="10h", validation="10h", window="20h", back=2)
    part = splitter.split(table, 0).to_list()
    assert part == ["unused"] * 40 + ["train"] * 20 + ["validation"] * 10 + ["test"] * 10 + ["unused"] * 20


def test_purged_rows_do_not_touch_the_test():
    table = rows(range(100), [5] * 100)
    part = build("purged", folds=5, fold=2, embargo="3h").split(table, 0).to_list()
    assert part[40:60] == ["test"] * 20
    # The labels of 36 to 39 are known within the test; those of 16 to 19 within the validation.
    assert part[20:40] == ["validation"] * 16 + ["unused"] * 4
    assert part[:20] == ["train"] * 16 + ["unused"] * 4
    assert part[60:] == ["unused"] * 3 + ["train"] * 37
