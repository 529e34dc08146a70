"""Who is best, and who is beaten by nobody."""

from __future__ import annotations

from engine.records import TunedMetric
from engine.sweep_records import TrialRecord
from engine.sweeps.ranking import pareto_front, rank_trials


def trial(number: int, *values: float | None, higher: bool = True, state: str = "succeeded") -> TrialRecord:
    tuned = tuple(TunedMetric(name=f"m{i}", value=value, higher_is_better=higher) for i, value in enumerate(values))
    return TrialRecord(number=number, state=state, tuned=tuned)  # type: ignore[arg-type]


def test_the_best_comes_first_ties_by_number_and_what_has_no_value_last() -> None:
    trials = [trial(0, 0.5), trial(1, None), trial(2, 0.7), trial(3, 0.9, state="failed"), trial(4, 0.7)]
    ranked = rank_trials(trials)
    assert [(item.number, item.rank) for item in ranked] == [(2, 1), (4, 2), (0, 3), (1, None), (3, None)]
    assert rank_trials(list(reversed(trials))) == ranked


def test_lower_can_be_better() -> None:
    assert rank_trials([trial(0, 0.5, higher=False), trial(1, 0.2, higher=False)])[0].number == 1


def test_a_trial_that_is_beaten_in_everything_is_no_trade_off() -> None:
    assert pareto_front([trial(0, 1.0, 5.0), trial(1, 2.0, 1.0), trial(2, 0.5, 4.0), trial(3, 1.0, 5.0)]) == (0, 1, 3)
    assert pareto_front([trial(0, 1.0, None), trial(1, float("nan"), 1.0)]) == ()
