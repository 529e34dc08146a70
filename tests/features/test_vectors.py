"""Simple conditions over the events of a key have the flags that the lowering gives; others are left to it."""

from __future__ import annotations

import random

import pytest

from engine.features.events import Events, values_of
from engine.features.expression import check, parse
from engine.features.lowering import evaluate, lower
from engine.features.vectors import condition
from tests.features import worlds as w

SIMPLE = [
    *(f"{column} {sign} {constant}" for sign in ("=", "<>", "<", "<=", ">", ">=") for column, constant in (
        ("v", "0.5"), ("v", "1"), ("n", "2"), ("s", "'a'"), ("s", "'aa'"), ("s", "''"), ("s", "'z'"), ("b", "TRUE"))),
    "0.5 < v", "'a' >= s", "2 <> n", "b", "NOT b", "b AND v > 0", "b OR v > 0", "NOT (b OR n > 1 AND s = 'b')",
    "v IS NULL", "s IS NOT NULL AND b", "s IN ('a', 'q', 'é')", "n IN (1, -3)", "v IN (0.5, 1)", "n NOT IN (1, 2)",
]  # fmt: skip
OTHERS = ["v * 2 > 1", "n < 1.5", "t > a", "s = k", "n + j = 1", "CASE WHEN b THEN v > 1 END", "LENGTH(s) = 1 AND b"]


def events() -> tuple[Events, list[w.Row]]:
    chance = random.Random(8)
    rows = [w.crowded(chance, 0) for _ in range(200)]
    for row in rows:
        row["v"] = None if row["v"] != row["v"] else row["v"]
    frame = w.to_frame(rows, w.EVENT)
    columns = {name: values_of(frame[name], type_) for name, type_ in w.EVENT.items()}
    return Events(columns["t"].data, columns["a"].data, columns), rows


@pytest.mark.parametrize("text", SIMPLE)
def test_a_simple_condition_is_what_the_lowering_makes(text: str) -> None:
    held, rows = events()
    tree = parse(text)
    check(tree, w.EVENT)
    found = condition(held, tree)
    assert found is not None
    truth = evaluate(lower({"r": tree}, w.EVENT), w.to_frame(rows, w.EVENT))["r"].to_list()
    assert [found[row] for row in range(held.count)] == truth
    assert len(set(truth)) > 1 or text in {"s = 'aa'", "s <> 'aa'", "s < ''", "s >= ''", "s = 'z'", "s > 'z'"}


@pytest.mark.parametrize("text", OTHERS)
def test_other_conditions_are_left_to_the_lowering(text: str) -> None:
    tree = parse(text)
    check(tree, w.EVENT)
    assert condition(events()[0], tree) is None
