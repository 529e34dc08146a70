"""Every operator and function: the same bits for a batch, a batch of one and one-row chunks; and the right value."""

from __future__ import annotations

import math
import random
import struct
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.features.expression import ExpressionError, canonical, check, from_json, parse, render, to_json
from engine.features.lowering import evaluate, lower
from engine.features.timestamps import TIMESTAMP
from engine.features.typing_rules import SIGNATURES

TYPES = {
    "x": "f64",
    "y": "f64",
    "i": "i64",
    "j": "i64",
    "s": "str",
    "u": "str",
    "b": "bool",
    "c": "bool",
    "t": "timestamp",
    "w": "timestamp",
}
EACH = {
    "+": ["x + y", "x + 0.1", "i + j", "t + MINUTES(j)", "t + INTERVAL '5 minutes'"],
    "-": ["x - y", "i - 3", "HOURS_BETWEEN(w, t - HOURS(2))", "t - w > HOURS(1)"],
    "*": ["x * 3.7", "i * j", "x * i"],
    "/": [
        "x / 3.7",
        "x / y",
        "x / 3",
        "3.7 / x",
        "i / j",
        "i / 7",
        "x / (2.0 + 1.7)",
        "x / COALESCE(3.7, y)",
        "x / CAST('3.7' AS double)",
        "x / LENGTH('abc')",
        "x / ABS(-3.7)",
        "x / (x / 3.7)",
        "x / CASE WHEN TRUE THEN 3.7 END",
        "x / LEAST(3.7, 4)",
        "x / NULLIF(3.7, 0)",
    ],
    "%": ["i % j", "i % 7", "i % -7"],
    "neg": ["-x", "-i"],
    "=": ["x = y", "i = x", "s = u"],
    "<>": ["s <> 'a'"],
    "<": ["x < i"],
    "<=": ["t <= w"],
    ">": ["s > u"],
    ">=": ["b >= c"],
    "and": ["b AND c"],
    "or": ["b OR c"],
    "not": ["NOT b"],
    "is_null": ["x IS NULL"],
    "is_not_null": ["x / 0 IS NOT NULL"],
    "between": ["x BETWEEN y AND 3.7", "i NOT BETWEEN 1 AND j"],
    "in": ["s IN ('a', 'b')", "i NOT IN (1, 2.5)", "i IN (" + ", ".join(map(str, range(40))) + ")"],
    "like": ["s LIKE 'a%'", "s NOT LIKE '_.%'"],
    "||": ["s || u"],
    "microseconds": ["t + INTERVAL '1 day' > w"],
    "coalesce": ["COALESCE(x, i, 0)"],
    "nullif": ["NULLIF(i, 1)", "NULLIF(x, y)"],
    "least": ["LEAST(x, i, 3)"],
    "greatest": ["GREATEST(t, w)"],
    "abs": ["ABS(x)", "ABS(i)"],
    "sign": ["SIGN(x)", "SIGN(i)"],
    "round": ["ROUND(x)", "ROUND(x, 2)", "ROUND(x / 3.7, 5)", "ROUND(i, 1)"],
    "floor": ["FLOOR(x)", "FLOOR(i)"],
    "ceil": ["CEIL(x)"],
    "ln": ["LN(x)", "LN(ABS(x))"],
    "log10": ["LOG10(ABS(x))"],
    "exp": ["EXP(x)", "EXP(x / 100)"],
    "sqrt": ["SQRT(x)", "SQRT(ABS(x))"],
    "sin": ["SIN(x)", "SIN(2 * PI() * HOUR(t) / 24)"],
    "cos": ["COS(x)"],
    "power": ["POWER(x, 2)", "POWER(ABS(x), y)", "POWER(x, i)", "POWER(ABS(x), 0.5)", "POWER(2, x)"],
    "length": ["LENGTH(s)"],
    "lower": ["LOWER(u)"],
    "upper": ["UPPER(s)"],
    "trim": ["TRIM(s)"],
    "substr": ["SUBSTR(s, 2)", "SUBSTR(s, 1, 1)"],
    "concat": ["CONCAT(s, u)"],
    "starts_with": ["STARTS_WITH(s, u)"],
    "ends_with": ["ENDS_WITH(s, 'a')"],
    "contains": ["CONTAINS(s, '.')"],
    "minute": ["MINUTE(t)"],
    "hour": ["HOUR(t, 'America/New_York')"],
    "weekday": ["WEEKDAY(t)"],
    "day": ["DAY(t, 'Asia/Kathmandu')"],
    "day_of_year": ["DAY_OF_YEAR(t)"],
    "week": ["WEEK(t)"],
    "month": ["MONTH(t)"],
    "year": ["YEAR(t)"],
    "epoch_seconds": ["EPOCH_SECONDS(t)"],
    "hours_between": ["HOURS_BETWEEN(t, w)"],
    "seconds": ["t + SECONDS(x) > w"],
    "minutes": ["t + MINUTES(i) IS NULL"],
    "hours": ["t - HOURS(1.5)"],
    "days": ["t + DAYS(1)"],
    "parse_timestamp": ["PARSE_TIMESTAMP(u)", "PARSE_TIMESTAMP(u, '%Y-%m-%d %H:%M')"],
    "case": [
        "CASE WHEN b THEN x WHEN c THEN i ELSE 0 END",
        "CASE s WHEN 'a' THEN 1 END",
        "CASE x / y WHEN 1 THEN 2.5 ELSE x END",
    ],
    "cast": [
        f"CAST({p.split()[0]} AS {p.split()[1]})"
        for p in (
            "x bigint",
            "x varchar",
            "i double",
            "i varchar",
            "i boolean",
            "b bigint",
            "b varchar",
            "u bigint",
            "u double",
            "u boolean",
            "u timestamp",
            "t varchar",
        )
    ],
}


