"""The registry and its ledger: versions, compare-and-swap, rollbacks, replay, tampering, races."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import ConflictError, EngineError, NotFoundError, StoreError, UsageError
from engine.records import ModelVersion
from engine.stores.database import Database, open_database
from engine.stores.ledger import GENESIS, Draft, Versions, Why, append, find_breaks, last_known_good, replay
from engine.stores.registry import Candidate, Registry

START = datetime(2026, 1, 1, tzinfo=UTC)
BAD = Why("ann", "bad")


class SteppingClock:
    """A clock that goes a minute forward each time it is asked, unless told otherwise."""

    def __init__(self) -> None:
        self.moment = START

    def now(self) -> datetime:
        self.moment += timedelta(minutes=1)
        return self.moment


@pytest.fixture
def clock() -> SteppingClock:
    return SteppingClock()


@pytest.fixture
def registry(database: Database, clock: SteppingClock) -> Registry:
    return Registry(database, clock)


def sha(number: int) -> str:
    return f"{number:064x}"


def register(registry: Registry, number: int, name: str = "m") -> ModelVersion:
    return registry.register(Candidate(
        name=name, digest=sha(number), run_id=str(number), pipeline="p", metrics={"auc": 0.1 + 0.2, "odd": float("nan")},
        verdict="promote", model_digest=sha(number + 1000), content_digest=sha(number + 2000),
    ))  # fmt: skip


def promote(registry: Registry, to: int, alias: str = "champion", **more: object) -> None:
    held = registry.alias("m", alias)
    why = Why("ann", "better", "7", {"gates": ["pass", 0.1, None]})
    registry.move_alias("m", alias, Versions(held.version if held else None, to), why, action="promote")


def held(registry: Registry) -> int | None:
    version = registry.alias("m", "champion")
    return version.version if version else None


def test_registering(registry: Registry) -> None:
    first = register(registry, 1)
    assert (first.version, first.metrics, first.created_at) == (
        1,
        {"auc": 0.1 + 0.2, "odd": None},
        "2026-01-01T00:01:00.000000Z",
    )
    assert register(registry, 1) == first
    assert register(registry, 2).version == 2
    assert register(registry, 2, "other").version == 1
    assert registry.names() == ["m", "other"]
    assert [version.version for version in registry.versions("m")] == [1, 2]
    assert registry.versions("nobody") == []
    assert [entry.action for entry in registry.history("m")] == ["register", "register"]
    assert registry.verify_ledger("m") == registry.verify_ledger("other") == registry.verify_ledger("nobody") == []
    for digest, verdict in (("short", "promote"), (sha(3), "maybe")):
        with pytest.raises(UsageError):
            registry.register(Candidate(name="m", digest=digest, run_id="1", pipeline="p", metrics={}, verdict=verdict))


def test_moving_an_alias(registry: Registry) -> None:
    assert registry.alias("m", "champion") is None
    for number in (1, 2, 3):
        register(registry, number)
    promote(registry, 1)
    promote(registry, 2)
    assert held(registry) == 2
    promote(registry, 3, alias="shadow")
    assert registry.aliases("m") == {"champion": 2, "shadow": 3}
    entry = registry.history("m")[4]
    assert (entry.from_version, entry.to_version, entry.actor, entry.evidence) == (
        1,
        2,
        "ann",
        {"gates": ["pass", 0.1, None]},
    )
    rows = len(registry.history("m"))
    promote(registry, 2)
    assert len(registry.history("m")) == rows
    assert registry.verify_ledger("m") == []


def test_a_lost_swap_says_who_moved_it(registry: Registry) -> None:
    for number in (1, 2):
        register(registry, number)
    why = Why("bob", "mine")
    with pytest.raises(ConflictError, match="expected at version 1, but nothing holds it"):
        registry.move_alias("m", "champion", Versions(1, 2), why, action="promote")
    promote(registry, 1)
    for expected in (None, 2, 99):
        with pytest.raises(
            ConflictError, match=r"version 1 holds it since 2026-.*: ann moved it \(promote: better, run 7\)"
        ):
            registry.move_alias("m", "champion", Versions(expected, 2), why, action="promote")
    with pytest.raises(NotFoundError, match="m:9 is not registered"):
        registry.move_alias("m", "champion", Versions(1, 9), why, action="promote")
    with pytest.raises(UsageError, match="'steal'"):
        registry.move_alias("m", "champion", Versions(1, 2), why, action="steal")
    odd = Why("bob", "mine", evidence={"x": object()})
    with pytest.raises(StoreError, match="cannot be written"):
        registry.move_alias("m", "champion", Versions(1, 2), odd, action="promote")
    assert held(registry) == 1
    assert registry.verify_ledger("m") == []


def test_rolling_back_again_and_again(registry: Registry) -> None:
    for number in (1, 2, 3, 4):
        register(registry, number)
    with pytest.raises(NotFoundError, match="nothing holds it"):
        registry.rollback("m", "champion", BAD)
    for number in (1, 2, 3):
        promote(registry, number)
    assert [registry.rollback("m", "champion", BAD).to_version for _ in range(2)] == [2, 1]
    with pytest.raises(NotFoundError, match="m:1 is the first that held it"):
        registry.rollback("m", "champion", BAD)
    promote(registry, 4)
    assert registry.rollback("m", "champion", BAD).to_version == 1
    promote(registry, 2)
    promote(registry, 1)
    assert [registry.rollback("m", "champion", BAD).to_version for _ in range(2)] == [2, 1]
    assert registry.verify_ledger("m") == []


def test_a_rejection_is_written_down_and_moves_nothing(registry: Registry) -> None:
    for number in (1, 2):
        register(registry, number)
    promote(registry, 1)
    entry = registry.record_rejection("m", "champion", 2, Why("ann", "worse", "8", {"auc": 0.4}))
    assert (entry.action, entry.from_version, entry.to_version) == ("reject", 1, 2)
    assert held(registry) == 1
    assert registry.verify_ledger("m") == []
    with pytest.raises(NotFoundError):
        registry.record_rejection("m", "champion", 9, Why("ann", "worse"))


def test_what_was_in_production_then(registry: Registry, clock: SteppingClock) -> None:
    moments: list[tuple[datetime, int | None]] = [(START, None)]
    for number in (1, 2, 3):
        register(registry, number)
        promote(registry, number)
        moments.append((clock.moment, number))
    registry.rollback("m", "champion", BAD)
    moments.append((clock.moment, 2))
    for moment, version in moments:
        found = registry.at("m", "champion", moment + timedelta(seconds=1))
        assert (found.version if found else None) == version
    assert registry.at("m", "champion", moments[1][0]).version == 1  # type: ignore[union-attr]
    with pytest.raises(UsageError, match="time zone"):
        registry.at("m", "champion", datetime(2026, 1, 1))  # noqa: DTZ001 - the point of the test


def test_a_clock_that_goes_back_does_not_reorder_history(registry: Registry, clock: SteppingClock) -> None:
    register(registry, 1)
    register(registry, 2)
    promote(registry, 1)
    before = clock.moment
    clock.moment = START - timedelta(days=9)
    promote(registry, 2)
    times = [entry.at for entry in registry.history("m")]
    assert times == sorted(times)
    assert registry.at("m", "champion", before + timedelta(seconds=1)).version == 2  # type: ignore[union-attr]


@pytest.fixture
def tampered(database: Database, registry: Registry) -> Callable[[str], list[str]]:
    """Change the database behind the registry's back, and give what `verify_ledger` says."""
    for number in (1, 2, 3):
        register(registry, number)
        promote(registry, number)

    def tamper(statement: str) -> list[str]:
        with database.transaction("tamper") as transaction:
            if "TRIGGER" not in statement:
                if database._driver.dialect == "sqlite":
                    transaction.execute("DROP TRIGGER ledger_no_update")
                    transaction.execute("DROP TRIGGER ledger_no_delete")
                else:
                    transaction.execute("DROP TRIGGER ledger_append_only ON ledger")
            transaction.execute(statement)
        return registry.verify_ledger("m")

    return tamper


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE ledger SET reason = 'other' WHERE sequence = 4", "row 4: its content was changed"),
        ("UPDATE ledger SET at = '2020-01-01T00:00:00.000000Z' WHERE sequence = 2", "row 2: its content was changed"),
        ("DELETE FROM ledger WHERE sequence = 3", "row 3 is missing"),
        ("DELETE FROM ledger WHERE sequence = 6", "but the ledger puts it at 2"),
        ("UPDATE aliases SET version = 1", "@champion is at 1, but the ledger puts it at 3"),
        ("DELETE FROM aliases", "@champion is at None"),
        ("UPDATE models SET digest = '" + "f" * 64 + "' WHERE version = 2", "m:2 is not what was registered"),
        ("UPDATE models SET metrics = '{\"auc\":1.0}' WHERE version = 1", "m:1 is not what was registered"),
        ("UPDATE ledger SET evidence = '{' WHERE sequence = 1", "row 1 of m in the state database is damaged"),
    ],
)
def test_tampering_shows(tampered: Callable[[str], list[str]], statement: str, words: str) -> None:
    problems = tampered(statement)
    assert any(words in problem for problem in problems), problems


