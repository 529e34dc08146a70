"""Triggers that could never fire, launch nothing, or are made of themselves: told before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.components import load_catalogue
from engine.config.trigger_meaning import check_triggers
from engine.errors import Problem
from engine.spec import TriggerSpec
from engine.spec.monitoring import MonitorSpec

CATALOGUE = load_catalogue(Path(), ("triggers",))


def trigger(kind: str, *, alone: bool = True, **params: Any) -> TriggerSpec:
    return TriggerSpec(kind=kind, params=msgspec.convert(params, CATALOGUE.get("trigger", kind).params), alone=alone)


def problems(triggers: dict[str, TriggerSpec], *monitors: str) -> list[Problem]:
    return list(check_triggers(triggers, {kind: MonitorSpec(kind=kind, params=msgspec.Struct()) for kind in monitors}))


NIGHTLY = trigger("cron", schedule="0 6 * * *")


@pytest.mark.parametrize(
    ("made", "enough"),
    [
        (trigger("drift"), "multivariate"),
        (trigger("drift", of="output"), "prediction"),
        (trigger("drift", of="concept"), "concept"),
        (trigger("performance"), "performance"),
        (trigger("performance", estimated=True), "estimated"),
        (trigger("quality"), "quality"),
    ],
)
def test_a_trigger_needs_a_monitor_that_reads_for_it(made: TriggerSpec, enough: str) -> None:
    (problem,) = problems({"one": made}, "staleness")
    assert (problem.path, "would never fire" in problem.message) == ("triggers.one", True)
    assert problems({"one": made}, enough) == []
    assert list(check_triggers({"one": made}, None)) == []  # which monitors there are is told elsewhere


def test_a_part_of_nothing_launches_nothing() -> None:
    part = trigger("manual", alone=False)
    assert [problem.path for problem in problems({"part": part})] == ["triggers.part.alone"]
    assert problems({"part": part, "both": trigger("any", triggers=["part"])}) == []


def test_triggers_that_are_made_of_themselves() -> None:
    circle = {"a": trigger("any", triggers=["b", "nightly"]), "b": trigger("all", triggers=["a"]), "nightly": NIGHTLY}
    assert [problem.path for problem in problems(circle)] == ["triggers.a.triggers", "triggers.b.triggers"]
    chain = {"a": trigger("any", triggers=["b"]), "b": trigger("all", triggers=["nightly"]), "nightly": NIGHTLY}
    assert problems(chain) == []


def test_impossible_schedules_and_zones() -> None:
    found = problems({
        "never": trigger("cron", schedule="0 0 31 2 *"), "wrong": trigger("cron", schedule="61 * * * *"),
        "zone": trigger("cron", schedule="0 6 * * *", timezone="Europe/Berln"),
    })  # fmt: skip
    assert [problem.path for problem in found] == [
        "triggers.never.schedule",
        "triggers.wrong.schedule",
        "triggers.zone.timezone",
    ]
    assert found[2].suggestion == "Europe/Berlin"
