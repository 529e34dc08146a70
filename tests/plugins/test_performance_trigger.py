"""The trigger `performance` with a `drop`: held against what the model in production reached when it was tested."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from engine.components import load_catalogue
from engine.loop_contracts import Measured, Opinion, Serving, Trigger, View

NOW = datetime(2024, 6, 1, tzinfo=UTC)
ROOT = Path(__file__).parents[2]


def trigger(**values: object) -> Trigger:
    component = load_catalogue(ROOT, ("triggers",)).get("trigger", "performance")
    built: Trigger = component.build(msgspec.convert(values, component.params))
    return built


def judged(by: Trigger, value: float, reached: float | None, metric: str = "roc_auc") -> Opinion:
    serving = Serving(3, NOW - timedelta(days=30), metrics={metric: reached})
    read = Measured("performance", metric, NOW - timedelta(days=1), value, "ok", 1000)
    return by.judge(View(now=NOW, readings=(read,), serving=serving))


@pytest.mark.parametrize(("value", "fired"), [(0.77, False), (0.75, False), (0.749, True)])
def test_the_limit_is_what_this_model_reached_less_the_drop(value: float, fired: bool) -> None:
    opinion = judged(trigger(metric="roc_auc", drop=0.05), value, 0.8)
    assert opinion.fired is fired
    assert "it reached 0.8000 when it was tested" in opinion.why


def test_a_loss_may_rise_by_the_drop() -> None:
    held = trigger(metric="log_loss", drop=0.05)
    assert not judged(held, 0.44, 0.4, "log_loss").fired
    assert judged(held, 0.46, 0.4, "log_loss").fired


def test_a_new_model_brings_its_own_limit() -> None:
    """A bad chunk that the alarm of a monitor calls usual is bad by what the first model reached, and not by what the second did."""
    held = trigger(metric="roc_auc", drop=0.05)
    assert judged(held, 0.7, 0.8).fired
    assert not judged(held, 0.7, 0.72).fired


def test_without_a_record_it_is_quiet_and_says_why() -> None:
    held = trigger(metric="roc_auc", drop=0.05)
    for view in (View(now=NOW), replace(View(now=NOW), serving=Serving(1, NOW))):
        assert "not recorded" in held.judge(view).why


@pytest.mark.parametrize(
    "values",
    [{"drop": 0.1}, {"metric": "roc_auc", "drop": 0.1, "minimum": 0.5}, {"metric": "mood", "drop": 0.1},
     {"metric": "roc_auc", "drop": 0.1, "slice": "a=b"}, {"metric": "roc_auc", "drop": -0.1}],
)  # fmt: skip
def test_a_drop_that_means_nothing_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        trigger(**values)
