"""The line between a node and the run it belongs to: events go out, a cancellation comes in.

A `Link` is an argument of `run_node`. `LocalLink` serves the embedded scheduler; `cluster.ClusterLink`, which is
picklable, serves Dask workers elsewhere. `Narrator` words the events of one node.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from engine.clock import Clock, isoformat
from engine.execute.request import Observer
from engine.execute.seats import Seats, Stops
from engine.execute.wire import Failed, Finished
from engine.records import Event, NodeResult

_PART = "part"
FINAL_STATES = frozenset({"ran", "cached", "failed", "skipped", "cancelled"})


class Cancellation:
    """A switch that goes one way. Waiting on it costs no polling: its descriptor becomes readable."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        self._cancelled = False  # no event: it holds a lock, for which a second signal would wait within the first

    @property
    def descriptor(self) -> int:
        """What becomes readable when cancelled; for selectors."""
        return self._reader

    def cancel(self) -> None:
        """Cancel; safe in a signal handler and any number of times."""
        if not self._cancelled:
            self._cancelled = True
            if self._writer >= 0:
                os.write(self._writer, b"!")

    def is_cancelled(self) -> bool:
        """Say whether it was cancelled."""
        return self._cancelled

    def wait(self, seconds: float) -> bool:
        """Wait that long or until cancelled; says which (true: cancelled)."""
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        return bool(poll.poll(max(seconds, 0) * 1000))

    def close(self) -> None:
        """Give the descriptors back; nobody may wait any more."""
        reader, writer = self._reader, self._writer
        self._reader = self._writer = -1
        os.close(reader)
        os.close(writer)


class Division(Protocol):
    """Parts of one body that are being run."""

    def poll(self) -> Sequence[Finished | Failed | None] | None:
        """What the parts gave, in their order, once all have ended (`None`: it was stopped); the first that fails ends the others."""
        ...

    def cancel(self) -> None:
        """End all parts; returns when none runs here any more."""
        ...


class Link(Protocol):
    """What a node sees of its run."""

    def emit(self, event: Event) -> None:
        """Pass an event on; never raises."""
        ...

    def is_cancelled(self) -> bool:
        """Say whether the run wants this node no more."""
        ...

    def wait(self, seconds: float) -> bool:
        """Wait that long or until cancelled; says which (true: cancelled)."""
        ...

    def descriptor(self) -> int | None:
        """What becomes readable when cancelled; `None` when `is_cancelled` must be asked from time to time."""
        ...

    def slots(self) -> int:
        """How many nodes run side by side where this one runs."""
        ...

    def worker(self) -> str:
        """Name the process that runs this node."""
        ...

    def occupy(self, threads: int) -> AbstractContextManager[None]:
        """Hold so many of the machine's threads for a while; waits until they are free."""
        ...

    def why_cancelled(self) -> str:
        """Say in a word or two why this node was stopped."""
        ...

    def beside(self) -> int:
        """How many parts of a node run side by side and share one machine's memory; 0: a node does its parts itself."""
        ...

    def divide(self, tasks: Sequence[PartTask], link: Link | None = None) -> Division:
        """Run the parts of a node side by side, each with this link, or with `link`."""
        ...


PartTask: TypeAlias = Callable[[Link], Finished | Failed | None]
"""One part of a body, to be run by whoever has a link; picklable."""


class LocalLink:
    """The link inside one process. An observer that raises cancels the run; `execute` raises its error afterwards."""

    def __init__(self, observer: Observer, cancellation: Cancellation, slots: int, seats: Seats | None = None) -> None:
        self._observer = observer
        self._seats = seats
        self._cancellation = cancellation
        self._slots = slots
        self._gate = threading.Semaphore(slots)
        self._lock = threading.Lock()
        self._told: dict[str, str] = {}
        self.failure: Exception | None = None

    def emit(self, event: Event) -> None:
        """Pass an event to the observer, one at a time."""
        with self._lock:
            if event.event == "node" and event.node is not None and event.state is not None:
                self._told[event.node] = event.state
            if self.failure is not None:
                return
            try:
                self._observer.on_event(event)
            except Exception as error:  # noqa: BLE001 - kept, and raised by `execute`
                self.failure = error
                self._cancellation.cancel()

    def last_state(self, node: str) -> str | None:
        """The state that was last told of a node."""
        return self._told.get(node)

    def is_cancelled(self) -> bool:
        """Say whether the run was cancelled."""
        return self._cancellation.is_cancelled()

    def wait(self, seconds: float) -> bool:
        """Wait that long or until cancelled."""
        return self._cancellation.wait(seconds)

    def descriptor(self) -> int:
        """What becomes readable when cancelled."""
        return self._cancellation.descriptor

    def slots(self) -> int:
        """How many nodes run side by side."""
        return self._slots

    def worker(self) -> str:
        """Name this process."""
        return f"embedded:{os.getpid()}"

    def occupy(self, threads: int) -> AbstractContextManager[None]:
        """Hold threads; without a limit there is nothing to wait for."""
        return nullcontext() if self._seats is None else self._seats.hold(threads, self.is_cancelled)

    def why_cancelled(self) -> str:
        """Only a person stops a whole run."""
        return "interrupted"

    def beside(self) -> int:
        """As many parts as nodes, all nodes together."""
        return self._slots if self._slots > 1 else 0

    def divide(self, tasks: Sequence[PartTask], link: Link | None = None) -> Division:
        """Run the parts in children of this process."""
        from engine.execute.division import LocalDivision  # noqa: PLC0415 - a no-op run needs none of it

        stops = Stops()
        own = StoppableLink(link or self, stops, _PART)
        return LocalDivision(tasks, own, lambda: stops.stop(_PART, "the node has ended"), self._gate)


