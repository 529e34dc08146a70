"""The page of a backtest: well-formed, complete, and honest about what could not be compared."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest

from engine.backtest_records import BacktestDecision, BacktestPeriod, BacktestResult, Estimate, PolicyOutcome
from engine.report.backtest import headline, render_backtest

DAYS = ("2024-03-01", "2024-03-08", "2024-03-15", "2024-03-22")


def at(day: str) -> str:
    """Give the first moment of a day."""
    return f"{day}T00:00:00.000000Z"


def policy(
    name: str, regret: float | None, trained: tuple[int, ...] = (), refused: tuple[int, ...] = ()
) -> PolicyOutcome:
    """Make an outcome of three periods."""
    estimate = Estimate() if regret is None else Estimate(value=regret, low=regret - 0.01, high=regret + 0.01)
    decisions = tuple(
        BacktestDecision(
            at=at(day),
            action="launch" if index in trained else "nothing",
            why="<the> reason & more",
            trained=at(day) if index in trained else None,
            verdict="reject" if index in refused else "promote" if index in trained else None,
            promoted=index in trained and index not in refused,
            failed_gates={"champion": "worse"} if index in refused else {},
        )
        for index, day in enumerate(DAYS[:3])
    )
    quality = Estimate() if regret is None else Estimate(value=0.8 - regret, low=0.75 - regret, high=0.85 - regret)
    periods = tuple(
        BacktestPeriod(start=at(start), end=at(end), rows=100, model=DAYS[0], quality=quality, regret=estimate)
        for start, end in pairwise(DAYS)
    )
    return PolicyOutcome(
        name=name, triggers={}, quality=quality, regret=estimate, retrainings=len(trained), promotions=len(trained) - len(refused),
        refused=len(refused), diagnoses=0, rows_trained=1000, cpu_seconds=float(len(trained)), cpu_share=len(trained) / 2,
        decisions=decisions, periods=periods,
    )  # fmt: skip


def result(*policies: PolicyOutcome, recommended: str | None = "never") -> BacktestResult:
    """Make a result."""
    return BacktestResult(
        pipeline="p<q>", start=at(DAYS[0]), end=at(DAYS[3]), every="7d", metric="roc_auc", higher_is_better=True, level=0.95, rows=300,
        policies=policies, recommended=recommended, notes=("the split moved",), gates_left_out={"leaks": "needs a probe"},
    )  # fmt: skip


def test_the_page_is_well_formed_and_loads_nothing() -> None:
    """Names and reasons that look like markup are text."""
    page = render_backtest(result(policy("always", 0.0, (1, 2)), policy("never", 0.0), policy("<odd>", 0.02, (1,))))
    root = ET.fromstring(page.removeprefix("<!DOCTYPE html>\n"))
    words = "".join(root.itertext())
    assert "<the> reason & more" in words
    assert "<odd>" in words
    assert "http" not in page.replace("http-equiv", "")
    assert "<script" not in page
    assert "The split moved." in words
    assert "leaks (needs a probe)" in words


def test_what_was_refused_is_a_ring_and_told_with_its_gate() -> None:
    """A filled dot would say that it went into production."""
    page = render_backtest(result(policy("always", 0.0, (1, 2)), policy("weekly", 0.0, (1, 2), (2,))))
    assert page.count("fill:var(--paper);stroke:var(--tone)") == 2  # on its curve, and in its lane
    assert "retrained, reject" in page
    assert "champion: worse" in page


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        (result(policy("always", 0.0, (1, 2)), policy("drift", 0.001, (1,)), recommended="drift"), "1 retraining instead of 2"),
        (result(policy("always", 0.0, (1, 2)), policy("never", 0.1), recommended="always"), "Only retraining always"),
        (result(policy("never", 0.1), recommended=None), "Nothing could be compared"),
    ],
)  # fmt: skip
def test_the_headline_says_which_policy_is_worth_having(shown: BacktestResult, said: str) -> None:
    """In one sentence."""
    assert said in headline(shown)


def test_policies_that_cannot_be_told_apart_are_named_as_a_tie() -> None:
    """A winner by luck is none: cost alone tells it from those whose intervals overlap with its own."""
    shown = result(
        policy("always", 0.0, (1, 2)), policy("never", 0.1), policy("drift", 0.001, (1,)), policy("weekly", 0.0011, (1, 2)),
        recommended="drift",
    )  # fmt: skip
    assert "it is a tie with `weekly`" in headline(shown)
    assert "never" not in headline(shown)


def test_periods_without_a_value_are_left_out_of_every_chart() -> None:
    """A week in which nothing happened has no metric."""
    page = render_backtest(result(policy("always", None, (1,)), policy("never", None), recommended=None))
    ET.fromstring(page.removeprefix("<!DOCTYPE html>\n"))
    assert "No policy could be measured." in page
