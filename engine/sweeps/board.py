"""Who hears the events of a merged DAG: gives each node's end to every trial that uses it, and says when a trial is done.

A node that several trials share is told as `ran` by the trial that owns it and as `cached` by the others, so that what was
executed can be counted over all journals. Called by `batch`, which is told of each trial's end through `ended`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from engine.execute.journal import Journal
from engine.execute.link import FINAL_STATES
from engine.execute.request import Observer
from engine.records import Event, NodeResult
from engine.sweeps.merging import Merged

Ended = Callable[[int, Mapping[str, NodeResult], Mapping[int, float]], None]
"""`ended(trial, results by own name, intermediate metrics by step)`."""


@dataclass(frozen=True, slots=True)
class TrialRun:
    """What a trial's run is called, and which of its nodes are wanted."""

    number: int
    run_id: str
    wanted: frozenset[str]


@dataclass
class Board:
    """Splits the events of one batch by trial."""

    merged: Merged
    runs: Mapping[int, TrialRun]
    journal: Journal
    display: Observer
    ended: Ended
    metric: Callable[[int, str, int, float], None]
    executed: int = 0
    events: dict[int, list[Event]] = field(default_factory=dict)
    results: dict[int, dict[str, NodeResult]] = field(default_factory=dict)
    measured: dict[int, dict[int, float]] = field(default_factory=dict)
    _done: set[int] = field(default_factory=set)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def on_event(self, event: Event) -> None:
        """Write down, show, and pass on; a trial whose last node has ended is ended."""
        self.journal.on_event(event)
        self.display.on_event(event)
        if event.node is None or event.node not in self.merged.users:
            return
        with self._lock:
            if event.event == "metric" and event.step is not None and event.value is not None:
                for number in self.merged.users[event.node]:
                    self.measured.setdefault(number, {})[event.step] = event.value
                    self.metric(number, event.node, event.step, event.value)
            if event.result is not None and event.result.state in FINAL_STATES:
                self.settle(event.result)
            else:
                owner = self.merged.users[event.node][0]
                self._note(owner, event)

    def settle(self, result: NodeResult) -> None:
        """Give a node's end to its trials; the second time changes nothing."""
        with self._lock:
            owner, *_ = users = self.merged.users[result.name]
            self.executed += result.state == "ran" and result.name not in self._own(owner, result.name)
            for number in users:
                own = self.merged.own_name(number, result.name)
                if own in self.results.setdefault(number, {}):
                    continue
                told = msgspec.structs.replace(result, name=own)
                if number != owner and result.state == "ran":
                    reason = f"computed once for this sweep, by run {self.runs[owner].run_id}"
                    told = msgspec.structs.replace(
                        told, state="cached", reason=reason, seconds=0.0, attempts=0, peak_bytes=None, worker=None
                    )
                self.results[number][own] = told
                self._note(number, _told(told, result))
                self._end(number)

    def _own(self, owner: int, name: str) -> Sequence[str]:
        """Give the merged name in a sequence when its owner was told of its end already."""
        own = self.merged.own_name(owner, name)
        return (name,) if own in self.results.get(owner, {}) else ()

    def _note(self, number: int, event: Event) -> None:
        run = self.runs[number]
        node = self.merged.own_name(number, str(event.node))
        self.events.setdefault(number, []).append(msgspec.structs.replace(event, node=node, run_id=run.run_id))

    def _end(self, number: int) -> None:
        if number not in self._done and self.runs[number].wanted <= self.results[number].keys():
            self._done.add(number)
            self.ended(number, self.results[number], self.measured.get(number, {}))


def _told(result: NodeResult, merged: NodeResult) -> Event:
    rows = result.output.notes.get("rows") if result.output else None
    return Event(
        at=merged.started_at or "",
        run_id="",
        event="node",
        node=merged.name,
        state=result.state,
        message=result.error or result.reason,
        level="error" if result.state == "failed" else "info",
        rows=rows if isinstance(rows, int) else None,
        seconds=result.seconds,
        result=result,
    )
