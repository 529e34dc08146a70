"""Tell people of alerts: once each, by every notifier that asked; one that is down is tried again and breaks nothing.

Enters: changes of alerts, a declaration. Leaves: deliveries, sent or waiting in the state database. Called by `engine monitor`
after readings are recorded, so what could not be sent is never lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from engine.api import Declared
from engine.watch.alerts import Change
from engine.watch.readings import Readings
from engine.watch_records import Alert, Delivery

_RANK = {"info": 0, "warning": 1, "critical": 2}
_TOLD = frozenset({"opened", "resolved"})
MAX_ATTEMPTS = 20


class Notifier(Protocol):
    """Tells of one alert; raises anything when it could not."""

    def send(self, alert: Alert, event: str) -> None:
        """Send; returns when the message was taken."""
        ...


def messages(declared: Declared, changes: Sequence[Change]) -> list[Delivery]:
    """Say who is to be told of which change; an acknowledged alert tells nobody until it is resolved.

    What no monitor raised (quarantined data, a promotion that was taken back) is told to everybody.
    """
    found = []
    for change in changes:
        spec = declared.spec.monitors.get(change.alert.monitor)
        if change.event not in _TOLD:
            continue
        for name, notifier in declared.spec.notifiers.items():
            asked = spec is None or not spec.notify or name in spec.notify
            if asked and _RANK[change.alert.severity] >= _RANK[notifier.at_least]:
                found.append(Delivery(alert=change.alert.id, event=change.event, notifier=name, state="waiting"))
    return found


def deliver(declared: Declared, readings: Readings, say: Callable[[str], None]) -> int:
    """Send what is waiting; gives how many messages are still waiting afterwards."""
    left = 0
    for delivery, alert in readings.waiting(declared.spec.name):
        spec = declared.spec.notifiers.get(delivery.notifier)
        if spec is None or delivery.attempts >= MAX_ATTEMPTS:
            left += 1
            continue
        attempt = delivery.attempts + 1
        try:
            notifier: Notifier = declared.catalogue.get("notifier", spec.kind).build(spec.params)
            notifier.send(alert, delivery.event)
        except Exception as error:  # noqa: BLE001 - whatever a notifier does, readings go on
            words = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no more is known'}"
            readings.note_delivery(msgspec.structs.replace(delivery, attempts=attempt, error=words))
            say(
                f"notifier {delivery.notifier} could not tell of alert {alert.id}: {words}; it is tried again next time"
            )
            left += 1
        else:
            readings.note_delivery(msgspec.structs.replace(delivery, state="delivered", attempts=attempt, error=""))
    return left
