"""The policy: every check stops what it should, in the order of the design; reasons merge and wait."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.loop.decide import Decision, Past, Situation, decide, run_key
from engine.loop_contracts import Opinion, fires, quiet
from engine.loop_records import WaitingReasons
from engine.spec.triggers import BackoffSpec, BudgetSpec, RetrainSpec

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
FREE = RetrainSpec(cooldown="0s", budget=BudgetSpec())


def made(
    opinions: dict[str, Opinion], policy: RetrainSpec = FREE, waiting: WaitingReasons | None = None, **past: Any
) -> Decision:
    return decide(opinions, waiting, Situation("p", policy, NOW, Past(**past)))


def stops(decision: Decision) -> list[str]:
    return [check.name for check in decision.checks if not check.passed]


def wish(**changes: Any) -> WaitingReasons:
    base = WaitingReasons(since="2024-06-01T11:00:00.000000Z", intent="train", reasons={"a": "w"}, occasions={"a": "1"})
    return msgspec.structs.replace(base, **changes)


ONE = {"nightly": fires("the slot came", "06:00", {"slot": "x"}), "other": quiet("no", {})}


def test_a_trigger_that_fires_launches() -> None:
    decision = made(ONE)
    assert (decision.action, decision.wish, stops(decision)) == ("launch", None, [])
    assert decision.launched is not None
    assert decision.launched.reasons == {"nightly": "the slot came"}
    assert decision.key == run_key("p", decision.launched)


def test_nothing_fires_nothing_happens() -> None:
    assert made({"other": quiet("no", {})}).action == "nothing"


@pytest.mark.parametrize(
    ("policy", "past", "stopped"),
    [
        (FREE, {"paused": "holiday"}, "pause"),
        (FREE, {"quarantined": ("flights",)}, "quarantine"),
        (FREE, {"in_flight": "7"}, "single flight"),
        (FREE, {"subject": "s", "refused_subject": "s"}, "rejected before"),
        (FREE, {"failures": 1, "ended_at": NOW - timedelta(minutes=9)}, "backoff"),
        (FREE, {"failures": 3, "ended_at": NOW - timedelta(minutes=39)}, "backoff"),
        (FREE, {"failures": 5, "ended_at": NOW - timedelta(days=9), "subject": "s", "failed_subject": "s"}, "backoff"),
        (RetrainSpec(cooldown="2h", budget=BudgetSpec()), {"ended_at": NOW - timedelta(minutes=119)}, "cooldown"),
        (RetrainSpec(cooldown="0s", budget=BudgetSpec(runs=2)), {"spent_runs": 2}, "budget"),
        (RetrainSpec(cooldown="0s", budget=BudgetSpec(cpu_hours=1.5)), {"spent_cpu_hours": 1.5}, "budget"),
        (RetrainSpec(cooldown="0s", budget=BudgetSpec(), debounce="1m"), {}, "debounce"),
    ],
)
def test_each_check_stops_and_the_reason_waits(policy: RetrainSpec, past: dict[str, Any], stopped: str) -> None:
    decision = made(ONE, policy, **past)
    assert (decision.action, stops(decision)) == ("wait", [stopped])
    assert decision.why.startswith(f"{stopped}: ")
    assert decision.wish is not None
    assert decision.wish.occasions == {"nightly": "06:00"}
    assert made({}, FREE, decision.wish).action == "launch"


@pytest.mark.parametrize(
    "past",
    [
        {"failures": 1, "ended_at": NOW - timedelta(minutes=10)},
        {"failures": 3, "ended_at": NOW - timedelta(minutes=40)},
        {"failures": 9, "ended_at": NOW - timedelta(days=9), "subject": "new", "failed_subject": "old"},
        {"subject": "new", "refused_subject": "old"},
    ],
)
def test_what_passes_again(past: dict[str, Any]) -> None:
    assert made(ONE, **past).action == "launch"


def test_the_pause_after_failures_is_bounded() -> None:
    policy = RetrainSpec(
        cooldown="0s", budget=BudgetSpec(), backoff=BackoffSpec(first="1h", longest="3h", give_up_after=99)
    )
    for failures, hours in ((1, 1), (2, 2), (3, 3), (50, 3)):
        assert made(ONE, policy, failures=failures, ended_at=NOW - timedelta(hours=hours)).action == "launch"
        just_before = NOW - timedelta(hours=hours) + timedelta(seconds=1)
        assert made(ONE, policy, failures=failures, ended_at=just_before).action == "wait"


def test_what_concurrency_means() -> None:
    flying = {"in_flight": "7"}
    assert made(ONE, msgspec.structs.replace(FREE, concurrency="queue_one"), **flying).action == "wait"
    assert made(ONE, msgspec.structs.replace(FREE, concurrency="replace"), **flying).action == "replace"
    dropped = made(ONE, msgspec.structs.replace(FREE, concurrency="forbid"), **flying)
    assert (dropped.action, dropped.wish) == ("drop", None)


def test_reasons_that_coincide_make_one_run() -> None:
    two = {**ONE, "drift": fires("it moved", "w9", {})}
    decision = made(two, waiting=wish())
    assert decision.launched is not None
    assert set(decision.launched.reasons) == {"a", "nightly", "drift"}


def test_suspicion_wins_over_training() -> None:
    bad = Opinion(fired=True, why="nulls", occasion="w", intent="diagnose")
    decision = made({**ONE, "quality": bad}, quarantined=("flights",))
    assert (decision.action, decision.launched.intent) == ("launch", "diagnose")  # type: ignore[union-attr]


def test_a_reason_from_the_future_waits_since_now_when_the_clock_went_back() -> None:
    decision = made({}, waiting=wish(since="2024-06-01T13:00:00.000000Z"))
    assert decision.action == "launch"


def test_a_run_that_ended_in_the_future_holds_up_no_longer_than_the_cooldown() -> None:
    later = NOW + timedelta(hours=1)
    assert made(ONE, ended_at=later).action == "launch"
    assert stops(made(ONE, RetrainSpec(cooldown="1m", budget=BudgetSpec()), ended_at=later)) == ["cooldown"]


def test_a_diagnosis_lets_reasons_to_train_wait_and_loses_none() -> None:
    bad = {"quality": Opinion(fired=True, why="nulls", occasion="w", intent="diagnose")}
    launched = made({**ONE, **bad}, waiting=wish())
    assert (launched.action, set(launched.wish.reasons)) == ("launch", {"a", "nightly"})  # type: ignore[union-attr]
    assert launched.wish.intent == "train"  # type: ignore[union-attr]
    held = made({**ONE, **bad}, in_flight="7")
    assert (held.action, "quality" in held.consumed, set(held.wish.reasons)) == ("wait", False, {"nightly"})  # type: ignore[union-attr]


def test_nothing_is_trained_while_a_quality_trigger_says_that_data_is_bad() -> None:
    assert stops(made(ONE, suspects=("broken",))) == ["quarantine"]
    declared = msgspec.structs.replace(FREE, on_quality_failure="last_good")
    assert stops(made(ONE, declared, suspects=("broken",))) == ["quarantine"]


def test_the_last_good_snapshot_is_used_only_when_declared() -> None:
    declared = msgspec.structs.replace(FREE, on_quality_failure="last_good")
    assert made(ONE, declared, quarantined=("flights",)).action == "launch"


def test_a_patient_trigger_keeps_its_cursor_when_there_is_no_run_now() -> None:
    patient = {"all": Opinion(fired=True, why="slot", occasion="1", patient=True)}
    waits = made(patient, in_flight="7")
    assert (waits.action, waits.wish, waits.consumed) == ("wait", None, frozenset())
    assert made(patient).consumed == {"all"}


@given(
    st.dictionaries(st.sampled_from("abcd"), st.tuples(st.booleans(), st.text(max_size=3)), max_size=4),
    st.booleans(), st.integers(0, 6), st.integers(0, 3),
)  # fmt: skip
def test_no_reason_is_lost_and_none_is_invented(
    said: dict[str, tuple[bool, str]], flying: bool, failures: int, spent: int
) -> None:
    opinions = {name: Opinion(fired=fired, why="w", occasion=text) for name, (fired, text) in said.items()}
    policy = RetrainSpec(budget=BudgetSpec(runs=2))
    decision = made(
        opinions, policy, in_flight="7" if flying else None, failures=failures, spent_runs=spent, ended_at=NOW
    )
    fired = {name for name, opinion in opinions.items() if opinion.fired}
    kept = set(decision.wish.reasons) if decision.wish else set()
    gone = set(decision.launched.reasons) if decision.launched else set()
    assert kept | gone == fired
    assert not kept & gone
    assert (decision.action == "launch") == (bool(fired) and not stops(decision))


@given(st.dictionaries(st.text(max_size=4), st.text(max_size=4), min_size=1, max_size=3))
def test_the_key_is_of_the_occasions_and_of_nothing_else(occasions: dict[str, str]) -> None:
    one, other = wish(occasions=occasions), wish(occasions=occasions, reasons={}, since="later")
    assert run_key("p", one) == run_key("p", other)
    assert run_key("p", one) != run_key("q", one)
    assert run_key("p", one) != run_key("p", wish(occasions={**occasions, "more": ""}))