def rows(count: int, seed: int) -> pl.DataFrame:
    chance = random.Random(seed)
    start = datetime(2013, 1, 1, tzinfo=UTC)
    special = [0.0, 1.0, 2.0, 3.0, 0.5, -1.0, -0.0, 1e308, -1e308, 5e-324, 700.0, 2.5, None]
    texts = [
        "",
        "a",
        "ab",
        " .b ",
        "É",
        None,
        "1.5",
        "12",
        "-7",
        "true",
        "F",
        "nan",
        "inf",
        "2013-01-02",
        "2013-01-02T03:04:05.678Z",
        "2013-01-02 03:04",
        "2013-01-02 03:04:05+02:00",
        "2013-02-30",
        "9" * 30,
    ]

    def number() -> float | None:
        return chance.choice(special) if chance.random() < 0.2 else chance.gauss(0, 1) * 10.0 ** chance.randint(-5, 6)

    def whole() -> int | None:
        return (
            chance.choice([0, 1, -1, 2**63 - 1, -(2**63), None])
            if chance.random() < 0.2
            else chance.randint(-1000, 1000)
        )

    made = {
        "x": [number() for _ in range(count)],
        "y": [number() for _ in range(count)],
        "i": [whole() for _ in range(count)],
        "j": [whole() for _ in range(count)],
        "s": [chance.choice(texts) for _ in range(count)],
        "u": [chance.choice(texts) for _ in range(count)],
        "b": [chance.choice([True, False, None]) for _ in range(count)],
        "c": [chance.choice([True, False, None]) for _ in range(count)],
        "t": [
            start + timedelta(microseconds=chance.randrange(10**14)) if chance.random() < 0.9 else None
            for _ in range(count)
        ],
        "w": [start + timedelta(microseconds=chance.randrange(10**14)) for _ in range(count)],
    }
    dtypes = {"f64": pl.Float64, "i64": pl.Int64, "str": pl.String, "bool": pl.Boolean, "timestamp": TIMESTAMP}
    return pl.DataFrame(made, schema={name: dtypes[type_] for name, type_ in TYPES.items()})


def bits(values: pl.Series) -> list[Any]:
    return [struct.pack("<d", value) if isinstance(value, float) else value for value in values.to_list()]


FRAME = rows(3000, 1)
CHUNKS = pl.concat([FRAME[index : index + 1] for index in range(40)], rechunk=False)


def test_every_function_is_in_the_table() -> None:
    assert EACH.keys() - {"case", "cast"} == SIGNATURES.keys()


@pytest.mark.parametrize("name", EACH)
def test_same_bits_in_a_batch_alone_and_in_chunks(name: str) -> None:
    trees = {text: parse(text) for text in EACH[name]}
    types = {text: check(tree, TYPES) for text, tree in trees.items()}
    lowered = lower(trees, TYPES)
    batch = evaluate(lowered, FRAME)
    assert batch.height == FRAME.height
    expected = {"f64": pl.Float64, "i64": pl.Int64, "str": pl.String, "bool": pl.Boolean, "timestamp": TIMESTAMP}
    assert batch.schema == {text: expected[type_] for text, type_ in types.items()}
    for text in trees:
        if types[text] == "f64":
            assert batch[text].drop_nulls().is_finite().all(), text
    for index in range(40):
        alone = evaluate(lowered, FRAME[index : index + 1])
        assert alone.height == 1
        for text in trees:
            assert bits(alone[text]) == bits(batch[text][index : index + 1]), (text, FRAME.row(index, named=True))
    chunked, few, none = evaluate(lowered, CHUNKS), evaluate(lowered, FRAME[7:9]), evaluate(lowered, FRAME[:0])
    for text in trees:
        assert bits(chunked[text]) == bits(batch[text][:40]), text
        assert bits(few[text]) == bits(batch[text][7:9]), text
        assert none[text].len() == 0
    scalars = FRAME[:3].with_columns(
        pl.lit(value, dtype=FRAME[key].dtype).alias(key) for key, value in FRAME.row(5, named=True).items()
    )
    for text, values in evaluate(lowered, scalars).to_dict(as_series=True).items():
        assert bits(values) == bits(batch[text][5:6]) * 3, text