moves = st.lists(st.one_of(st.integers(1, 4), st.none()), max_size=12)


@given(moves)
def test_rollback_is_the_inverse_of_promotion(steps: list[int | None]) -> None:
    """Promotions push and rollbacks pop, whatever their order: the ledger agrees with a plain stack."""
    entries, stack = [], []
    for step in steps:
        if step is None and len(stack) > 1:
            target = last_known_good(entries, "champion")
            assert target == stack[-2]
            draft = ("rollback", stack[-1], target)
            stack.pop()
        elif step is not None and (not stack or stack[-1] != step):
            draft = ("promote", stack[-1] if stack else None, step)
            stack.append(step)
        else:
            continue
        action, before, after = draft
        row = Draft(
            model="m", alias="champion", action=action, from_version=before, to_version=after, actor="a", reason="r"
        )
        entries.append(append(row, entries[-1] if entries else None, "2026-01-01T00:00:00.000000Z"))
    assert find_breaks(entries) == []
    assert replay(entries) == ({"champion": stack[-1]} if stack else {}, [])
    assert last_known_good(entries, "champion") == (stack[-2] if len(stack) > 1 else None)
    assert entries[0].previous == GENESIS if entries else True


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(evidence=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), json_values, max_size=3))
def test_any_evidence_survives_the_database(
    tmp_path_factory: pytest.TempPathFactory, evidence: dict[str, object]
) -> None:
    database = open_database(str(tmp_path_factory.getbasetemp() / "evidence.db"))
    registry = Registry(database)
    register(registry, 1)
    entry = registry.record_rejection("m", "champion", 1, Why("a", "é\u2028\n", evidence=evidence))
    assert registry.history("m")[-1] == entry
    assert json.loads(json.dumps(entry.evidence)) == json.loads(json.dumps(evidence))
    assert registry.verify_ledger("m") == []
    database.close()


