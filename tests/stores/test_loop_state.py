"""The loop's state on every database: one tick wins, a claim has one holder, the ledger chains, kill -9 loses nothing."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from engine.errors import ConflictError, LockedError, NotFoundError, StoreError
from engine.loop_records import LoopDecision, RunRequest, TriggerMemory
from engine.stores.database import Database, open_database
from engine.stores.loop_state import LoopState

NOW = datetime(2024, 6, 1, tzinfo=UTC)
LEASE = timedelta(minutes=1)
KILLS = int(os.environ.get("PLUMBLINE_TICK_KILLS", "8"))
ROUNDS = int(os.environ.get("PLUMBLINE_TICK_ROUNDS", "3"))

TICK = """\
import sys
from engine.loop_records import LoopDecision, RunRequest, TriggerMemory
from engine.stores.database import open_database
from engine.stores.loop_state import LoopState
import msgspec

state = LoopState(open_database(sys.argv[1]))
print("ready", flush=True)
for line in sys.stdin:
    slot = line.strip()
    memory = state.memories().get("p", TriggerMemory(pipeline="p"))
    if memory.cursors.get("nightly", {}).get("slot", "") >= slot:
        print("seen", flush=True)
        continue
    after = msgspec.structs.replace(memory, cursors={"nightly": {"slot": slot}})
    decision = LoopDecision(pipeline="p", at="2024-06-01T00:00:00.000000Z", action="launch", why=slot, request=slot)
    request = RunRequest(key=slot, pipeline="p", kind="train", reasons={"nightly": slot}, created_at=slot)
    print("won" if state.commit(memory, after, decision, request) else "lost", flush=True)
"""


def request(key: str = "k", **changes: Any) -> RunRequest:
    base = RunRequest(key=key, pipeline="p", kind="train", reasons={"a": "w"}, created_at="2024-06-01T00:00:00.000000Z")
    return msgspec.structs.replace(base, **changes)


def decision(why: str = "w", **changes: Any) -> LoopDecision:
    base = LoopDecision(pipeline="p", at="2024-06-01T00:00:00.000000Z", action="launch", why=why)
    return msgspec.structs.replace(base, **changes)


def fresh(**changes: Any) -> TriggerMemory:
    return msgspec.structs.replace(TriggerMemory(pipeline="p"), **changes)


@pytest.fixture
def state(database: Database) -> LoopState:
    return LoopState(database)


def test_what_was_committed_is_there(state: LoopState) -> None:
    assert state.memories() == {}
    assert state.commit(fresh(), fresh(cursors={"a": {"slot": "1"}}), decision(), request())
    memory = state.memories()["p"]
    assert (memory.version, memory.cursors) == (1, {"a": {"slot": "1"}})
    assert [item.key for item in state.open_requests()] == ["k"]
    assert [entry.decision.why for entry in state.history("p")] == ["w"]
    assert state.verify() == []


def test_whoever_read_an_older_memory_writes_nothing(state: LoopState) -> None:
    assert state.commit(fresh(), fresh(paused="x"), None, None)
    assert not state.commit(fresh(), fresh(), decision(), request())
    read = state.memories()["p"]
    assert state.commit(read, fresh(paused="y"), None, None)
    assert not state.commit(read, fresh(), decision(), request())
    assert (state.open_requests(), state.history("p")) == ([], [])
    assert state.memories()["p"].paused == "y"


def test_an_occasion_has_one_request(state: LoopState) -> None:
    assert state.commit(fresh(), fresh(), decision(), request(reasons={"a": "first"}))
    assert state.commit(state.memories()["p"], fresh(), decision(), request(reasons={"a": "second"}))
    assert [item.reasons for item in state.open_requests()] == [{"a": "first"}]


def test_a_claim_has_one_holder_until_its_lease_ends(state: LoopState) -> None:
    state.commit(fresh(), fresh(), None, request())
    held = state.claim("k", "one", NOW, LEASE)
    assert held is not None
    assert state.claim("k", "two", NOW + LEASE / 2, LEASE) is None
    held = state.renew(held, NOW + LEASE / 2, LEASE)
    assert state.claim("k", "two", NOW + LEASE, LEASE) is None
    taken = state.claim("k", "two", NOW + 2 * LEASE, LEASE)
    assert taken is not None
    assert (taken.token, taken.owner) == (2, "two")
    for late in (lambda: state.renew(held, NOW, LEASE), lambda: state.finish(held, request(state="done"), decision())):
        with pytest.raises(LockedError, match="two took it"):
            late()
    state.finish(
        taken, msgspec.structs.replace(taken, state="done", ended_at="2024-06-01T01:00:00.000000Z"), decision()
    )
    assert state.open_requests() == []
    assert state.claim("k", "three", NOW + 9 * LEASE, LEASE) is None


def test_the_lease_of_a_process_that_is_gone_can_be_ended(state: LoopState) -> None:
    state.commit(fresh(), fresh(), None, request())
    held = state.claim("k", "one", NOW, LEASE)
    assert held is not None
    state.expire(msgspec.structs.replace(held, token=7), "2024-06-01T00:00:00.000000Z")  # not the one that holds it
    assert state.claim("k", "two", NOW, LEASE) is None
    state.expire(held, "2024-06-01T00:00:00.000000Z")
    assert state.claim("k", "two", NOW, LEASE) is not None


def test_what_is_given_back_or_cancelled(state: LoopState) -> None:
    state.commit(fresh(), fresh(), None, request())
    held = state.claim("k", "one", NOW, LEASE)
    assert held is not None
    state.release(held)
    again = state.claim("k", "two", NOW, LEASE)
    assert again is not None
    assert state.cancel("k", "2024-06-01T01:00:00.000000Z")
    assert not state.cancel("k", "2024-06-01T01:00:00.000000Z")
    with pytest.raises(LockedError):
        state.renew(again, NOW, LEASE)
    with pytest.raises(NotFoundError):
        state.find("nothing")
    assert state.find("k").state == "cancelled"


def test_the_ledger_cannot_be_changed_and_tells_when_it_was(state: LoopState, database: Database) -> None:
    for number in range(3):
        state.record(decision(f"{number}"))
    for statement in ("UPDATE loop_ledger SET decision = '{}'", "DELETE FROM loop_ledger"):
        with pytest.raises((StoreError, ConflictError)), database.transaction("loop") as transaction:
            transaction.execute(statement)
    assert state.verify() == []
    assert [entry.decision.why for entry in state.history("p", 2)] == ["1", "2"]
    changed = LoopState(_Altered(database))  # type: ignore[arg-type]
    assert changed.verify() == ["p row 2: its content was changed"]


class _Altered:
    """A database whose second row of the ledger somebody changed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def query(self, sql: str, parameters: Any = ()) -> list[dict[str, Any]]:
        rows = self._database.query(sql, parameters)
        rows[1]["decision"] = rows[1]["decision"].replace('"why":"1"', '"why":"9"')
        return rows


