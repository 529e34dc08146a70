"""The compiled sweeps give the integers that the arrays give, on any ranges: in order, late, replaced, empty, huge values."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import polars as pl
import pytest

from engine.features.coverage import Coverage, Queries, Ranges, coverage_of
from engine.features.coverage_compiled import counting_order
from engine.features.joining import join_rows
from engine.features.timeline import Timeline


def world(seed: int) -> tuple[Queries, Ranges, dict[str, Any]]:
    """Some keys' queries by key and time, and ranges of them: ordered or in any order, some empty."""
    chance = np.random.default_rng(seed)
    keys, count, events = int(chance.integers(1, 5)), int(chance.integers(1, 40)), int(chance.integers(0, 60))
    codes = np.sort(chance.integers(0, keys, count)).astype(np.int32)
    times = chance.integers(0, 20, count)
    times = times[np.lexsort((times, codes))].astype(np.int64)
    low = chance.integers(0, count + 1, events)
    high = np.minimum(low + chance.integers(0, 9, events), count)
    if seed % 2:
        low, high = np.sort(low), np.sort(high)
    size = (3, 10**6, 2**40, 2**62)[seed % 4]
    held = {
        "values": chance.integers(-size, size, events),
        "codes": chance.integers(0, 6, events),
        "event_codes": np.sort(chance.choice(codes, events)),  # a piece has no key that nobody asks for
        "moments": chance.integers(-2, 23, events),
        "targets": chance.integers(0, 4, count),
    }
    return Queries(np.arange(count), codes, times), Ranges(low, high), held


def results(coverage: Coverage, ranges: Ranges, held: dict[str, Any]) -> dict[str, list[Any]]:
    count = coverage.count(ranges)
    most = int(count.max(initial=0))
    made = {
        "find": coverage.find(held["event_codes"], held["moments"]),
        "count": count,
        "total": coverage.total(ranges, held["values"], most),
        "spread": coverage.spread(ranges, held["values"], most).view(np.int64),
        "largest": coverage.largest(ranges, held["values"], most),
        "distinct": coverage.distinct(ranges, held["codes"], 6),
        "nth": coverage.nth(ranges, held["codes"], np.minimum(held["targets"], count)),
        **{f"frequent {rank}": coverage.frequent(ranges, held["codes"], rank) for rank in (1, 2, 3)},
    }
    return {name: values.tolist() for name, values in made.items()}


def test_the_compiled_sweeps_give_what_the_arrays_give() -> None:
    for seed in range(120):
        queries, ranges, held = world(seed)
        compiled = results(coverage_of(queries, compiled=True), ranges, held)
        assert compiled == results(coverage_of(queries, compiled=False), ranges, held), seed


def test_the_compiled_sweeps_run_on_several_threads() -> None:
    worlds = [world(seed) for seed in range(40)]
    alone = [results(coverage_of(q, compiled=True), r, held) for q, r, held in worlds]
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(lambda one: results(coverage_of(one[0], compiled=True), one[1], one[2]), worlds * 3))
    assert made == alone * 3


@pytest.mark.parametrize("size", [0, 1, 1000])
def test_codes_are_ordered_as_a_stable_sort_orders_them(size: int) -> None:
    codes = np.random.default_rng(size).integers(0, 50, size).astype(np.int32)
    assert counting_order(codes).tolist() == np.argsort(codes, kind="stable").tolist()


def test_pieces_above_the_limit_give_the_same_as_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many pieces on compiled sweeps against one piece on arrays."""
    chance = np.random.default_rng(3)
    held, asked = chance.integers(0, 300, 4000).astype(np.int32), chance.integers(-1, 300, 3000).astype(np.int32)
    time, times = np.sort(chance.integers(0, 10**6, 4000)), chance.integers(0, 10**6, 3000)
    forever = np.full(4000, 2**62)

    def counts(piece: int, limit: int) -> list[int]:
        monkeypatch.setattr("engine.features.joining.PIECE", piece)
        monkeypatch.setattr("engine.features.joining.COMPILED_FROM", limit)

        line = Timeline(pl.DataFrame({"x": time}), time, time, forever)
        made = np.full(3000, -1)

        def put(part: Any) -> None:
            ranges = part.within(200_000)
            made[part.queries.row] = part.coverage.count(ranges)

        join_rows(line, times, asked, held).each_piece(put)
        return made.tolist()

    assert counts(100, 1) == counts(10**9, 10**9)