RACER = """
import sys
from concurrent.futures import ThreadPoolExecutor
from engine.errors import ConflictError
from engine.stores.database import open_database
from engine.stores.ledger import Versions, Why
from engine.stores.registry import Registry

def race(me):
    database = open_database(sys.argv[1])
    registry, won = Registry(database), []
    for expected in (None, 1, 2):
        to = (expected or 0) + 1
        try:
            why = Why(f"racer {me}", "first")
            registry.move_alias("m", "champion", Versions(expected, to), why, action="promote")
            won.append(to)
        except ConflictError as error:
            assert ": racer " in str(error), error
        while registry.alias("m", "champion").version < to:
            pass
    database.close()
    return won

sys.stdin.readline()
with ThreadPoolExecutor(5) as pool:
    print(*(win for wins in pool.map(race, range(int(sys.argv[2]), int(sys.argv[2]) + 5)) for win in wins))
"""


def test_fifty_promotions_at_once_have_one_winner_each(
    database_url: str, start: Callable[..., subprocess.Popen[str]], finish: Callable[..., list[str]]
) -> None:
    database = open_database(database_url)
    registry = Registry(database)
    for number in (1, 2, 3):
        register(registry, number)
    children = [start(RACER, database_url, 5 * number) for number in range(10)]
    for child in children:
        assert child.stdin
        child.stdin.write("go\n")
        child.stdin.flush()
    wins = sorted(int(win) for printed in finish(children) for win in printed.split())
    assert wins == [1, 2, 3]
    assert registry.aliases("m") == {"champion": 3}
    assert [entry.to_version for entry in registry.history("m") if entry.action == "promote"] == [1, 2, 3]
    assert registry.verify_ledger("m") == []
    database.close()


REGISTRAR = """
import sys
from engine.stores.database import open_database
from engine.stores.ledger import Versions, Why
from engine.stores.registry import Candidate, Registry
database = open_database(sys.argv[1])
registry, me = Registry(database), int(sys.argv[2])
for number in range(100000):
    digest = f"{me:032x}{number:032x}"
    version = registry.register(
        Candidate(name="m", digest=digest, run_id="1", pipeline="p", metrics={}, verdict="promote")
    )
    held = registry.alias("m", "champion")
    versions = Versions(held.version if held else None, version.version)
    registry.move_alias("m", "champion", versions, Why("a", "r"), action="promote")
    print(version.version, flush=True)
"""


def test_killed_at_any_moment_the_ledger_and_the_alias_agree(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    url = str(tmp_path / "state.db")
    told = 0
    for attempt in range(6):
        child = start(REGISTRAR, url, attempt)
        assert child.stdout
        for _ in range(attempt + 2):
            child.stdout.readline()
        child.kill()
        told = max([told, *map(int, child.communicate()[0].split())])
        registry = Registry(open_database(url))
        assert registry.verify_ledger("m") == []
        assert registry.aliases("m")["champion"] >= told


def test_two_rollbacks_at_once_go_back_once(
    database_url: str, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2, 3):
        register(registry, number)
        promote(registry, number)
    other = Registry(open_database(database_url))
    real = registry.move_alias

    def overtaken(*arguments: object, **named: object) -> object:
        other.rollback("m", "champion", Why("bob", "faster"))
        return real(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(registry, "move_alias", overtaken)
    with pytest.raises(ConflictError, match="bob moved it"):
        registry.rollback("m", "champion", Why("ann", "slower"))
    assert registry.aliases("m") == {"champion": 2}
    other._database.close()


def test_errors_are_the_engines(registry: Registry) -> None:
    with pytest.raises(EngineError):
        registry.move_alias("m", "", Versions(None, 1), Why("a", "r"), action="promote")
