"""Cron expressions, secrets, interpolations and wording, each by itself; and the examples in their docstrings."""

from __future__ import annotations

import doctest
import importlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config.cron import cron_mistake
from engine.config.interpolation import MAX_RESOLVED, check_text, oversized, references
from engine.config.secrets import is_secret, reference, resolve_secret
from engine.errors import UnavailableError


@pytest.mark.parametrize("name", ["application", "composed", "cron", "interpolation", "secrets", "wording"])
def test_examples(name: str) -> None:
    tried = doctest.testmod(importlib.import_module(f"engine.config.{name}"))
    assert tried.attempted > 0
    assert tried.failed == 0


@pytest.mark.parametrize(
    "text",
    [
        "* * * * *",
        "*/5 * * * *",
        "0 6 * * mon",
        "0 0 29 2 *",
        "0,30 8-18/2 1-15 jan-mar SUN,sat",
        "5/15 * * * *",
        "0 0 31 * 7",
        "0 0 30 2 mon",
    ],
)
def test_good_cron(text: str) -> None:
    assert cron_mistake(text) is None


@pytest.mark.parametrize(
    "text",
    ["", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "*/0 * * * *", "*/x * * * *",
     "5-1 * * * *", "1- * * * *", "-1 * * * *", "1,,2 * * * *", "jan * * * *", "@daily", "0 0 31 2,4,6 *", "٣ * * * *", "001 * * * *"],
)  # fmt: skip
def test_bad_cron(text: str) -> None:
    assert cron_mistake(text)


@given(st.text(alphabet="0123456789*/,- monjanxyz", max_size=30))
def test_no_schedule_raises(text: str) -> None:
    assert cron_mistake(text) is None or isinstance(cron_mistake(text), str)


@given(st.from_regex(r"\A[A-Za-z_][A-Za-z0-9_]{0,20}\Z"), st.text(max_size=20))
def test_a_reference_resolves_to_the_variable(name: str, value: str) -> None:
    assert is_secret(reference(name))
    assert resolve_secret(f"a{reference(name)}b", {name: value}) == f"a{value}b"


def test_a_missing_secret_is_named_and_its_neighbours_are_not_told() -> None:
    with pytest.raises(UnavailableError, match="PW_B") as caught:
        resolve_secret("${secret:PW_A}:${secret:PW_B}", {"PW_A": "hunter2"})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["${a.b}", "${.x}", "x ${a[0]} y", "${env:A,b}", "${secret:A}", r"\${nothing}", "${oc.select:a,1}", "$5"]
)
def test_interpolations_that_are_fine(text: str) -> None:
    assert check_text(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "${",
        "${a",
        "${oc.env:A}",
        "${ oc.env : A }",
        "${oc.decode:${oc.env:A}}",
        "${now:%Y}",
        "${hydra:x}",
        "${env:MY_TOKEN}",
    ],
)
def test_interpolations_that_are_refused(text: str) -> None:
    assert check_text(text) is not None


def test_references_are_absolute() -> None:
    assert list(references("${..b.c} ${a[2].x} ${env:N}", "p.q.r")) == ["p.b.c", "a.2.x"]


def test_growth_is_seen_without_growing() -> None:
    texts = {f"k{n}": f"${{k{n - 1}}}" * 10 for n in range(1, 60)}
    sizes = {path: len(text) for path, text in texts.items()} | {"k0": 5}
    assert oversized(texts, sizes) is not None
    assert oversized({"a": "${b}"}, {"a": 4, "b": MAX_RESOLVED // 2}) is None
    assert oversized({"a": "${a}"}, {"a": 4}) == "a"
