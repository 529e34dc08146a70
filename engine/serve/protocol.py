"""uvicorn's HTTP protocol with what it lacks: limits on how large the head of a request may be, and how slow a request.

Called by uvicorn for every connection. Without it, a client that sends a line a minute holds a connection for ever. And
uvicorn writes an answer's head and its body one after the other: here they leave together, since each costs a system call.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 32 << 10
HEAD_SECONDS = 10.0
BODY_SECONDS = 10.0
_ANSWER = b"HTTP/1.1 %s\r\ncontent-type: application/problem+json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s"


class JoinedWrites:
    """A transport that sends at once what is written in one turn of the loop; anything else is the transport's own."""

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._written: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        """Give what the transport has."""
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write by the end of this turn."""
        if not self._written:
            self._loop.call_soon(self.flush)
        self._written.append(data)

    def flush(self) -> None:
        """Write now."""
        if self._written:
            written, self._written = self._written, []
            self._transport.write(b"".join(written))

    def close(self) -> None:
        """Close after what was written."""
        self.flush()
        self._transport.close()


class LimitedProtocol(HttpToolsProtocol):
    """Closes connections whose request heads are too long, or whose heads or bodies do not arrive in time.

    A request that arrives whole, as nearly all do, needs no clock.
    """

    _timer: asyncio.TimerHandle | None = None
    _head = 0
    _in_head = True

    def connection_made(self, transport: Any) -> None:
        """Start the clock for the first head."""
        super().connection_made(JoinedWrites(transport, self.loop))  # type: ignore[arg-type]
        self._start()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what comes before a head is whole, and start the clock when something is missing after it."""
        if self._in_head:
            self._head += len(data)
        super().data_received(data)
        if self._head > HEAD_BYTES and self._in_head:
            self._refuse_head()
        elif self._timer is None and (self._head or not self._in_head):
            self._start()

    def on_headers_complete(self) -> None:
        """The head is whole: the body has limits of its own."""
        size = len(self.url) + sum([len(name) + len(value) for name, value in self.headers])
        self._stop()
        self._in_head = False
        if size > HEAD_BYTES:
            self._refuse_head()
            return
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """What comes next is another head."""
        self._stop()
        self._in_head, self._head = True, 0
        if self.cycle is not None:
            super().on_message_complete()

    def on_body(self, body: bytes) -> None:
        """Pass a part of the body on, unless its head was refused."""
        if self.cycle is not None:
            super().on_body(body)

    def _start(self) -> None:
        self._timer = self.loop.call_later(HEAD_SECONDS if self._in_head else BODY_SECONDS, self._too_slow)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        part = b"head of the request" if self._in_head else b"body"
        self._refuse(b"408 Request Timeout", b'{"title":"the %s did not arrive in time","status":408}' % part)

    def _refuse_head(self) -> None:
        self._refuse(
            b"431 Request Header Fields Too Large", b'{"title":"the head of the request is too long","status":431}'
        )

    def _refuse(self, status: bytes, body: bytes) -> None:
        self._stop()
        if self.transport is None or self.transport.is_closing():
            return
        if self._in_head or self.cycle is None or not self.cycle.response_started:  # no second answer to one request
            self.transport.write(_ANSWER % (status, len(body), body))
        self.transport.close()
