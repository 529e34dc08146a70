"""A process that pushes events until it is killed, and says which pushes were acknowledged. Run by the kill tests."""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl

from engine.components import load_catalogue
from engine.features.program import FeatureProgram, compile_program
from engine.online.opening import open_cells, register
from engine.spec import SpineSpec
from tests.features.worlds import EVENT, REQUEST, Setting, sources_of, to_frame, typed

FEATURES = {
    "total": {"from": "ev", "of": "n", "agg": "sum", "window": "52w"},
    "everywhere": {"from": "ev", "of": "n", "agg": "count", "window": "52w", "by": []},
    "by_j": {"from": "ev", "of": "n", "agg": "count", "window": "52w", "by": ["j"]},
    "latest": {"lookup": "ev.n"},
}


def program() -> FeatureProgram:
    spine = SpineSpec(source="ev", request=REQUEST)
    return compile_program(typed(FEATURES), spine, None, sources_of(Setting())).program


def events(writer: int, first: int, count: int) -> pl.DataFrame:
    """Events `first` to `first + count` of a writer; every fifth is a later version of the one before."""
    rows = []
    for number in range(first, first + count):
        id_ = writer * 10**9 + (number - 1 if number % 5 == 4 else number)
        rows.append({"t": number, "a": number, "id": id_, "k": f"key{number % 7}", "j": number % 3, "v": 0.5, "n": number,
                     "s": "a", "b": True})  # fmt: skip
    return to_frame(rows, EVENT)


def main() -> None:
    url, name, writer, first = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    cells = open_cells(url, name, load_catalogue(Path(__file__), ("state_stores",)))
    state = register(cells, program(), "2024-01-01T00:00:00Z")
    while True:
        count = 1 + first % 4
        state.push("ev", events(writer, first, count))
        first += count
        sys.stdout.write(f"{first}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
