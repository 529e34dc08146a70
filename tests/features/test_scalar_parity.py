"""The language for one row in plain Python gives the bits that the lowering gives: each function, random expressions."""

from __future__ import annotations

import struct
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.features.expression import ExpressionError, check, parse
from engine.features.lowering import evaluate, lower
from engine.features.scalar_functions import BUILD
from engine.features.scalars import scalar
from engine.features.typing_rules import SIGNATURES
from tests.features import worlds as w
from tests.features.test_lowering_parity import EACH, TYPES, rows

SLOTS = {name: index for index, name in enumerate(TYPES)}


def plain(frame: pl.DataFrame) -> list[list[Any]]:
    return [list(row) for row in frame.with_columns(pl.selectors.datetime().dt.epoch("us")).rows()]


def bits(value: Any) -> Any:
    return struct.pack("<d", value) if isinstance(value, float) else (type(value), value)


def differ(texts: list[str], frame: pl.DataFrame) -> int:
    """Compare all expressions over all rows; how many values there were."""
    trees = {text: parse(text) for text in texts}
    made = plain(evaluate(lower(trees, TYPES), frame))
    for place, (text, tree) in enumerate(trees.items()):
        read = scalar(tree, TYPES, SLOTS)
        for row, expected in zip(plain(frame), made, strict=True):
            found = read(row)
            assert bits(found) == bits(expected[place]), (
                text,
                dict(zip(TYPES, row, strict=True)),
                found,
                expected[place],
            )
    return frame.height * len(texts)


FRAME = rows(400, 2)


def test_every_function_is_here() -> None:
    assert BUILD.keys() == SIGNATURES.keys()


@pytest.mark.parametrize("name", EACH)
def test_each_function_gives_the_same_bits(name: str) -> None:
    differ(EACH[name], FRAME)


MORE = [
    "LEAST(x, y)", "GREATEST(y, x)", "LEAST(0.0, -x)", "GREATEST(x * 0.0, 0.0)", "LEAST(s, u)", "NULLIF(i, x)",
    "NULLIF(x, i)", "x IN (y, i)", "s IN (u, 'a')", "x IN (0.0, 1, 2.5)", "i IN (1, j)", "CEIL(x / 1e9)",
    "FLOOR(-ABS(x) * 0.0)", "SIGN(-x * 0.0)", "ROUND(x * 0.001, 3)", "ROUND(-x / 1e300)", "x BETWEEN NULL AND y",
    "x = NULL", "NULL < x", "COALESCE(NULL, x)", "CASE i WHEN NULL THEN 1 WHEN x THEN 2 END", "t + NULL IS NULL",
    "CAST(NULL AS bigint) + i", "LENGTH(CAST(x AS varchar))", "CAST(x / 1e12 AS varchar)", "CAST(x * 1e12 AS varchar)",
    "CAST(TRIM(u) AS double)", "CAST(s || '0' AS bigint)", "UPPER(u || 'ßǆéω')", "LOWER('ΑΣ' || s)",
    "TRIM('\u3000\x1c' || s || '\x1c\u00a0')", "SUBSTR(s || 'aé😀z', 2, 2)", "s || u LIKE '%é_'", "s LIKE 'a\n'",
    "HOUR(t, 'America/New_York')", "WEEK(t, 'Pacific/Apia')", "YEAR(t, 'Asia/Kolkata')", "MINUTE(t, 'Australia/Lord_Howe')",
    "DAY(t - DAYS(40000), 'Europe/Amsterdam')", "WEEKDAY(t + DAYS(300000), 'Europe/Paris')",
    "DAY_OF_YEAR(t - DAYS(734000), 'Asia/Tokyo')", "MONTH(t - DAYS(i * 700))", "EPOCH_SECONDS(t + DAYS(i * 700))",
    "HOURS_BETWEEN(t - DAYS(i), w + SECONDS(y))", "t + HOURS(x) < w", "POWER(x, -1)", "POWER(x, 3)", "POWER(0, y)",
    "POWER(-8, 1.0 / 3)", "LN(x) / LOG10(ABS(y))", "i % (j - j)", "-i - j", "i * j * 2", "x / i", "i / x", "NOT (b OR c)",
    "(b AND c) IS NULL", "b = c", "GREATEST(t, w - DAYS(1)) > t", "CONCAT(s, CAST(NULL AS varchar))", "CONCAT(s)",
    "CASE WHEN b THEN i WHEN c THEN x END", "CASE WHEN x > y THEN t ELSE w END", "STARTS_WITH(s, '')", "CONTAINS(u, s)",
]  # fmt: skip


@pytest.mark.parametrize("text", MORE)
def test_corners_give_the_same_bits(text: str) -> None:
    differ([text], FRAME)


