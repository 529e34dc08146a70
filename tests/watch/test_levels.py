"""The levels of all monitors add up to that of the chunk."""

from __future__ import annotations

import pytest

from engine.spec.base import Spec
from engine.spec.monitoring import DEFAULT_MONITORS, MonitorSpec
from engine.watch.levels import UNTESTED, level_for, level_of_slice


class Nothing(Spec, frozen=True):
    """No parameters."""


def monitors(**levels: float) -> dict[str, MonitorSpec]:
    return {
        name: MonitorSpec(kind=item["kind"], params=Nothing(), level=levels.get(name))
        for name, item in DEFAULT_MONITORS.items()
    }


def test_the_parts_add_up() -> None:
    every = monitors()
    tested = [name for name, spec in every.items() if spec.kind not in UNTESTED and spec.kind != "quality"]
    assert sum(level_for(name, every, 0.05) for name in tested) == pytest.approx(0.05)
    assert level_for("quality", every, 0.05) == level_for("drift", every, 0.05)
    one = {"drift": every["drift"]}
    assert level_for("drift", one, 0.05) == pytest.approx(0.05)


def test_a_level_of_ones_own_is_kept_and_two_of_a_kind_share() -> None:
    assert level_for("drift", monitors(drift=0.2), 0.05) == 0.2
    every = monitors()
    twice = {**every, "more": every["drift"]}
    assert level_for("more", twice, 0.05) == pytest.approx(level_for("drift", every, 0.05) / 2)
    assert level_of_slice(0.04, 4) == pytest.approx(0.005)
