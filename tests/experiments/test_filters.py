"""Filter expressions: what they accept, and that a mistake is shown where it is."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import UsageError
from engine.experiments.filters import read_filter

RUN: dict[str, Any] = {
    "run_id": 7, "status": "succeeded", "metrics.roc_auc": 0.71, "train.params.num_leaves": 31, "verdict": None,
    "promoted": True, "started_at": "2026-03-01T10:00:00Z", "tags.team": "risk o'r us", "name": "flights",
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "accepted"),
    [
        ("status = 'succeeded'", True),
        ("status == succeeded and run_id = '7'", True),
        ("metrics.roc_auc > 0.7 and metrics.roc_auc <= 7.1e-1", True),
        ("metrics.roc_auc > 0.72 or not status = failed", True),
        ("train.params.num_leaves in (15, 31)", True),
        ("train.params.num_leaves not in (15, 31)", False),
        ("verdict = null", True),
        ("verdict != null", False),
        ("verdict > 1", False),
        ("unknown < 3", False),
        ("promoted = true", True),
        ("started_at >= 2026-03-01 and started_at < '2026-03-02'", True),
        ("tags.team = 'risk o''r us'", True),
        ("name like 'fl%s' and name not like '%x%'", True),
        ("(status = failed or run_id = 7) and (not (run_id = 8))", True),
    ],
)
def test_expressions(text: str, accepted: bool) -> None:
    assert read_filter(text).accepts(RUN.get) is accepted


@pytest.mark.parametrize(
    "text", ["", "status", "status =", "status = 'x' and", "= 3", "a ~ 3", "a in 3", "(a = 1", "a = 1)", "a = 1 b = 2"]
)
def test_a_mistake_is_shown_where_it_is(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_filter(text)
    assert "^" in str(caught.value)
    assert "as in" in str(caught.value.hint)


@given(st.text(max_size=40))
def test_any_text_is_an_expression_or_a_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        read_filter(text).accepts(RUN.get)


@given(
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
)
def test_numbers_compare_as_numbers(left: float, right: float) -> None:
    for sign, expected in (("<", left < right), (">=", left >= right), ("=", left == right), ("!=", left != right)):
        assert read_filter(f"x {sign} {right!r}").accepts({"x": left}.get) is expected
