"""What a worker process and its child say to each other: length-prefixed JSON over pipes, no pickle.

Down go `Prepare` and `Assignment`, up come `Told`, `Measured`, `Finished` and `Failed`. A body that has its parts run elsewhere
sends `Asked`, and waits for `Answered` or `Declined`. Both ends import this and share no more.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, TypeAlias

import msgspec

IDLE_SECONDS = 60.0
"""A child without work for this long leaves; its owner stops giving it work long before."""

_PREFIX = struct.Struct(">I")


class Message(msgspec.Struct, frozen=True, tag=True):
    """Base of all messages."""


class Prepare(Message, frozen=True):
    """Import these modules now, so that they are there when work comes; failures will show then.

    `components` (role, name) of these `plugins` are asked to import what they will need, beside the first work.
    """

    modules: tuple[str, ...]
    components: tuple[tuple[str, str], ...] = ()
    root: str = ""
    plugins: tuple[str, ...] = ()


class InputFiles(msgspec.Struct, frozen=True):
    """One input: a verified directory."""

    path: str
    digest: str
    notes: dict[str, Any]


class Whereabouts(msgspec.Struct, frozen=True):
    """`contracts.Place` in plain text."""

    root: str
    snapshots: str
    artefacts: str
    plugins: tuple[str, ...]
    threads: int
    run_id: str
    cluster: str | None = None


class Assignment(Message, frozen=True, kw_only=True):
    """Run one body: `body` is "module:function"; `measure` says whether somebody hears intermediate metrics.

    `beside`: how many parts of it would run side by side on one machine; 0 when it has to do them itself, in turn.
    """

    body: str
    node: str
    settings: dict[str, Any]
    inputs: dict[str, InputFiles]
    out: str
    place: Whereabouts
    measure: bool = False
    beside: int = 0


class Told(Message, frozen=True):
    """How far the body has come."""

    message: str
    rows: int | None
    done: float | None


class Measured(Message, frozen=True):
    """An intermediate metric of the body, lower is better; `step` rises."""

    step: int
    value: float


class Finished(Message, frozen=True):
    """The body returned. `peak_bytes` is the most memory that the process held during this body."""

    notes: dict[str, Any]
    peak_bytes: int


class Failed(Message, frozen=True, kw_only=True):
    """The body raised. `text` is for people, `trace` for the log; `retry` says whether another try may help."""

    text: str
    exit_code: int
    retry: bool
    trace: str | None


class Asked(Message, frozen=True):
    """The body wants another one ("module:function") to be run once for each of these settings, in any order."""

    body: str
    parts: tuple[dict[str, Any], ...]


class Answered(Message, frozen=True):
    """What the parts returned, in their order."""

    notes: tuple[dict[str, Any], ...]


class Declined(Message, frozen=True):
    """A part failed, and so does the whole."""

    text: str
    exit_code: int


Down: TypeAlias = Prepare | Assignment | Answered | Declined
Up: TypeAlias = Told | Measured | Finished | Failed | Asked


def encode(message: Message) -> bytes:
    """Frame one message."""
    body = msgspec.json.encode(message)
    return _PREFIX.pack(len(body)) + body


class Frames:
    """Takes bytes as they come, gives whole message bodies.

    >>> frames = Frames()
    >>> data = encode(Told("half", 2, 0.5))
    >>> [*frames.feed(data[:5])], [msgspec.json.decode(body, type=Up) for body in frames.feed(data[5:])]
    ([], [Told(message='half', rows=2, done=0.5)])
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Add bytes and take out the messages that are complete."""
        self._buffer += data
        while len(self._buffer) >= _PREFIX.size:
            end = _PREFIX.size + _PREFIX.unpack_from(self._buffer)[0]
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_PREFIX.size : end])
            del self._buffer[:end]
            yield body