leaves = {
    "f64": ["x", "y", "3.7", "0.1", "1e308", "0.0", "5e-324"],
    "i64": ["i", "j", "2", "0", "9223372036854775807", "-3"],
    "str": ["s", "u", "'a'", "'É x'", "''", "CAST(i AS varchar)"],
    "bool": ["b", "c", "TRUE", "x IS NULL"],
    "timestamp": ["t", "w", "CAST(u AS timestamp)"],
}
SHAPES = {
    "f64": [
        "({f64} + {f64})", "({f64} - {i64})", "({f64} * {f64})", "({f64} / {f64})", "({i64} / {i64})", "ABS({f64})",
        "LN({f64})", "EXP({f64})", "SQRT({f64})", "ROUND({f64}, 2)", "ROUND({f64})", "SIN({f64})", "POWER({f64}, {f64})",
        "POWER({f64}, 2)", "COALESCE({f64}, {i64})", "LEAST({f64}, {f64})", "GREATEST({f64}, {i64}, {f64})",
        "NULLIF({f64}, {f64})", "CAST({i64} AS double)", "EPOCH_SECONDS({timestamp})", "SIGN({f64})", "FLOOR({f64})",
        "HOURS_BETWEEN({timestamp}, {timestamp})", "CASE WHEN {bool} THEN {f64} ELSE {i64} END", "(-{f64})", "CEIL({f64})",
        "CASE {f64} WHEN {i64} THEN {f64} WHEN {f64} THEN {f64} END", "LOG10({f64})", "COS({f64})",
    ],
    "i64": [
        "({i64} + {i64})", "({i64} - {i64})", "({i64} * {i64})", "({i64} % {i64})", "ABS({i64})", "(-{i64})",
        "CAST({f64} AS bigint)", "CAST({bool} AS bigint)", "LENGTH({str})", "HOUR({timestamp}, 'America/New_York')",
        "DAY({timestamp})", "WEEK({timestamp})", "COALESCE({i64}, {i64})", "NULLIF({i64}, {f64})", "LEAST({i64}, {i64})",
        "CASE WHEN {bool} THEN {i64} END", "CAST({str} AS bigint)", "SIGN({i64})", "YEAR({timestamp}, 'Asia/Kathmandu')",
    ],
    "str": [
        "({str} || {str})", "CONCAT({str}, {str})", "UPPER({str})", "LOWER({str})", "TRIM({str})", "SUBSTR({str}, 2, 2)",
        "COALESCE({str}, {str})", "CASE WHEN {bool} THEN {str} ELSE {str} END", "NULLIF({str}, {str})",
        "GREATEST({str}, {str})", "CAST({bool} AS varchar)",
    ],
    "bool": [
        "({f64} < {f64})", "({i64} = {f64})", "({str} >= {str})", "({bool} AND {bool})", "({bool} OR {bool})",
        "(NOT {bool})", "({timestamp} <= {timestamp})", "({f64} BETWEEN {i64} AND {f64})", "({i64} IN ({i64}, 2, {i64}))",
        "({str} LIKE '%a_')", "({f64} IS NULL)", "({str} IN ('a', {str}))", "CONTAINS({str}, {str})", "({bool} = {bool})",
        "({f64} <> {f64})", "STARTS_WITH({str}, {str})",
    ],
    "timestamp": [
        "({timestamp} + HOURS({f64}))", "({timestamp} - DAYS({i64}))", "COALESCE({timestamp}, {timestamp})",
        "GREATEST({timestamp}, {timestamp})", "CASE WHEN {bool} THEN {timestamp} END",
        "({timestamp} + ({timestamp} - {timestamp}))",
    ],
}  # fmt: skip


@st.composite
def expressions(draw: Any, type_: str, depth: int) -> str:
    """A random expression of a type."""
    if depth == 0 or draw(st.integers(0, 5)) == 0:
        return str(draw(st.sampled_from(leaves[type_])))
    shape = draw(st.sampled_from(SHAPES[type_]))
    parts = []
    for piece in shape.split("{"):
        name, brace, rest = piece.partition("}")
        parts.append(draw(expressions(name, depth - 1)) + rest if brace else piece)
    return "".join(parts)


COMPARED = {"values": 0}


@settings(max_examples=w.examples(120), deadline=None)
@given(st.sampled_from(list(SHAPES)).flatmap(lambda type_: expressions(type_, 3)), st.integers(0, 10**6))
def test_random_expressions_give_the_same_bits(text: str, seed: int) -> None:
    try:
        check(parse(text), TYPES)
    except ExpressionError:
        return
    COMPARED["values"] += differ([text], rows(60, seed))


def test_say_how_much_was_compared(capsys: Any) -> None:
    with capsys.disabled():
        if w.DEEP:
            print(f"\ncompared {COMPARED['values']:,} values of random expressions; 0 differ")
    assert COMPARED["values"] > 0
