"""Expectations beyond single values: order, the clock, the last good snapshot; and what each severity does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from engine.errors import ConfigError, DataError
from engine.features.source_compiler import compile_source
from engine.nodes.expectations import LastGood, Surroundings
from engine.nodes.validation import ValidationReport, audit
from engine.spec import DistributionLimit, Expectation, SourceSpec

Bench = Any  # see conftest.py
NOW = datetime(2024, 6, 1, tzinfo=UTC)


def spec(*expect: Expectation, **said: Any) -> SourceSpec:
    columns = {"x": "f64", "word": "str", "at": "timestamp", "n": "i64"}
    return SourceSpec(
        kind="csv", params=Expectation(), columns=columns, key=("word",), time="at", expect=expect, **said
    )


def frame(count: int = 3, shift: float = 0.0, seed: int = 1) -> pl.DataFrame:
    draw = np.random.default_rng(seed)
    times = [NOW - timedelta(hours=count - index) for index in range(count)]
    return pl.DataFrame({
        "x": draw.lognormal(0, 1, count) + shift, "word": draw.choice(["a", "b", "c"], count), "at": times, "n": range(count),
    }, schema_overrides={"at": pl.Datetime("us", "UTC")})  # fmt: skip


def judged(item: Expectation, rows: pl.DataFrame, before: pl.DataFrame | None = None) -> tuple[str, str]:
    """Give status and words of the one finding that is not built in."""
    last = LastGood(before.height, before.lazy) if before is not None else None
    report: ValidationReport = audit(rows, spec(item), "s", Surroundings(last_good=last, now=NOW)).report
    found = report.findings[-1]
    return found.status, found.observed


def test_times_that_go_back_are_found_over_nulls_too() -> None:
    rows = frame(4).with_columns(
        at=pl.Series([NOW, None, NOW - timedelta(hours=1), NOW], dtype=pl.Datetime("us", "UTC"))
    )
    assert judged(Expectation(column="at", increasing=True), rows)[0] == "fail"
    assert judged(Expectation(column="at", increasing=True), frame(4))[0] == "pass"


def test_times_in_the_future() -> None:
    late = frame(3).with_columns(at=pl.Series([NOW, NOW, NOW + timedelta(seconds=1)], dtype=pl.Datetime("us", "UTC")))
    assert judged(Expectation(column="at", past=True), late) == ("fail", "1 of 3 rows (33.333%)")
    assert judged(Expectation(column="at", past=True), frame(3))[0] == "pass"


def test_freshness_names_the_newest_row_and_its_age_when_it_is_too_old() -> None:
    assert judged(Expectation(freshness="1h"), frame(3)) == ("pass", "newest 2024-05-31T23:00:00.000000Z")
    assert judged(Expectation(freshness="59m"), frame(3)) == ("fail", "newest 2024-05-31T23:00:00.000000Z, 1:00:00 ago")
    assert (
        judged(Expectation(freshness="1h"), frame(3).with_columns(at=pl.lit(None, pl.Datetime("us", "UTC"))))[0]
        == "fail"
    )


@pytest.mark.parametrize(
    ("item", "rows", "status"),
    [
        (Expectation(max_row_loss=0.1), 90, "pass"),
        (Expectation(max_row_loss=0.1), 89, "fail"),
        (Expectation(max_row_loss=0.1), 1000, "pass"),
        (Expectation(max_row_gain=0.5), 150, "pass"),
        (Expectation(max_row_gain=0.5), 151, "fail"),
        (Expectation(max_row_gain=0.5), 1, "pass"),
    ],
)
def test_rows_lost_and_gained(item: Expectation, rows: int, status: str) -> None:
    assert judged(item, frame(rows), frame(100))[0] == status
    assert judged(item, frame(rows)) == ("pass", "nothing to compare with: this is the first snapshot")


@pytest.mark.parametrize("measure", ["psi", "ks"])
def test_a_distribution_that_moves_is_found_and_one_that_does_not_is_left_alone(measure: str) -> None:
    """At 5,000 rows a side, chance alone gives a PSI of 0.004 +- 0.002 and a KS distance below 0.04 (p < 1e-3)."""
    item = Expectation(column="x", distribution=DistributionLimit(measure=measure, threshold=0.05))  # type: ignore[arg-type]
    before = frame(5000)
    for seed in range(2, 12):
        assert judged(item, frame(5000, seed=seed), before)[0] == "pass"
    assert judged(item, frame(5000, shift=0.3, seed=2), before)[0] == "fail"
    nulls = frame(5000, seed=2).with_columns(x=pl.when(pl.col("n") % 5 > 0).then("x"))
    assert judged(item, nulls, before)[0] == ("fail" if measure == "psi" else "pass")


def test_new_words_move_a_distribution_and_few_rows_say_nothing() -> None:
    item = Expectation(column="word", distribution=DistributionLimit(threshold=0.1))
    before, now = frame(2000), frame(2000, seed=2)
    assert judged(item, now, before)[0] == "pass"
    assert judged(item, now.with_columns(word=pl.lit("new")), before)[0] == "fail"
    assert judged(item, now.head(900), before) == ("pass", "900 rows are too few to say (1,000 are needed)")
    assert judged(item, now, before.drop("word")) == ("pass", "the last good snapshot has no column word")


def test_rows_set_aside_are_those_of_any_expectation_that_says_so() -> None:
    aside = [
        Expectation(column="n", maximum=7, severity="quarantine"),
        Expectation(expr="n <> 2", severity="quarantine"),
        Expectation(column="n", minimum=1, severity="warn"),
    ]
    found = audit(frame(10), spec(*aside), "s", Surroundings())
    assert found.aside is not None
    assert frame(10).filter(found.aside)["n"].to_list() == [2, 8, 9]
    assert (found.report.set_aside, len(found.report.quarantining), found.report.blocking) == (3, 2, ())
    assert audit(frame(2), spec(*aside), "s", Surroundings()).aside is None


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (Expectation(column="x"), "expects nothing"),
        (Expectation(minimum=1), "is about a column"),
        (Expectation(column="word", minimum=1), "`word` is str; allowed here: i64, f64"),
        (Expectation(column="word", past=True), "`word` is str; allowed here: timestamp"),
        (Expectation(column="x", freshness="1d"), "is about the event time"),
        (Expectation(min_rows=3, severity="quarantine"), "`min_rows` is about the whole"),
        (Expectation(column="x", distribution=DistributionLimit(), severity="quarantine"), "no row can be set aside"),
        (Expectation(column="word", distribution=DistributionLimit(measure="ks")), "`ks` is for numbers and times"),
        (Expectation(column="wrod", not_null=True), "did you mean `word`"),
    ],
)  # fmt: skip
def test_what_cannot_be_checked_is_a_mistake_of_the_declaration(item: Expectation, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compile_source("s", spec(item))
    assert words in str(caught.value)
    assert "sources.s.expect.0" in str(caught.value)


def test_reading_in_parts_needs_partitions_of_time() -> None:
    with pytest.raises(ConfigError, match="written in partitions of time"):
        compile_source("s", spec(incremental=True))


ROWS = "id,who,x,at\n" + "".join(
    f"{n},w{n % 3},{n % 17},2024-01-01T{n // 60:02d}:{n % 60:02d}:00Z\n" for n in range(1200)
)
SOURCE = {
    "columns": {"id": "str", "who": "str", "x": "f64", "at": "timestamp"},
    "key": ["who"],
    "time": "at",
    "id": "id",
}


def test_an_ingestion_is_compared_with_the_last_good_one(bench: Bench) -> None:
    expect = [{"column": "x", "distribution": {"threshold": 0.1}}, {"max_row_loss": 0.05, "severity": "warn"}]
    bench.declare("s", **SOURCE, expect=expect)
    bench.write("s.csv", ROWS)
    assert bench.ingest("s").failed == {}
    bench.write("s.csv", ROWS.replace(",1", ",9"))
    with pytest.raises(DataError, match="x is distributed as before"):
        bench.ingest("s")
    bench.write("s.csv", "\n".join(ROWS.splitlines()[:1002]) + "\n")
    done = bench.ingest("s")
    assert {rule: item["observed"] for rule, item in done.failed.items()} == {
        "loses at most 5.0% of its rows": "1,200 -> 1,001 rows (-16.6%)"
    }


def test_freshness_is_judged_even_when_nothing_is_read(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    import engine.nodes.ingest as body
    from engine.clock import FixedClock

    bench.declare("s", **SOURCE, expect=[{"freshness": "2d"}])
    bench.write("s.csv", ROWS)
    monkeypatch.setattr(body, "SystemClock", lambda: FixedClock(datetime(2024, 1, 2, tzinfo=UTC)))
    first = bench.ingest("s")
    assert bench.ingest("s").validation == first.validation
    monkeypatch.setattr(body, "SystemClock", lambda: FixedClock(datetime(2024, 1, 5, tzinfo=UTC)))
    with pytest.raises(
        DataError, match=r"the newest row is at most 2d old: newest 2024-01-01T19:59:00\.000000Z, 3 days"
    ):
        bench.ingest("s")


def test_values_of_the_wrong_type_are_shown_with_their_rows(bench: Bench) -> None:
    bench.declare("s", **SOURCE)
    bench.write("s.csv", ROWS.replace("2024-01-01T00:05:00Z", "yesterday"))
    with pytest.raises(DataError, match=r"at is timestamp: 1 of 1,200 values became null, e\.g\. row=6, at=yesterday"):
        bench.ingest("s")


def test_references_to_another_source(bench: Bench) -> None:
    bench.declare("people", columns={"who": "str"}, key=["who"], static=True)
    bench.write("people.csv", "who\nw0\nw1\n")
    bench.declare("s", **SOURCE, expect=[{"column": "who", "references": "people.who", "severity": "quarantine"}])
    bench.write("s.csv", ROWS)
    done = bench.ingest("s", {"people": bench.artefact("people")})
    assert (done.source["rows"], done.notes["set_aside"]) == (800, 400)
