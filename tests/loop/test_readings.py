"""Monitors' readings as triggers see them: what counts, for which model, known when; and what triggers make of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.clock import isoformat
from engine.components import load_catalogue
from engine.locations import Stores
from engine.loop.readings import measured, read_readings
from engine.loop_contracts import Measured, Opinion, Serving, View
from engine.project import Project
from engine.spec import SettingsSpec
from engine.watch.readings import Readings
from engine.watch_records import Finding, Reading

START = datetime(2024, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def reading(day: int, *findings: Finding, kind: str = "drift", status: str = "ok", **changes: Any) -> Reading:
    end = START + (day + 1) * DAY
    base = Reading(
        pipeline="p", monitor=kind, kind=kind, chunk=f"{day:02d}", start=isoformat(end - DAY), end=isoformat(end), rows=500,
        status=status, findings=findings, model="m@1", at=isoformat(end),  # type: ignore[arg-type]
    )  # fmt: skip
    return msgspec.structs.replace(base, **changes)


def moved(psi: float, status: str = "ok", name: str = "x") -> Finding:
    return Finding(name=name, status=status, effect=psi / 2, distances={"psi": psi})  # type: ignore[arg-type]


@pytest.fixture
def stores(tmp_path: Path) -> Stores:
    return Stores(Project(tmp_path), SettingsSpec())


def seen(stores: Stores, day: int, model: str | None = "m@1") -> tuple[Measured, ...]:
    return measured(read_readings(stores, "p", START + day * DAY, 1), model)


def trigger(kind: str, **params: Any) -> Any:
    component = load_catalogue(Path(), ("triggers",)).get("trigger", kind)
    return component.build(msgspec.convert(params, component.params))


def judged(kind: str, items: tuple[Measured, ...], now: int, before: Opinion | None = None, **params: Any) -> Opinion:
    version = params.pop("version", 1)
    serving = Serving(version, START)
    cursor = before.cursor if before is not None else {}
    found: Opinion = trigger(kind, **params).judge(View(START + now * DAY, cursor, items, serving=serving))
    return found


def test_what_was_read_later_and_what_is_about_another_model_is_not_seen(stores: Stores) -> None:
    late = reading(1, moved(0.4), at=isoformat(START + 9 * DAY))
    other = reading(2, moved(0.5), model="m@2")
    Readings(stores.database).record([reading(0, moved(0.1)), late, other], [], [])
    assert [item.sizes["psi"] for item in seen(stores, 5)] == [0.1]
    assert [item.sizes["psi"] for item in seen(stores, 10)] == [0.1, 0.4]
    assert [item.sizes["psi"] for item in seen(stores, 10, None)] == [0.1, 0.4, 0.5]
    assert seen(stores, 0) == ()


def test_a_performance_reading_counts_labelled_rows(stores: Stores) -> None:
    auc = Finding(name="roc_auc", status="ok", now=0.7, details={"rows": 120})
    Readings(stores.database).record([reading(0, auc, kind="performance", slice="country=ch")], [], [])
    (item,) = seen(stores, 3)
    assert (item.kind, item.what, item.value, item.rows, item.slice) == (
        "performance",
        "roc_auc",
        0.7,
        120,
        "country=ch",
    )
    assert not judged("performance", (item,), 3, metric="roc_auc", minimum=0.8).fired
    assert judged("performance", (item,), 3, metric="roc_auc", minimum=0.8, slice="country=ch").fired
    assert not judged("performance", (item,), 3, metric="roc_auc", minimum=0.8, slice="country=ch", min_rows=121).fired


def test_each_kind_of_reading_reaches_its_trigger(stores: Stores) -> None:
    bad = {"status": "alarm"}
    kinds = [
        reading(0, moved(0.3, "alarm"), kind=kind, **bad) for kind in ("drift", "prediction", "concept", "quality")
    ]
    Readings(stores.database).record(kinds, [], [])
    items = seen(stores, 2)
    fired = {of: judged("drift", items, 2, of=of) for of in ("input", "output", "concept")}
    assert all(opinion.fired and opinion.intent == "train" for opinion in fired.values())
    assert judged("quality", items, 2).intent == "diagnose"
    assert judged("drift", items, 2, columns=["y"]).fired is False


def day_of(day: int, psi: float) -> Measured:
    return Measured("drift", "x", START + (day + 1) * DAY, psi / 2, "ok", 500, None, "drift", {"psi": psi})


def test_enter_and_exit_are_apart_and_what_has_no_such_size_counts_as_nothing() -> None:
    pairs = Measured("drift", "correlations", START + DAY, 0.9, "alarm", 500)
    limits = {"enter": 0.2, "exit": 0.1}
    first = judged("drift", (day_of(0, 0.25), pairs), 1, **limits)
    assert first.fired
    between = judged("drift", (day_of(0, 0.25), day_of(1, 0.15)), 2, first, **limits)
    assert (between.fired, between.cursor["inside"]) == (False, True)
    over = judged("drift", (day_of(1, 0.15), day_of(2, 0.05)), 3, between, **limits)
    assert (over.fired, over.cursor["inside"]) == (False, False)
    assert judged("drift", (day_of(2, 0.05), day_of(3, 0.3)), 4, over, **limits).fired


def test_k_of_n_chunks_are_needed() -> None:
    items = (day_of(0, 0.3), day_of(1, 0.0), day_of(2, 0.3))
    assert judged("drift", items, 3, enter=0.2, k=2, n=3).fired
    assert not judged("drift", items[1:], 3, enter=0.2, k=2, n=2).fired


def test_what_stays_bad_fires_again_after_a_while_and_for_another_model_at_once() -> None:
    first = judged("drift", (day_of(0, 0.3),), 1, enter=0.2)
    later = tuple(day_of(day, 0.3) for day in range(9))
    assert not judged("drift", later[:4], 4, first, enter=0.2).fired
    again = judged("drift", later[:9], 9, first, enter=0.2)
    assert again.fired
    assert again.occasion != first.occasion
    assert not judged("drift", later[:1], 9, first, enter=0.2).fired  # no newer chunk
    assert not judged("drift", later[:9], 9, first, enter=0.2, again=None).fired
    assert judged("drift", later[:2], 2, first, enter=0.2, version=2).fired


@pytest.mark.parametrize(
    "params",
    [{"of": "output", "columns": ["x"]}, {"of": "concept", "enter": 0.1}, {"exit": 0.1}, {"enter": 0.1, "exit": 0.2}, {"k": 3, "n": 2}],
)  # fmt: skip
def test_contradictory_declarations_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        trigger("drift", **params)
