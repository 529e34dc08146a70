"""What every store of cells has to hold: changes are whole, lasting, and as if alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import pytest

from engine.errors import DataError
from engine.online_contracts import Cells, Get

Opener = Callable[[str], Cells]


def put(cells: Cells, writes: Mapping[bytes, bytes | None]) -> None:
    cells.update(lambda _: writes)


def read(cells: Cells, *keys: bytes) -> list[bytes | None]:
    with cells.view() as get:
        return get(keys)


def test_cells_are_written_and_removed(opener: Opener) -> None:
    cells = opener("a")
    put(cells, {b"x1": b"one", b"x2": b"", b"y": b"\x00\xff" * 9})
    assert read(cells, b"x1", b"nothing", b"x2", b"y") == [b"one", None, b"", b"\x00\xff" * 9]
    assert sorted(cells.keys(b"x")) == [b"x1", b"x2"]
    put(cells, {b"x1": None, b"nothing": None})
    assert read(cells, b"x1") == [None]
    assert read(opener("b"), b"y") == [None]  # another pipeline
    cells.clear()
    assert list(cells.keys(b"")) == []


def test_prefixes_are_not_patterns(opener: Opener) -> None:
    cells = opener("a")
    put(cells, {b"*[a": b"1", b"za": b"2", b"\\?": b"3"})
    assert list(cells.keys(b"*")) == [b"*[a"]
    assert list(cells.keys(b"\\")) == [b"\\?"]
    assert list(cells.keys(b"?")) == []


def test_large_values_grow_the_store(opener: Opener) -> None:
    cells = opener("large")
    for number in range(12):
        put(cells, {bytes([number]): bytes([number]) * 700_000})
    assert read(cells, bytes([11])) == [bytes([11]) * 700_000]


def test_a_refused_change_writes_nothing_and_stops_nobody(opener: Opener) -> None:
    cells = opener("a")

    def refuse(get: Get) -> Mapping[bytes, bytes | None]:
        get([b"n"])
        raise DataError("no")

    with pytest.raises(DataError):
        cells.update(refuse)
    put(cells, {b"n": b"1"})
    assert read(cells, b"n") == [b"1"]


def count_up(cells: Cells, times: int) -> None:
    def more(get: Get) -> Mapping[bytes, bytes | None]:
        (old,) = get([b"n"])
        return {b"n": str(int(old or b"0") + 1).encode()}

    for _ in range(times):
        cells.update(more)


def test_concurrent_changes_are_as_if_alone(opener: Opener) -> None:
    cells = opener("count")
    other = opener("count")
    writers = [threading.Thread(target=count_up, args=(one, 25)) for one in (cells, cells, other, other)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert read(cells, b"n") == [b"100"]


def test_the_store_says_what_may_be_lost(opener: Opener, store_url: str) -> None:
    found = opener("a").durability()
    assert (found is None) == (not store_url.startswith("memory"))
