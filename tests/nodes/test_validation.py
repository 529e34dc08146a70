"""The audit of a source: every kind of expectation passes, fails, warns and meets nulls; counts are those of plain Python."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.features.sources import Ingested
from engine.nodes.validation import ValidationFinding, ValidationReport, tell_losses, validate
from engine.spec import Expectation, SourceSpec

START = datetime(2024, 1, 1, tzinfo=UTC)
FRAME = pl.DataFrame(
    {
        "at": [START + timedelta(hours=hour) for hour in range(5)],
        "id": ["a", "b", "c", "d", "e"],
        "shop": ["x", "y", None, "x", "z"],
        "n": [1, 2, None, 4, 4],
        "price": [0.5, -1.0, None, 2.0, 10.0],
        "ok": [True, False, None, True, True],
    },
    schema_overrides={"at": pl.Datetime("us", "UTC")},
)
REFERENCES = {"shops": pl.DataFrame({"shop": ["x", "z", "w", "x", None]})}


def spec(*expect: Expectation, **fields: Any) -> SourceSpec:
    plain: dict[str, Any] = {"key": (), "time": "at", "id": "id", "columns": {}}
    return SourceSpec(kind="csv", params=msgspec.defstruct("Nothing", [])(), expect=expect, **{**plain, **fields})


def finding(
    frame: pl.DataFrame, name: str = "", /, severity: str = "block", source: dict[str, Any] | None = None, **limits: Any
) -> ValidationFinding:
    """What the audit says of one expectation."""
    item = Expectation(column=name or None, severity=severity, doc="why", **limits)  # type: ignore[arg-type]
    report = validate(frame, spec(item, **source or {}), "rows", REFERENCES)
    found = [one for one in report.findings if one.doc == "why"]
    assert len(found) == 1
    return found[0]


CASES: list[tuple[str, dict[str, Any], int]] = [
    ("n", {"not_null": True}, 1),
    ("id", {"not_null": True}, 0),
    ("n", {"max_null_fraction": 0.1}, 1),
    ("n", {"max_null_fraction": 0.2}, 0),
    ("n", {"unique": True}, 2),
    ("shop", {"unique": True}, 2),
    ("id", {"unique": True}, 0),
    ("price", {"minimum": 0}, 1),
    ("price", {"minimum": -1}, 0),
    ("n", {"maximum": 3}, 2),
    ("n", {"maximum": 4}, 0),
    ("shop", {"values": ("x", "y")}, 1),
    ("shop", {"values": ("x", "y", "z")}, 0),
    ("n", {"values": ("1", "2")}, 2),
    ("ok", {"values": ("true", "false")}, 0),
    ("ok", {"values": ("true",)}, 1),
    ("id", {"pattern": "^[a-d]$"}, 1),
    ("shop", {"pattern": "^[xyz]$"}, 0),
    ("", {"expr": "price >= 0"}, 1),
    ("", {"expr": "n < 4 OR ok"}, 0),
    ("", {"expr": "price IS NOT NULL"}, 1),
    ("", {"expr": "EPOCH_SECONDS(at) > 1704067200"}, 1),
    ("shop", {"references": "shops.shop"}, 1),
    ("shop", {"references": "shops.shop", "min_match_fraction": 0.5}, 0),
    ("", {"min_rows": 6}, 1),
    ("", {"min_rows": 5}, 0),
]


@pytest.mark.parametrize("severity", ["block", "warn"])
@pytest.mark.parametrize(("column", "limits", "failed"), CASES)
def test_an_expectation_passes_or_fails(column: str, limits: dict[str, Any], failed: int, severity: str) -> None:
    found = finding(FRAME, column, severity, **limits)
    assert (found.status, found.severity) == ("fail" if failed else "pass", severity)
    if failed:
        assert found.failed == failed
    blocking = ValidationReport(source="rows", rows=5, findings=(found,)).blocking
    assert bool(blocking) == (failed > 0 and severity == "block")


@pytest.mark.parametrize(
    ("column", "limits"),
    [(column, limits) for column, limits, _ in CASES if column and not {"not_null", "max_null_fraction"} & set(limits)],
)
def test_a_null_has_not_failed(column: str, limits: dict[str, Any]) -> None:
    nulls = FRAME.with_columns(pl.lit(None, FRAME.schema[column]).alias(column))
    source = {"id": None, "time": None}
    assert (finding(nulls, column, source=source, **limits).status) == "pass"


@pytest.mark.parametrize(("column", "limits", "failed"), [case for case in CASES if "min_rows" not in case[1]])
def test_no_rows_break_nothing(column: str, limits: dict[str, Any], failed: int) -> None:
    assert finding(FRAME.clear(), column, **limits).status == "pass"


def test_a_value_that_is_no_number_is_not_within_limits() -> None:
    frame = pl.DataFrame({"price": [1.0, math.nan, math.inf, -math.inf]})
    source = {"id": None, "time": None}
    assert finding(frame, "price", source=source, maximum=5).failed >= 1
    assert finding(frame, "price", source=source, minimum=0).failed == 1


def test_failing_rows_are_kept_with_what_names_them() -> None:
    found = finding(FRAME, "price", source={"key": ("shop",)}, minimum=0)
    (row,) = found.samples
    assert (row["id"], row["shop"], row["price"], row["at"][:16]) == ("b", "y", "-1.0", "2024-01-01 01:00")
    assert (found.failed, found.checked, found.column) == (1, 5, "price")
    assert "1 of 5 rows (20.000%)" in found.observed
    assert "e.g." in str(found)
    assert "why" in str(found)


def test_rows_that_break_a_condition_are_kept_with_its_columns() -> None:
    found = finding(FRAME, expr="price >= 0 AND n < 4")
    assert [row["id"] for row in found.samples] == ["b", "d", "e"]
    assert (found.samples[0]["price"], found.samples[0]["n"]) == ("-1.0", "2")


def test_at_most_ten_rows_are_kept_and_none_of_a_pass() -> None:
    frame = pl.DataFrame({"n": range(100)})
    source = {"id": None, "time": None}
    found = finding(frame, "n", source=source, maximum=9)
    assert (found.failed, [row["n"] for row in found.samples]) == (90, [str(n) for n in range(10, 20)])
    assert finding(frame, "n", source=source, maximum=99).samples == ()


def test_what_always_holds() -> None:
    frame = FRAME.with_columns(id=pl.Series(["a", "a", None, "d", "e"]), at=pl.lit(START))
    report = validate(frame, spec(key=("shop",)), "rows", {})
    found = {item.rule: (item.status, item.severity, item.failed) for item in report.findings}
    assert found["shop is the key"] == ("fail", "warn", 1)
    assert found["at is the time"] == ("pass", "warn", 0)
    assert found["id names one row of each version"] == ("fail", "block", 2)
    assert report.rows == 5


def test_an_id_may_come_again_as_a_later_version() -> None:
    frame = FRAME.with_columns(id=pl.lit("a"))
    report = validate(frame, spec(), "rows", {})
    assert report.blocking == ()


def test_losses_on_the_way_in_are_told() -> None:
    ingested = Ingested(FRAME, 7, {"price": 2}, {"n": 3}, {"price": 1})
    report = tell_losses(validate(FRAME, spec(), "rows", {}), ingested, {"n": "i64", "price": "f64"})
    found = {item.rule: (item.severity, item.failed, item.checked) for item in report.findings[:3]}
    assert found == {
        "n is i64": ("block", 3, 7),
        "price is finite": ("warn", 2, 7),
        "price can be quantised": ("warn", 1, 7),
    }
    assert [item.rule for item in report.blocking] == ["n is i64"]


def test_a_report_survives_being_written() -> None:
    report = validate(FRAME, spec(Expectation(column="price", minimum=0)), "rows", {})
    assert msgspec.json.decode(msgspec.json.encode(report), type=ValidationReport) == report


ROWS = st.lists(
    st.tuples(
        st.none() | st.sampled_from(["a", "b", "ab", "B", ""]),
        st.none() | st.integers(-5, 5),
        st.none() | st.floats(-3, 3, allow_nan=False),
    ),
    max_size=12,
)


@given(ROWS, st.integers(-4, 4), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_counts_are_those_of_plain_python(
    rows: list[tuple[str | None, int | None, float | None]], limit: int, share: float
) -> None:
    frame = pl.DataFrame(rows, schema={"s": pl.String, "n": pl.Int64, "x": pl.Float64}, orient="row")
    texts, numbers, floats = ([row[i] for row in rows] for i in range(3))
    held = [text for text in REFERENCES["shops"]["shop"] if text is not None] + ["a"]
    references = {"shops": pl.DataFrame({"shop": held})}
    expected = {
        "n is not null": numbers.count(None),
        f"s is null in at most {share:.2%}": texts.count(None),
        "s is unique": sum(text is not None and texts.count(text) > 1 for text in texts),
        f"n >= {limit:g}": sum(n is not None and n < limit for n in numbers),
        f"x <= {limit:g}": sum(x is not None and x > limit for x in floats),
        "s is one of a, ab": sum(text is not None and text not in {"a", "ab"} for text in texts),
        "s matches ^a": sum(text is not None and not re.search("^a", text) for text in texts),
        f"n > {limit} OR x < 0": sum(
            (n is not None and not n > limit) and (x is not None and not x < 0)
            for n, x in zip(numbers, floats, strict=True)
        ),
        "s is found in shops.shop": sum(text is not None and text not in held for text in texts),
    }
    expect = (
        Expectation(column="n", not_null=True, minimum=limit),
        Expectation(column="s", max_null_fraction=share, unique=True, values=("a", "ab"), pattern="^a"),
        Expectation(column="x", maximum=limit),
        Expectation(expr=f"n > {limit} OR x < 0"),
        Expectation(column="s", references="shops.shop"),
    )
    report = validate(frame, spec(*expect, id=None, time=None), "rows", references)
    assert {item.rule: item.failed for item in report.findings} == expected
    for item in report.findings:
        allowed = share if "null in at most" in item.rule else 0.0
        assert (item.status == "fail") == (len(rows) > 0 and item.failed / len(rows) > allowed)
        assert len(item.samples) == (min(item.failed, 10) if item.status == "fail" else 0)
