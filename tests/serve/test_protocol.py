"""What a connection takes and gives: whole requests in time; heads and bodies together, in order, nothing lost at its end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvicorn

from engine.serve.protocol import JoinedWrites, LimitedProtocol


class Wire:
    """A transport that remembers."""

    def __init__(self) -> None:
        self.seen: list[bytes | str] = []

    def write(self, data: bytes) -> None:
        self.seen.append(data)

    def close(self) -> None:
        self.seen.append("closed")

    def is_closing(self) -> bool:
        return "closed" in self.seen


def test_a_head_and_its_body_leave_together_in_the_turn_that_wrote_them() -> None:
    async def answer() -> Wire:
        wire = Wire()
        joined = JoinedWrites(wire, asyncio.get_running_loop())
        joined.write(b"head ")
        joined.write(b"body")
        assert not wire.seen
        await asyncio.sleep(0)
        joined.write(b"next")
        await asyncio.sleep(0)
        return wire

    assert asyncio.run(answer()).seen == [b"head body", b"next"]


def test_what_was_written_goes_out_before_the_end() -> None:
    async def answer() -> tuple[Wire, bool]:
        wire = Wire()
        joined = JoinedWrites(wire, asyncio.get_running_loop())
        joined.write(b"last words")
        joined.close()
        await asyncio.sleep(0)
        return wire, joined.is_closing()

    wire, closing = asyncio.run(answer())
    assert wire.seen == [b"last words", "closed"]
    assert closing


async def asked(pieces: list[bytes], application: Any) -> bytes:
    """What a server of this application sends back to these pieces, until it closes the connection."""
    config = uvicorn.Config(application, http=LimitedProtocol, lifespan="off", log_config=None)
    config.load()
    state = uvicorn.server.ServerState()
    door = await asyncio.get_running_loop().create_server(
        lambda: LimitedProtocol(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    async with door:
        reader, writer = await asyncio.open_connection(*door.sockets[0].getsockname())
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.05)
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
    await asyncio.gather(*state.tasks)
    return answer


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the body."""
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message["body"]
        if not message["more_body"]:
            break
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


async def refusing(scope: Any, receive: Any, send: Any) -> None:
    """Answers before the body is there."""
    await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"no"})


HEAD = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n"


def test_a_request_in_pieces_is_answered_and_one_that_never_ends_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.serve.protocol.HEAD_SECONDS", 0.5)
    monkeypatch.setattr("engine.serve.protocol.BODY_SECONDS", 0.5)
    whole = [HEAD[:20], HEAD[20:] + b"connection: close\r\n\r\nab", b"cd"]
    assert asyncio.run(asked(whole, echo)).endswith(b"\r\n\r\nabcd")
    head = asyncio.run(asked([HEAD], echo))
    assert head.startswith(b"HTTP/1.1 408")
    assert b"head of the request did not arrive" in head
    body = asyncio.run(asked([HEAD + b"\r\nab", b"c"], echo))
    assert body.startswith(b"HTTP/1.1 408")
    assert b"the body did not arrive" in body


def test_a_second_request_is_timed_as_the_first_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.serve.protocol.BODY_SECONDS", 0.3)
    answers = asyncio.run(asked([HEAD + b"\r\nabcd", HEAD + b"\r\nef"], echo))
    assert answers.count(b"HTTP/1.1 200") == answers.count(b"HTTP/1.1 408") == 1


def test_what_was_answered_already_gets_no_second_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.serve.protocol.BODY_SECONDS", 0.3)
    answers = asyncio.run(asked([HEAD + b"\r\nab"], refusing))
    assert answers.count(b"HTTP/1.1") == 1
    assert answers.endswith(b"no")
