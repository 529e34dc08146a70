"""How a sweep is shown: a line a trial, events as JSON, a live table with the best on top."""

from __future__ import annotations

import io
import json

from rich.console import Console

from engine.records import Event, TunedMetric
from engine.sweep_records import TrialRecord
from engine.sweeps.display import LineDisplay, LiveDisplay, NdjsonDisplay


def trial(number: int, value: float | None, state: str = "succeeded", error: str | None = None) -> TrialRecord:
    tuned = (TunedMetric(name="roc_auc", value=value),) if value is not None else ()
    params = {"train.rounds": str(number)}
    made = {
        "number": number,
        "run_id": str(number + 5),
        "state": state,
        "params": params,
        "tuned": tuned,
        "error": error,
    }
    return TrialRecord(**made)  # type: ignore[arg-type]


def test_each_trial_that_ends_is_a_line_with_the_best_so_far() -> None:
    stream = io.StringIO()
    shown = LineDisplay(stream, quiet=False)
    for item in (trial(0, None, "planned"), trial(0, 0.7), trial(1, None, "failed", "no rows\nmore"), trial(2, 0.8)):
        shown.on_trial(item)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert "failed: train.rounds=1: no rows; best: trial 0" in lines[1]
    assert lines[2].endswith("best: trial 2, roc_auc 0.80000")


def test_quiet_says_nothing() -> None:
    stream = io.StringIO()
    LineDisplay(stream, quiet=True).on_trial(trial(0, 0.7))
    assert stream.getvalue() == ""


def test_trials_are_events_too() -> None:
    stream = io.StringIO()
    shown = NdjsonDisplay(stream)
    shown.on_trial(trial(3, 0.7))
    event = json.loads(stream.getvalue())
    assert (event["event"], event["step"], event["value"], event["run_id"]) == ("trial", 3, 0.7, "8")


def test_the_live_table_has_the_best_on_top_and_what_runs_below() -> None:
    shown = LiveDisplay(io.StringIO())
    shown._start = lambda: None  # type: ignore[method-assign]
    for item in (trial(0, 0.7), trial(1, 0.9), trial(2, None, "planned")):
        shown.on_trial(item)
    shown.on_event(Event(at="", run_id="x", event="progress", node="train#2", message="round 4 of 9"))
    console = Console(file=io.StringIO(), width=120)
    console.print(shown.render())
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert "0.90000" in lines[1]
    assert "0.70000" in lines[2]
    assert "2 of 3 trials ended; train#2: round 4 of 9" in " ".join(lines)