def test_recent_requests_are_those_of_the_period_and_the_last_ones(state: LoopState) -> None:
    memory = fresh()
    for day in range(1, 8):
        at = f"2024-06-0{day}T00:00:00.000000Z"
        state.commit(memory, fresh(), None, request(f"k{day}", created_at=at))
        memory = state.memories()["p"]
    held = state.claim("k1", "one", NOW, LEASE)
    assert held is not None
    state.finish(held, msgspec.structs.replace(held, state="done", ended_at="2024-06-08T00:00:00.000000Z"), decision())
    found = state.recent_requests("p", "2024-06-06T00:00:00.000000Z")
    assert [item.key for item in found] == ["k1", "k6", "k7"]


def test_of_many_ticks_at_once_one_wins_each_slot(database_url: str, start: Any) -> None:
    """Eight at a time here; benchmarks/ticks.py does fifty, two hundred times."""
    children = [start(TICK, database_url) for _ in range(8)]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for slot in (f"{number:04d}" for number in range(1, ROUNDS + 1)):
        for child in children:
            child.stdin.write(f"{slot}\n")
            child.stdin.flush()
        said = [child.stdout.readline().strip() for child in children]
        assert said.count("won") == 1, said
    state = LoopState(open_database(database_url))
    assert len(state.open_requests()) == len(state.history("p", 999)) == ROUNDS
    assert state.verify() == []


def test_whenever_a_tick_is_killed_nothing_is_lost_or_doubled(database_url: str, start: Callable[..., Any]) -> None:
    """A slot whose tick was killed is either decided whole or not at all; the next tick takes it up."""
    draw = random.Random(11)
    state = LoopState(open_database(database_url))
    state.memories()
    for number in range(1, KILLS + 1):
        child = start(TICK, database_url)
        assert child.stdout.readline() == "ready\n"
        child.stdin.write(f"{number:04d}\n")
        child.stdin.flush()
        time.sleep(draw.random() * 0.01)
        child.kill()
        child.wait()
        assert len(state.open_requests()) == len(state.history("p", 999))
        state.commit(*_next(state, f"{number:04d}"))
        assert [item.key for item in state.open_requests()] == [f"{n:04d}" for n in range(1, number + 1)]
    assert state.verify() == []


def _next(state: LoopState, slot: str) -> tuple[TriggerMemory, TriggerMemory, LoopDecision | None, RunRequest | None]:
    memory = state.memories().get("p", fresh())
    if memory.cursors.get("nightly", {}).get("slot", "") >= slot:
        return memory, memory, None, None
    after = msgspec.structs.replace(memory, cursors={"nightly": {"slot": slot}})
    return memory, after, decision(slot), request(slot, created_at=slot)
