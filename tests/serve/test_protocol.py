"""What leaves a connection: heads and bodies together, in order, and nothing lost at its end."""

from __future__ import annotations

import asyncio

from engine.serve.protocol import JoinedWrites


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
