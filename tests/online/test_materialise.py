"""Materialising: what changed is brought, once, wherever it is interrupted; the state then equals the snapshot."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from engine.errors import NotFoundError, StoreError
from engine.features.compute import compute
from engine.online import materialise
from engine.online.materialise import Materialiser, Published
from engine.online.memory import MemoryCells
from engine.online.state import EventState
from engine.stores.snapshots import open_snapshots
from tests.features.worlds import EVENT, REQUEST, Setting, bits, crowded, scene, to_frame

FEATURES: dict[str, Any] = {
    "total": {"from": "ev", "of": "n", "agg": "count", "window": "52w"},
    "latest": {"lookup": "ev.s"},
    "by_j": {"from": "ev", "of": "s", "agg": "n_distinct", "window": "52w", "by": ["j"]},
}


class Killed(BaseException):
    """The process is gone."""


class Mortal(MemoryCells):
    """Cells of a process that is killed after some changes."""

    def __init__(self) -> None:
        super().__init__()
        self.lives = 10**9

    def update(self, change: Any) -> None:
        self.lives -= 1
        if self.lives < 0:
            raise Killed
        super().update(change)


def publish(store: Any, folder: Path, objects: dict[str, pl.DataFrame]) -> None:
    """Make `main` hold exactly these objects of the source."""
    store.ensure_repository("data")
    known = {item.path for item in store.list("data", "main", "ev/")}
    for path in known - objects.keys():
        store.remove("data", "main", path)
    for number, (path, frame) in enumerate(sorted(objects.items())):
        file = folder / f"{random.getrandbits(64)}-{number}.parquet"
        frame.write_parquet(file)
        store.put("data", "main", path, file)
    store.commit("data", "main", "more", {})


def cut(rows: list[dict[str, Any]], parts: int, chance: random.Random) -> dict[str, pl.DataFrame]:
    homes = [chance.randrange(parts) for _ in rows]
    return {f"ev/{part}.parquet": to_frame([row for row, home in zip(rows, homes, strict=True) if home == part], EVENT)
            for part in range(parts)}  # fmt: skip


@pytest.mark.parametrize("id_", ["id", None])
@pytest.mark.parametrize("seed", range(3))
def test_the_state_equals_the_snapshot_after_every_commit(
    id_: str | None, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(materialise, "CHUNK", 5)
    chance = random.Random(seed)
    store = open_snapshots(str(tmp_path / "store"))
    rows = [crowded(chance, 0) for _ in range(40)]
    made = scene(FEATURES, rows, [], [], Setting(id=id_))
    cells = Mortal()
    state = EventState(restricted_to_events(made.program), cells)
    asked = [
        {"event_time": moment, "row_id": 0, **{name: crowded(chance, 0)[name] for name in "kjvnsb"}}
        for moment in (4, 9, 20)
    ]
    spine = to_frame(asked, {"event_time": "timestamp", "row_id": "i64", **REQUEST})
    for _ in range(4):
        publish(store, tmp_path, cut(rows, chance.randint(1, 3), chance))
        resumed = False
        while not resumed:
            cells.lives = chance.choice([1, 2, 4, 10**9])
            try:
                done = Materialiser(state, store, {"ev": Published("data", "main")}, lambda *_: None).fill()
                resumed = True
            except Killed:
                pass
        cells.lives = 10**9
        history = {"ev": to_frame(rows, EVENT)}
        assert bits(compute(state.program, spine, state.read(spine))) == bits(compute(state.program, spine, history))
        assert state.watermark("ev").commit == done[0].commit
        again = Materialiser(state, store, {"ev": Published("data", "main")}, lambda *_: None).fill()
        assert (again[0].objects, again[0].added, again[0].removed) == (0, 0, 0)
        rows = chance.sample(rows, len(rows) - 5) + [crowded(chance, 0) for _ in range(9)]


def restricted_to_events(program: Any) -> Any:
    from engine.online.reading import restricted

    return restricted(program, {name for name in program.order if name not in ("all_d", "all_c")})


def test_without_a_snapshot_it_says_what_to_do(tmp_path: Path) -> None:
    made = scene(FEATURES, [], [], [], Setting())
    state = EventState(restricted_to_events(made.program), MemoryCells())
    store = open_snapshots(str(tmp_path / "none"))
    with pytest.raises((NotFoundError, StoreError), match="no snapshot yet"):
        Materialiser(state, store, {"ev": Published("data", "main")}, lambda *_: None).fill()
