"""Compiling: every mistake has its path and its advice; a good program is plain JSON, made without a data library."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import msgspec
import pytest

from engine.errors import ConfigError, IntegrityError, Problem
from engine.features.describe import describe
from engine.features.expression import ExpressionError, canonical, check, columns_of, parse, render
from engine.features.program import CompileResult, FeatureProgram, SourceProgram, compile_program, compile_source
from engine.keys import canonical_json
from engine.plan.columns import choose_columns
from engine.spec import (
    Available,
    EncodedFeature,
    Expectation,
    ExpressionFeature,
    LabelSpec,
    LookupFeature,
    PipelineSpec,
    SourceSpec,
    SpineSpec,
    SplitSpec,
    TrainSpec,
    WindowFeature,
)


class File(msgspec.Struct, frozen=True):
    path: str = "txns.csv"


def txns(**changes: Any) -> SourceSpec:
    spec = SourceSpec(
        kind="csv",
        params=File(),
        columns={
            "user": "i64",
            "ts": "timestamp",
            "txn": "str",
            "amt": "f64",
            "n": "i64",
            "country": "str",
            "fraud": "i64",
            "seen": "timestamp",
        },
        derive={"doubled": "half * 4", "half": "amt / 2", "guilty": "fraud > 0"},
        key=("user",),
        time="ts",
        id="txn",
        available=Available(column="seen"),
        decimals={"amt": 2},
    )
    return msgspec.structs.replace(spec, **changes)


USERS = SourceSpec(
    kind="csv",
    params=File("users.csv"),
    columns={"user": "i64", "tier": "str", "born": "timestamp"},
    key=("user",),
    static=True,
)
SPINE = SpineSpec(source="txns", request={"user": "i64", "amt": "f64", "country": "str"})
LABEL = LabelSpec(source="txns", expr="fraud > 0", maturity="30d")
GOOD: dict[str, Any] = {
    "amt_{agg}_{window}": WindowFeature(
        source="txns", of="amt", agg=("mean", "sum"), window=("7d", "30d"), where="n > 0"
    ),
    "ratio": ExpressionFeature(expr="amt / amt_mean_7d", default=1),
    "tier": LookupFeature(lookup="users.tier", default="none"),
    "rank": ExpressionFeature(expr="CASE tier WHEN 'gold' THEN 2 ELSE 1 END"),
    "country_ix": EncodedFeature(encode="country"),
    "tier_ix": EncodedFeature(encode="tier", encoder="frequency"),
}


def compiled(features: dict[str, Any] | None = None, **changes: Any) -> CompileResult:
    sources = changes.get("sources", {"txns": txns(), "users": USERS})
    return compile_program(
        GOOD if features is None else features, changes.get("spine", SPINE), changes.get("label", LABEL), sources
    )


def problems(features: dict[str, Any] | None = None, **changes: Any) -> dict[str, Problem]:
    with pytest.raises(ConfigError) as caught:
        compiled(features, **changes)
    return {problem.path: problem for problem in caught.value.problems}


def test_a_good_program() -> None:
    result = compiled()
    program = result.program
    assert program.feature_names == (
        "amt_mean_7d",
        "amt_mean_30d",
        "amt_sum_7d",
        "amt_sum_30d",
        "ratio",
        "tier",
        "rank",
        "country_ix",
        "tier_ix",
    )
    assert program.computed_names == program.feature_names[:7]
    assert program.encoded_names == ("country_ix", "tier_ix")
    assert dict(program.output_types)["ratio"] == "f64"
    assert dict(program.output_types)["rank"] == "i64"
    assert program.source_names == ("txns", "users")
    assert program.feature_sources == ("txns", "users")
    assert program.source_columns("users") == ("user", "tier")
    assert set(program.source_columns("txns")) == {"user", "ts", "txn", "amt", "n", "country", "fraud", "seen"}
    assert program.columns_behind(("country_ix", "ratio", "tier_ix")) == ("country", "ratio", "tier")
    assert [step.name for step in result.sources["txns"].derive] == ["half", "guilty", "doubled"]
    assert program.by_name["amt_sum_7d"].decimals == 2  # type: ignore[union-attr]
    order = [step.name for step in program.steps]
    assert order.index("amt_mean_7d") < order.index("ratio")


def test_json_and_digest() -> None:
    result = compiled()
    document = json.loads(canonical_json(result.program.to_json()))
    assert FeatureProgram.from_json(document) == result.program
    assert FeatureProgram.from_json(document).digest == result.program.digest
    for source in result.sources.values():
        assert SourceProgram.from_json(json.loads(canonical_json(source.to_json()))) == source
    with pytest.raises(IntegrityError, match="version 99"):
        FeatureProgram.from_json({**document, "version": 99})
    with pytest.raises(IntegrityError, match="not a feature program"):
        FeatureProgram.from_json({**document, "steps": [{"step": "formula"}]})


def test_the_digest_ignores_prose_and_white_space_and_sees_meaning() -> None:
    base = compiled().program.digest
    ratio = ExpressionFeature(expr="amt   /\n amt_mean_7d", default=1.0, doc="another", owner="x", tags=("t",))
    assert compiled({**GOOD, "ratio": ratio}).program.digest == base
    rank = ExpressionFeature(expr="case tier when 'gold' then 2 else 1 end")
    assert compiled({**GOOD, "rank": rank}).program.digest == base
    for changed in ("amt / amt_mean_30d", "amt / amt_mean_7d + 0"):
        assert compiled({**GOOD, "ratio": ExpressionFeature(expr=changed, default=1)}).program.digest != base
    assert compiled(label=None).program.digest != base


def test_compiling_imports_no_data_library() -> None:
    code = (
        "import sys; from engine.features.program import compile_program;"
        "from engine.features.describe import describe;"
        "from engine.features.expression import parse, check;"
        "check(parse('a + HOUR(t)'), {'a': 'i64', 't': 'timestamp'});"
        "print(sorted(set(sys.modules) & {'polars', 'numpy', 'pandas', 'sqlglot', 'scipy', 'zoneinfo', 'difflib'}))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"


def test_all_problems_at_once_with_paths_and_advice() -> None:
    features: dict[str, Any] = {
        "a": ExpressionFeature(expr="b + 1"),
        "b": ExpressionFeature(expr="c + 1"),
        "c": ExpressionFeature(expr="a + 1"),
        "needs_cycle": ExpressionFeature(expr="a * 2"),
        "leak": ExpressionFeature(expr="fraud + 1"),
        "typo": ExpressionFeature(expr="contry = 'NL'"),
        "wrong": ExpressionFeature(expr="country + 1"),
        "read_code": ExpressionFeature(expr="country_code + 1"),
        "country_code": EncodedFeature(encode="country"),
        "coded_amt": EncodedFeature(encode="amt"),
        "agg": ExpressionFeature(expr="SUM(amt)"),
        "many": WindowFeature(source="txns", of="n", agg=("sum", "mean"), window="7d"),
        "float_{agg}": WindowFeature(source="txns", of="amt * 2", agg="mean", window="7d"),
        "static": WindowFeature(source="users", agg="count", window="7d"),
        "nothing": WindowFeature(source="txns", agg="sum", window="7d"),
        "text": WindowFeature(source="txns", of="country", agg="sum", window="7d"),
        "by": WindowFeature(source="txns", agg="count", by="cuntry", window="7d"),
        "where": WindowFeature(source="txns", agg="count", where="n", window="7d"),
        "zero": WindowFeature(source="txns", agg="count", window="0s"),
        "source": LookupFeature(lookup="userz.tier"),
        "column": LookupFeature(lookup="users.teir"),
        "age": LookupFeature(lookup="users.tier", max_age="1d"),
        "on": LookupFeature(lookup="users.tier", on={"user": "country"}),
        "default": LookupFeature(lookup="users.tier", default=3),
        "event_time": ExpressionFeature(expr="1"),
        "amt": ExpressionFeature(expr="1"),
        "bad-name": ExpressionFeature(expr="1"),
        "x_{agg}": ExpressionFeature(expr="1"),
        "y_{what}": WindowFeature(source="txns", agg="count", window="7d"),
    }
    found = problems(features)
    assert "a -> b -> c -> a" in found["features.a"].message
    assert "features.needs_cycle.expr" not in found
    assert (
        found["features.leak.expr"].message
        == "`fraud` is not known when the prediction is made: it is not in spine.request"
    )
    assert found["features.typo.expr"].suggestion == "country"
    assert "at character 1" in found["features.typo.expr"].message
    assert found["features.typo.expr"].value == "contry = 'NL'"
    assert "takes numbers" in found["features.wrong.expr"].message
    assert "encoded after" in found["features.read_code.expr"].message
    assert "`vocab` takes" in found["features.coded_amt.encode"].message
    assert "aggregate" in found["features.agg.expr"].message
    assert "{agg}" in found["features.many"].message
    assert "decimals" in found["features.float_{agg}.decimals"].message
    assert "static" in found["features.static.from"].message
    assert "needs `of`" in found["features.nothing.of"].message
    assert "needs numbers" in found["features.text.of"].message
    assert found["features.by.by"].suggestion == "country"
    assert "condition" in found["features.where.where"].message
    assert "no length" in found["features.zero.window"].message
    assert found["features.source.lookup"].suggestion == "users"
    assert found["features.column.lookup"].suggestion == "tier"
    assert "no age" in found["features.age.max_age"].message
    assert "cannot join" in found["features.on.on.user"].message
    assert "must be str" in found["features.default.default"].message
    for path in ("features.event_time", "features.amt", "features.bad-name", "features.x_{agg}", "features.y_{what}"):
        assert path in found
    assert len(found) == 25


@pytest.mark.parametrize(
    ("field", "kind"),
    [("fraud", "i64"), ("guilty", "bool")],
)
def test_a_request_field_that_the_label_reads_leaks(field: str, kind: str) -> None:
    spine = SpineSpec(source="txns", request={**SPINE.request, field: kind})
    assert "the label leaks" in problems(spine=spine)[f"spine.request.{field}"].message
    other = {"txns": txns(), "users": USERS, "outcomes": txns()}
    label = LabelSpec(source="outcomes", expr="fraud > 0")
    assert "the label leaks" in problems(spine=spine, label=label, sources=other)[f"spine.request.{field}"].message


def test_a_feature_of_the_label_source_is_allowed() -> None:
    features = {"past": WindowFeature(source="txns", of="fraud", agg="mean", window="90d")}
    assert compiled(features).program.feature_names == ("past",)


def test_spine_and_label_problems() -> None:
    spine = SpineSpec(source="txns", request={"user": "str", "nope": "i64", "event_time": "timestamp"}, where="amt")
    found = problems({}, spine=spine, label=LabelSpec(source="users", expr="teir", on={"who": "user"}))
    assert {
        "spine.request.user",
        "spine.request.nope",
        "spine.request.event_time",
        "spine.where",
        "label.from",
        "label.expr",
    } <= found.keys()
    assert "has no time" in problems({}, spine=SpineSpec(source="users", request={}))["spine.source"].message
    assert found["label.expr"].suggestion == "tier"
    assert "label is a number" in problems(label=LabelSpec(source="txns", expr="seen"))["label.expr"].message
    assert "label.on.who" in problems(label=LabelSpec(source="txns", expr="fraud", on={"who": "user"}))
    assert "sources.txns.id" in problems(sources={"txns": txns(id=None), "users": USERS})


@pytest.mark.parametrize("task", ["binary", "regression", "quantile", "ranking", "multiclass"])
def test_a_text_is_a_label_of_several_classes_only(task: Any) -> None:
    spine = SpineSpec(source="txns", request={"user": "i64", "amt": "f64"})
    label = LabelSpec(source="txns", expr="country")
    program = compiled({"amount": ExpressionFeature(expr="amt")}, label=label, spine=spine).program
    train = TrainSpec(kind="linear", params=File(), task=task)
    if task == "multiclass":
        assert choose_columns(program, train) == ("amount",)
        return
    with pytest.raises(ConfigError, match="needs a number") as caught:
        choose_columns(program, train)
    assert [problem.path for problem in caught.value.problems] == ["label.expr"]


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"time": None}, "time"),
        ({"time": "when"}, "time"),
        ({"time": "amt"}, "time"),
        ({"id": "amt"}, "id"),
        ({"key": ("usr",)}, "key.0"),
        ({"key": ("amt",)}, "key.0"),
        ({"static": True}, "static"),
        ({"available": Available(column="n")}, "available.column"),
        ({"available": Available(column="seen", delay="1d")}, "available"),
        ({"decimals": {"n": 2}}, "decimals.n"),
        ({"where": "amt + 1"}, "where"),
        ({"derive": {"a": "b", "b": "a"}}, "derive.a"),
        ({"derive": {"amt": "n"}}, "derive.amt"),
        ({"derive": {"x": "amtt"}}, "derive.x"),
        ({"expect": (Expectation(column="zzz"),)}, "expect.0.column"),
        ({"expect": (Expectation(expr="amt"),)}, "expect.0.expr"),
    ],
)
def test_source_problems(changes: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compile_source("txns", txns(**changes))
    assert f"sources.txns.{path}" in [problem.path for problem in caught.value.problems]


def test_references_of_expectations() -> None:
    expect = (Expectation(column="user", references="users.usr"), Expectation(column="user", references="people.user"))
    found = problems(sources={"txns": txns(expect=expect), "users": USERS})
    assert found["sources.txns.expect.0.references"].suggestion == "user"
    assert "unknown source" in found["sources.txns.expect.1.references"].message


def test_a_broken_source_is_reported_once() -> None:
    found = problems(sources={"txns": txns(derive={"x": "amtt"}), "users": USERS})
    assert list(found) == ["sources.txns.derive.x"]


@pytest.mark.parametrize(
    ("text", "offset", "words"),
    [
        ("", 0, "ends where"),
        ("amt +", 5, "ends where"),
        ("(amt", 4, "`)`"),
        ("amt amt", 4, "an operator or the end"),
        ("amt == 1", 4, "write ="),
        ("t.amt", 1, "alone"),
        ("'abc", 0, "not closed"),
        ("MAX(amt)", 0, "LEAST or GREATEST"),
        ("LAG(amt)", 0, "window function"),
        ("ROUND(amt) OVER (x)", 11, "window functions"),
        ("(SELECT 1)", 1, "queries"),
        ("amt IN (SELECT 1)", 8, "queries"),
        ("NOW()", 0, "event_time"),
        ("CURRENT_DATE", 0, "event_time"),
        ("FLOR(amt)", 0, "unknown function"),
        ("CAST(amt AS money)", 12, "not a type"),
        ("ROUND(amt, n)", 11, "constant"),
        ("ROUND(amt, 99)", 11, "0 to 12"),
        ("ROUND(amt, 1, 2)", 0, "wrong number"),
        ("amt % 2", 0, "integers"),
        ("ts + 5", 5, "MINUTES"),
        ("ts > '2013-01-01'", 5, "one type"),
        ("HOUR(ts, 'Mars/Base')", 9, "IANA"),
        ("n IN (1, NULL)", 9, "IS NULL"),
        ("n LIKE 'a'", 0, "text"),
        ("country LIKE country", 13, "constant"),
        ("CASE WHEN n THEN 1 END", 10, "condition"),
        ("CASE WHEN n > 1 THEN 1 ELSE 'a' END", 21, "different types"),
        ("CASE n END", 7, "WHEN is expected"),
        ("NULL", 0, "no type"),
        ("ts - ts", 0, "HOURS_BETWEEN"),
        ("99999999999999999999", 0, "64 bits"),
        ("1e999", 0, "too large"),
        ("INTERVAL 'soon'", 9, "interval"),
        ("CAST(ts AS bigint)", 0, "EPOCH_SECONDS"),
        ("amt; DROP", 3, "statement"),
        ("n NOT 3", 6, "IN, BETWEEN or LIKE"),
        ("(" * 300 + "n" + ")" * 300, 80, "deeper"),
        (" + ".join(["n"] * 300), 0, "deeper"),
        ("SUBSTR(country, 0)", 16, "from 1"),
        ("PARSE_TIMESTAMP(country, '%Q')", 25, "%Q"),
        ("PARSE_TIMESTAMP(country, '%H:%M')", 25, "year"),
    ],
)
def test_refused_expressions_say_where(text: str, offset: int, words: str) -> None:
    columns = {"amt": "f64", "n": "i64", "ts": "timestamp", "country": "str"}
    with pytest.raises(ExpressionError) as caught:
        check(parse(text), columns)
    assert words in str(caught.value)
    if "deeper" not in words and caught.value.offset != offset:
        pytest.fail(f"offset {caught.value.offset}: {caught.value}")


def test_names_are_quoted_and_case_sensitive() -> None:
    tree = parse('"select" + "a b" * A')
    assert columns_of(tree) == {"select", "a b", "A"}
    assert canonical(parse(render(tree))) == canonical(tree)
    with pytest.raises(ExpressionError, match="unknown column `A`") as caught:
        check(parse("A"), {"a": "i64"})
    assert caught.value.suggestion == "a"


def test_describe_says_what_each_feature_is() -> None:
    spec = PipelineSpec(
        name="fraud",
        sources={"txns": txns(), "users": USERS},
        spine=SPINE,
        features=GOOD,
        label=LABEL,
        split=SplitSpec(kind="random", params=File()),
        train=TrainSpec(kind="linear", params=File()),
        owner="risk",
    )
    entries = {entry["name"]: entry for entry in describe(compiled().program, spec)}
    assert {entry["owner"] for entry in entries.values()} == {"risk"}
    assert list(entries) == list(compiled().program.feature_names)
    window = entries["amt_mean_7d"]
    assert (window["kind"], window["source"], window["window"], window["columns"]) == (
        "window",
        "txns",
        "7d",
        ["amt", "n"],
    )
    assert window["words"] == "mean of amt in txns with the same user where (n > 0), last 7d, exact to 2 decimals"
    assert "'none' when there is none" in entries["tier"]["words"]
    assert entries["country_ix"]["kind"] == "encoded"
