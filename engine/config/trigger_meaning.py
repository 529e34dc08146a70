"""Triggers that cannot do what they say: impossible schedules, parts that are not there, readings that nobody takes.

Enters: triggers and monitors as declared. Leaves: problems with their path. Called by `meaning`; pure but for the time zone
database.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from engine.config.cron import cron_mistake
from engine.config.wording import nearest
from engine.errors import Problem
from engine.spec import TriggerSpec
from engine.spec.monitoring import MonitorSpec


def check_triggers(
    triggers: Mapping[str, TriggerSpec], monitors: Mapping[str, MonitorSpec] | None
) -> Iterator[Problem]:
    """Find every mistake; `monitors` are absent when it is not known which there are."""
    for name, trigger in triggers.items():
        params: Any = trigger.params
        if trigger.kind == "cron":
            yield from _schedule(f"triggers.{name}", params.schedule, params.timezone)
        for index, part in enumerate(getattr(params, "triggers", ())):
            if part not in triggers or part == name:
                yield Problem(f"triggers.{name}.triggers.{index}", "no other trigger is called so", value=part,
                              allowed=tuple(other for other in triggers if other != name),
                              suggestion=nearest(part, triggers))  # fmt: skip
        needed = _readers(trigger)
        if needed and monitors is not None and not needed & {monitor.kind for monitor in monitors.values()}:
            kinds = " or ".join(f"`{kind}`" for kind in sorted(needed))
            yield Problem(f"triggers.{name}", f"it would never fire: no monitor of the kind {kinds} is declared",
                          hint="write `monitors: default`, or name one under `monitors:`")  # fmt: skip
        if not trigger.alone and not any(name in getattr(other.params, "triggers", ()) for other in triggers.values()):
            yield Problem(f"triggers.{name}.alone", "it would never launch anything: no other trigger is made of it",
                          value="false", hint="name it in an `any` or `all`, or leave `alone` out")  # fmt: skip
    yield from _circles(triggers)


def _readers(trigger: TriggerSpec) -> frozenset[str]:
    """Name the kinds of monitors whose readings a trigger looks at; it needs one of them."""
    params: Any = trigger.params
    if trigger.kind == "drift":
        readers = {"input": {"drift", "multivariate"}, "output": {"prediction"}, "concept": {"concept"}}
        return frozenset(readers[params.of])
    if trigger.kind == "performance":
        return frozenset({"estimated" if params.estimated else "performance"})
    return frozenset({"quality"}) if trigger.kind == "quality" else frozenset()


def _circles(triggers: Mapping[str, TriggerSpec]) -> Iterator[Problem]:
    """Find triggers that are made of themselves, by way of others."""

    def parts(name: str) -> tuple[str, ...]:
        found: tuple[str, ...] = getattr(triggers[name].params, "triggers", ()) if name in triggers else ()
        return found

    for name in triggers:
        reached, waiting = set[str](), [part for part in parts(name) if part != name]
        while waiting:
            part = waiting.pop()
            if part not in reached:
                reached.add(part)
                waiting += parts(part)
        if name in reached:
            yield Problem(f"triggers.{name}.triggers", "it is made of itself, by way of the others that it names",
                          value=", ".join(parts(name)), hint="an `any` or `all` is made of triggers that do not name it")  # fmt: skip


def _schedule(path: str, schedule: str, timezone: str) -> Iterator[Problem]:
    mistake = cron_mistake(schedule)
    if mistake:
        hint = "as in `*/5 * * * *` (every five minutes) or `0 6 * * mon` (Mondays at six)"
        yield Problem(f"{path}.schedule", f"not a cron expression: {mistake}", value=schedule, hint=hint)
    if not _zone_exists(timezone):
        from zoneinfo import available_timezones  # noqa: PLC0415 - reads the whole database

        yield Problem(f"{path}.timezone", "unknown time zone", value=timezone,
                      suggestion=nearest(timezone, available_timezones()),
                      hint="an IANA name, as in Europe/Berlin or UTC")  # fmt: skip


def _zone_exists(name: str) -> bool:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # noqa: PLC0415 - start-up time

    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
