"""A request's body, read within limits. Called by the application for every route that takes one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from engine.serve.mistakes import Mistake, RefusedError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


async def read_body(headers: Mapping[bytes, bytes], receive: Receive, most: int) -> bytes:
    """The whole body, as sent; raises `RefusedError` when it is too long, compressed, or cut off.

    `protocol` ends connections whose bodies arrive too slowly.
    """
    length = headers.get(b"content-length", b"")
    if length.isdigit() and int(length[:18]) > most:
        raise _too_long(int(length[:18]), most)
    encoding = headers.get(b"content-encoding", b"")
    if encoding.lower() not in {b"identity", b""}:
        raise RefusedError(415, [Mistake("$", "bodies are sent as they are", encoding.decode("latin-1"), "identity")])
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RefusedError(400, [Mistake("$", "the caller hung up")])
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            raise _too_long(size, most)
        if not message.get("more_body"):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_long(size: int, most: int) -> RefusedError:
    return RefusedError(413, [Mistake("$", f"{size} bytes or more; at most {most} are taken")])