@dataclass(frozen=True, slots=True)
class StoppableLink:
    """A link of one node that can also be stopped alone."""

    link: Link
    stops: Stops
    node: str

    def emit(self, event: Event) -> None:
        """Pass an event on."""
        self.link.emit(event)

    def is_cancelled(self) -> bool:
        """Say whether the node, or the whole run, was stopped."""
        return self.stops.reason(self.node) is not None or self.link.is_cancelled()

    def wait(self, seconds: float) -> bool:
        """Wait that long or until the run is cancelled."""
        return self.is_cancelled() or self.link.wait(seconds) or self.is_cancelled()

    def descriptor(self) -> None:
        """Nothing to wait for: `is_cancelled` is asked."""

    def slots(self) -> int:
        """How many nodes run side by side."""
        return self.link.slots()

    def worker(self) -> str:
        """Name the process."""
        return self.link.worker()

    def occupy(self, threads: int) -> AbstractContextManager[None]:
        """Hold threads."""
        return self.link.occupy(threads)

    def why_cancelled(self) -> str:
        """Give the reason of the stop."""
        return self.stops.reason(self.node) or self.link.why_cancelled()

    def beside(self) -> int:
        """How many parts run side by side."""
        return self.link.beside()

    def divide(self, tasks: Sequence[PartTask], link: Link | None = None) -> Division:
        """Run parts that are stopped when this node is."""
        return self.link.divide(tasks, link or self)


@dataclass(frozen=True, slots=True)
class Narrator:
    """Words the events of one node (or, without a node, of the run)."""

    link: Link
    clock: Clock
    run_id: str
    node: str | None = None

    def run(self, state: str, message: str) -> None:
        """Tell how the run as a whole stands."""
        self.link.emit(Event(at=self.now(), run_id=self.run_id, event="run", state=state, message=message))

    def state(self, state: str, message: str = "") -> None:
        """Tell a state that is not the end."""
        self.link.emit(
            Event(at=self.now(), run_id=self.run_id, event="node", node=self.node, state=state, message=message)
        )

    def end(self, result: NodeResult) -> None:
        """Tell how a node ended."""
        rows = result.output.notes.get("rows") if result.output else None
        self.link.emit(
            Event(
                at=self.now(),
                run_id=self.run_id,
                event="node",
                node=result.name,
                state=result.state,
                message=result.error or result.reason,
                level="error" if result.state == "failed" else "info",
                rows=rows if isinstance(rows, int) else None,
                done=1.0 if result.state in {"ran", "cached"} else None,
                seconds=result.seconds,
                result=result,
            )
        )

    def metric(self, step: int, value: float) -> None:
        """Tell an intermediate metric."""
        event = Event(at=self.now(), run_id=self.run_id, event="metric", node=self.node, step=step, value=value)
        self.link.emit(event)

    def progress(self, message: str, rows: int | None, done: float | None) -> None:
        """Tell how far the node has come."""
        event = Event(
            at=self.now(), run_id=self.run_id, event="progress", node=self.node, message=message, rows=rows, done=done
        )
        self.link.emit(event)

    def log(self, level: Literal["debug", "info", "warning", "error"], message: str) -> None:
        """Pass a line on."""
        self.link.emit(
            Event(at=self.now(), run_id=self.run_id, event="log", node=self.node, message=message, level=level)
        )

    def now(self) -> str:
        """The moment, in RFC 3339."""
        return isoformat(self.clock.now())