def value_of(text: str, **columns: Any) -> Any:
    types = {
        name: {bool: "bool", int: "i64", float: "f64", str: "str", datetime: "timestamp"}[type(value)]
        for name, value in columns.items()
    }
    tree = parse(text)
    check(tree, types)
    dtypes = {"f64": pl.Float64, "i64": pl.Int64, "str": pl.String, "bool": pl.Boolean, "timestamp": TIMESTAMP}
    frame = pl.DataFrame(
        {name: [value] for name, value in columns.items()} or {"none": [0]},
        schema_overrides={n: dtypes[t] for n, t in types.items()},
    )
    return evaluate(lower({"r": tree}, types), frame)["r"][0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 / 3", 1 / 3),
        ("0.1 + 0.2", 0.1 + 0.2),
        ("1 / 0", None),
        ("0.0 / 0.0", None),
        ("1 / (1 / 0)", None),
        ("EXP(1000) - EXP(1000)", None),
        ("1e308 * 10 * 0", None),
        ("COALESCE(1 / 0, 5)", 5.0),
        ("9223372036854775807 + 1", None),
        ("-9223372036854775808 - 1", None),
        ("9223372036854775807 * 2", None),
        ("ABS(-9223372036854775808)", None),
        ("-9223372036854775808 % -1", 0),
        ("-7 % 3", -1),
        ("7 % -3", 1),
        ("7 % 0", None),
        ("ROUND(2.5)", 3.0),
        ("ROUND(-2.5)", -3.0),
        ("ROUND(1.005, 2)", 1.0),
        ("CAST(-1.9 AS bigint)", -1),
        ("CAST(1e30 AS bigint)", None),
        ("CAST('x' AS bigint)", None),
        ("CAST(' 12 ' AS bigint)", 12),
        ("CAST('nan' AS double)", None),
        ("NULL AND FALSE", False),
        ("NULL OR TRUE", True),
        ("NULL AND TRUE", None),
        ("1 IN (2, 3)", False),
        ("NULL || 'a'", None),
        ("CONCAT(CAST(NULL AS varchar), 'a')", "a"),
        ("LEAST(3, NULL, 2)", 2),
        ("SUBSTR('héllo', 2, 3)", "éll"),
        ("LENGTH('é')", 1),
        ("'a.c' LIKE 'a.c'", True),
        ("'abc' LIKE 'a.c'", False),
        ("'a\nc' LIKE 'a%'", True),
        ("CASE WHEN NULL THEN 1 ELSE 2 END", 2),
        ("CASE 1 WHEN 1.0 THEN 'same' END", "same"),
        ("2 + 3 * 4 - 10 / 5", 12.0),
        ("NOT 1 = 2 AND 2 = 2", True),
        ("-2 * -3", 6),
        ("'a' || 'b' = 'ab'", True),
        ("WEEKDAY(CAST('2024-01-01' AS timestamp))", 1),
        ("HOUR(CAST('2024-07-01T12:00:00Z' AS timestamp), 'America/New_York')", 8),
        ("HOUR(CAST('2024-01-01T12:00:00+02:00' AS timestamp))", 10),
        ("EPOCH_SECONDS(CAST('1970-01-01 00:00:01.5' AS timestamp))", 1.5),
        ("HOURS_BETWEEN(CAST('2024-01-01' AS timestamp), CAST('2024-01-02' AS timestamp))", 24.0),
        ("CAST('9999-12-31' AS timestamp) + DAYS(1) IS NULL", True),
        ("CAST('2024-01-01' AS timestamp) + DAYS(9223372036854775807) IS NULL", True),
        ("HOURS_BETWEEN(CAST('2024-01-01' AS timestamp), CAST('2024-01-01' AS timestamp) + INTERVAL '90' minute)", 1.5),
        ("PARSE_TIMESTAMP('03/02/2013', '%d/%m/%Y') = CAST('2013-02-03' AS timestamp)", True),
        ("EPOCH_SECONDS(PARSE_TIMESTAMP('1970-01-01 00:01:00 +0100', '%Y-%m-%d %H:%M:%S %z'))", -3540.0),
        ("EPOCH_SECONDS(PARSE_TIMESTAMP('1970 002 00:00:01.25', '%Y %j %H:%M:%S%.f'))", 86401.25),
        ("EPOCH_SECONDS(PARSE_TIMESTAMP('02 Jan 1970', '%d %b %Y'))", 86400.0),
        ("PARSE_TIMESTAMP('x', '%Y-%m-%d') IS NULL", True),
        ("CAST(CAST('2024-01-01' AS timestamp) AS varchar)", "2024-01-01T00:00:00.000000Z"),
        ("POWER(2, 10)", 1024.0),
        ("SQRT(-1)", None),
        ("LN(0)", None),
        ("COS(PI())", -1.0),
    ],
)
def test_meaning(text: str, expected: Any) -> None:
    found = value_of(text)
    assert found == expected
    assert type(found) is type(expected)


