"""Opening a state: what was materialised for one program is refused to another, and the refusal says what differs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from engine.components import Catalogue
from engine.errors import EngineError, IntegrityError, NotFoundError, UnavailableError, UsageError
from engine.features.compute import compute
from engine.features.differences import differences
from engine.features.program import FeatureProgram, compile_program
from engine.keys import canonical_json
from engine.online import buckets, opening
from engine.online.memory import MemoryCells
from engine.online.opening import drop, open_cells, open_state, programs_of, register
from engine.online.state import EventState
from engine.online_contracts import Cells
from engine.spec import Available, SpineSpec
from tests.features.worlds import REQUEST, Setting, bits, sources_of, typed
from tests.online.killed_writer import events, program
from tests.online.servers import running_server

Opener = Callable[[str], Cells]
DAY = 86_400_000_000
ROOT = Path(__file__).resolve().parents[2]


def compiled(features: dict[str, Any], **setting: Any) -> FeatureProgram:
    sources = sources_of(Setting(**setting))
    return compile_program(typed(features), SpineSpec(source="asked", request=REQUEST), None, sources).program


def amount(window: str, name: str = "amt_mean_30d") -> FeatureProgram:
    return compiled({name: {"from": "ev", "of": "v", "agg": "mean", "window": window, "decimals": 2}})


# --- the acceptance story


def test_a_window_changed_on_one_side_is_refused_by_name(opener: Opener) -> None:
    cells = opener("story")
    register(cells, amount("30d"), "2024-01-01T00:00:00Z")
    with pytest.raises(IntegrityError) as refused:
        open_state(cells, amount("7d"))
    assert "amt_mean_30d.window: 30d -> 7d" in str(refused.value)
    assert open_state(cells, amount("30d")).program_digest == amount("30d").digest


def test_an_edited_program_is_refused_by_name(opener: Opener) -> None:
    """As in a package whose program.json was edited, with its manifest mended."""
    cells, made = opener("edited"), amount("30d")
    register(cells, made, "2024-01-01T00:00:00Z")
    document: Any = msgspec.json.decode(msgspec.json.encode(made.to_json()))
    document["steps"][0]["window"] = 7 * DAY
    with pytest.raises(IntegrityError, match=r"amt_mean_30d\.window: 30d -> 7d"):
        open_state(cells, FeatureProgram.from_json(document))


def test_a_window_in_the_name_is_told_too() -> None:
    found = [str(item) for item in differences(amount("30d", "amt_30d"), amount("7d", "amt_7d"))]
    assert "amt_30d and amt_7d.window: 30d -> 7d" in found


@pytest.mark.parametrize(
    ("left", "right", "words"),
    [
        ({"a": {"lookup": "ev.v", "max_age": "3d"}}, {"a": {"lookup": "ev.v"}}, "a.max_age: 3d -> none"),
        ({"f": {"expr": "n + 1"}}, {"f": {"expr": "n + 2"}}, "f.expr: (n + 1) -> (n + 2)"),
        ({"f": {"expr": "n + 1"}}, {"f": {"expr": "n + 1"}, "g": {"expr": "n"}}, "g: absent -> there"),
        ({"a": {"lookup": "ev.v"}}, {"a": {"from": "ev", "agg": "count", "window": "1d"}}, "a.kind: lookup -> window"),
    ],
)
def test_differences_have_both_values(left: Any, right: Any, words: str) -> None:
    assert words in [str(item) for item in differences(compiled(left), compiled(right))]


def test_equal_programs_do_not_differ() -> None:
    assert differences(amount("30d"), amount("30d")) == ()


def test_states_of_two_programs_lie_side_by_side(opener: Opener) -> None:
    cells, frame = opener("both"), events(0, 0, 50)
    first, second = (
        register(cells, amount(window), f"2024-01-0{day}T00:00:00Z") for day, window in ((1, "30d"), (2, "7d"))
    )
    first.push("ev", frame)
    assert (first.watermark("ev").events, second.watermark("ev").events) == (50, 0)
    assert list(programs_of(cells)) == [second.program_digest, first.program_digest]
    drop(cells, first.program_digest)
    with pytest.raises(IntegrityError):
        open_state(cells, amount("30d"))


def test_a_program_read_back_from_its_package_finds_the_same(opener: Opener) -> None:
    """Canonical JSON sorts names: an equal program may list its columns in another order."""
    cells, frame = opener("read back"), events(0, 0, 300)
    register(cells, program(), "2024-01-01T00:00:00Z").push("ev", frame)
    packaged = FeatureProgram.from_json(msgspec.json.decode(canonical_json(program().to_json())))
    assert list(packaged.sources["ev"].columns) != list(program().sources["ev"].columns)
    state, spine = open_state(cells, packaged), spine_at(250)
    assert bits(compute(packaged, spine, state.read(spine))) == bits(compute(program(), spine, {"ev": frame}))
    assert state.push("ev", frame).accepted == 0


def test_a_state_of_another_format_is_refused(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = opener("format")
    register(cells, program(), "2024-01-01T00:00:00Z")
    monkeypatch.setattr(opening, "FORMAT", 3)
    with pytest.raises(IntegrityError, match="rebuild"):
        open_state(cells, program())


def test_nothing_materialised_says_what_to_do(opener: Opener) -> None:
    with pytest.raises(NotFoundError, match="materialize"):
        open_state(opener("empty"), program())


def test_an_unknown_scheme_is_told(catalogue: Catalogue) -> None:
    with pytest.raises(UsageError, match="file, memory, redis"):
        open_cells("s3://bucket", "x", catalogue)


# --- what a state remembers and forgets


def spine_at(*moments: int) -> pl.DataFrame:
    rows = events(0, 0, len(moments)).select(pl.Series("event_time", moments).cast(pl.Datetime("us", "UTC")), *"kjvnsb")
    return rows.with_columns(pl.lit("key1").alias("k"))


def test_a_token_makes_a_push_a_repetition_without_ids(opener: Opener) -> None:
    made = compiled({"c": {"from": "ev", "agg": "count", "window": "1d"}}, id=None)
    state = register(opener("token"), made, "2024-01-01T00:00:00Z")
    frame = events(0, 0, 20)
    assert state.push("ev", frame, "t").accepted == 20
    assert state.push("ev", frame, "t").repeated == 20
    assert state.push("ev", frame, "u").accepted == 20
    assert state.retract("ev", frame) == 20
    assert compute(made, spine_at(500), state.read(spine_at(500)))["c"].to_list() == [3]


def test_expiry_breaks_no_replay_within_the_retention(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "TAIL_ROWS", 3)
    monkeypatch.setattr(buckets, "CHUNK_ROWS", 7)
    made = compiled(
        {
            "c": {"from": "ev", "agg": "count", "window": "3us"},
            "m": {"from": "ev", "agg": "sum", "of": "n", "window": "9us"},
        }
    )
    state = register(opener("expiry"), made, "2024-01-01T00:00:00Z")
    frame = events(0, 0, 400)
    for start in range(0, 400, 70):
        state.push("ev", frame[start : start + 70])
    spine = spine_at(*range(300, 420, 3))
    whole = bits(compute(made, spine, {"ev": frame}))
    held = state.watermark("ev").events
    gone = state.expire(300)
    assert gone > 0
    assert state.watermark("ev").events == held - gone
    assert bits(compute(made, spine, state.read(spine))) == whole
    late = events(7, 10, 5)
    assert (
        state.push("ev", late).expired == 3
    )  # the others are two versions of one id, which might replace what is held
    assert bits(compute(made, spine, state.read(spine))) == whole


def test_a_version_that_is_old_still_replaces_what_is_held() -> None:
    made = compiled({"c": {"from": "ev", "agg": "count", "window": "9us"}}, available=Available(column="a"))
    state = EventState(made, MemoryCells())
    frame = events(0, 0, 400)
    state.push("ev", frame)
    state.expire(380)
    row = frame.filter(pl.col("n") == 386)  # of key1, and no later version replaces it
    moment = pl.Datetime("us", "UTC")
    moved = row.with_columns(pl.lit(1).cast(moment).alias("t"), pl.lit(387).cast(moment).alias("a"))
    spine = spine_at(389)
    before = compute(made, spine, state.read(spine))["c"].item()
    assert state.push("ev", moved).accepted == 1
    assert compute(made, spine, state.read(spine))["c"].item() == before - 1


# --- what goes wrong


FULL = """
import resource, sys
from pathlib import Path
from engine.components import load_catalogue
from engine.errors import StoreError
from engine.online.opening import open_cells, register
from tests.online.killed_writer import events, program
cells = open_cells(sys.argv[1], "full", load_catalogue(Path("."), ("state_stores",)))
state = register(cells, program(), "2024-01-01T00:00:00Z")
resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))
done = 0
try:
    while done < 100_000:
        state.push("ev", events(1, done, 500))
        done += 500
    print("never full")
except StoreError as error:
    print(error.message)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(done > 0 and done == state.watermark("ev").events)
print(state.push("ev", events(1, done, 500)).accepted)
"""


def test_a_full_disk_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, f"file://{tmp_path}?map=64"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    message, kept, pushed = done.stdout.splitlines()
    assert "nothing of this push was kept" in message
    assert kept == "True"
    assert int(pushed) == 500


def test_passwords_are_never_printed(tmp_path: Path, catalogue: Catalogue) -> None:
    with running_server(tmp_path, "--requirepass", "secret", "--appendfsync", "everysec") as (url, _):
        host = url.removeprefix("redis://")
        cells = open_cells(f"redis://:secret@{host}", "x", catalogue)
        said = cells.durability()
        assert said is not None
        assert "a second of events" in said
        cells.close()
        for wrong in (f"redis://:hunter2@{host}", f"redis://{host}"):
            with pytest.raises(EngineError) as refused:
                open_cells(wrong, "x", catalogue)
            assert "hunter2" not in str(refused.value)
    with pytest.raises(UnavailableError) as gone:
        open_cells(f"redis://:secret@{host}", "x", catalogue)
    assert "secret" not in str(gone.value)
