"""A shadow challenger: a process of its own that scores what the champion has answered, so that no caller waits for it.

Rows go through a socket that is never waited for: what does not fit into its buffer is dropped and counted. The process logs
its answers under the arm `shadow`, with the ids of the champion's. Called by the watch.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from engine.clock import to_microseconds
from engine.errors import EngineError
from engine.records import ModelVersion
from engine.serve.children import start_child
from engine.serve.prediction_log import Answered
from engine.serve.schema import Rows

if TYPE_CHECKING:
    from engine.serve.server import Rooms, ServePlan
    from engine.serve.service import Lane

_BUFFER = 8 << 20
_PART = 64  # rows of a message: one has to fit into the socket's buffer whole


class _Message(msgspec.Struct, array_like=True):
    ids: Sequence[str]
    times: Sequence[int]
    columns: dict[str, Sequence[Any]]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Message)


class Shadow:
    """The sending side. `dropped` is told of rows that could not be taken."""

    def __init__(self, plan: ServePlan, version: ModelVersion, dropped: Callable[[int], None]) -> None:
        self._dropped = dropped
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)  # noqa: FBT003 - the library's signature
        with suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        self._child = start_child(run_shadow, (plan, version, theirs), "shadow")
        theirs.close()

    def send(self, rows: Rows) -> None:
        """Offer rows; never waits."""
        for start in range(0, rows.count, _PART):
            part = rows.part(start, start + _PART)
            try:
                self._socket.send(_encoder.encode(_Message(part.ids, part.times, dict(part.columns))))
            except OSError:  # full, too long, or the process is gone
                self._dropped(part.count)

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._child.is_alive()

    def close(self) -> None:
        """Let the process finish what it has taken, and end."""
        self._socket.close()
        self._child.join(10)
        if self._child.is_alive():
            self._child.terminate()


def run_shadow(plan: ServePlan, version: ModelVersion, taking: socket.socket) -> None:
    """The process: score and log until the sender is gone."""
    import signal  # noqa: PLC0415 - the child only

    from engine.serve.server import Rooms  # noqa: PLC0415 - the server imports this module

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # its end is the end of its input
    try:
        rooms = Rooms(plan, version)
    except EngineError as error:
        print(f"shadow {version.name}:{version.version}: {error}", file=sys.stderr, flush=True)
        return
    try:
        _score_all(rooms.maker.open(version, "shadow"), rooms, taking)
    except EngineError as error:
        print(f"shadow {version.name}:{version.version}: {error}", file=sys.stderr, flush=True)
    finally:
        rooms.close()


def _score_all(lane: Lane, rooms: Rooms, taking: socket.socket) -> None:
    try:
        while data := taking.recv(_BUFFER):
            message = _decoder.decode(data)
            rows = Rows(message.ids, message.times, message.columns)
            try:
                scored = lane.scorer.score(rows)
            except (EngineError, ArithmeticError, LookupError, TypeError, ValueError) as error:
                print(f"shadow {lane.served.label}: {error}", file=sys.stderr, flush=True)
                continue
            lane.log.append(
                rows, scored, Answered(to_microseconds(rooms.maker.clock.now()), lane.door.mark(), "shadow")
            )
    finally:
        rooms.maker.close(lane)