def test_division_is_correctly_rounded() -> None:
    for text, divisor in (("x / 3.7", 3.7), ("x / 3", 3.0), ("x / (2.0 + 1.7)", 2.0 + 1.7)):
        made = evaluate(lower({"r": parse(text)}, TYPES), FRAME)["r"].to_list()
        assert made == [None if x is None else x / divisor for x in FRAME["x"].to_list()]


leaves = st.sampled_from(["x", "y", "i", "j", "3.7", "2", "0.1", "(i + 0.5)"])
numbers = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda parts: f"({' '.join(parts)})"),
        st.tuples(st.sampled_from(["ABS", "LN", "EXP", "SQRT", "ROUND", "SIN"]), inner).map(
            lambda parts: f"{parts[0]}({parts[1]})"
        ),
        st.tuples(inner, inner, inner).map(
            lambda parts: f"CASE WHEN {parts[0]} < {parts[1]} THEN {parts[2]} ELSE COALESCE({parts[1]}, 1) END"
        ),
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=3, unique=True))
def test_random_expressions_have_the_same_bits_alone(texts: list[str]) -> None:
    trees = {text: parse(text) for text in texts}
    for text, tree in trees.items():
        check(tree, TYPES)
        assert canonical(parse(render(tree))) == canonical(tree), text
        assert from_json(to_json(tree)) == canonical(tree)
    lowered = lower(trees, TYPES)
    batch = evaluate(lowered, FRAME[:200])
    separate = {text: evaluate(lower({text: tree}, TYPES), FRAME[:200])[text] for text, tree in trees.items()}
    for text in texts:
        assert bits(batch[text]) == bits(separate[text])
    for index in range(0, 200, 50):
        alone = evaluate(lowered, FRAME[index : index + 1])
        assert [bits(alone[text])[0] for text in texts] == [bits(batch[text])[index] for text in texts]


def test_deep_expressions_are_evaluated_once_a_node() -> None:
    text = "x"
    for _ in range(30):
        text = f"EXP({text} / 1e9)"
    assert math.isfinite(value_of(text, x=1.0))
    text = "x"
    for _ in range(12):
        text = f"CASE {text} WHEN 1 THEN 2 WHEN 3 THEN 4 ELSE x END"
    assert value_of(text, x=5.0) == 5.0


@pytest.mark.parametrize(
    "text", ["0.5 < ABS(x / 0)", "3 = CEIL(x / 0)", "'a' >= LOWER(NULLIF(s, s))", "2 IN (ABS(x / 0), 1)"]
)
def test_a_constant_is_compared_with_a_column_that_is_null_throughout(text: str) -> None:
    assert evaluate(lower({"r": parse(text)}, TYPES), FRAME[:7])["r"].to_list() == [None] * 7


def test_there_is_one_zero() -> None:
    texts = [
        "-x",
        "0.0 - x",
        "CEIL(x - 0.5)",
        "ROUND(-x / 9)",
        "x * -5e-324",
        "CAST('-0' AS double) + x",
        "FLOOR(-x) + 0.0",
    ]
    frame = pl.DataFrame({"x": [0.0, 0.0, 0.1]})
    made = evaluate(lower({text: parse(text) for text in texts}, {"x": "f64"}), frame)
    assert bits(pl.Series(made.row(0))) == bits(pl.Series([0.0] * len(texts)))


def test_an_invalid_tree_is_refused() -> None:
    with pytest.raises(ExpressionError, match="not an expression tree"):
        from_json({"node": "call", "name": 3})
