"""A request's body, read within limits. Called by the application for every route that takes one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from engine.serve.mistakes import Mistake, RefusedError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


async def read_body(scope: Scope, receive: Receive, most: int, seconds: float) -> bytes:
    """The whole body, as sent; raises `RefusedError` when it is too long, too slow, compressed, or cut off."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value[:18]) > most:
            raise _too_long(int(value[:18]), most)
        if name == b"content-encoding" and value.lower() not in {b"identity", b""}:
            raise RefusedError(415, [Mistake("$", "bodies are sent as they are", value.decode("latin-1"), "identity")])
    try:
        async with asyncio.timeout(seconds):
            return await _gather(receive, most)
    except TimeoutError:
        raise RefusedError(408, [Mistake("$", f"the body did not arrive within {seconds:g} s")]) from None


async def _gather(receive: Receive, most: int) -> bytes:
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
