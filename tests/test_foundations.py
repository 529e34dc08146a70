"""Keys are injective and pinned, graphs are ordered, run folders are honest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.dag import CyclicError, ancestors, descendants, topological
from engine.durations import as_text, microseconds
from engine.errors import NotFoundError, StoreError, UsageError
from engine.keys import canonical_json, digest
from engine.provenance import parse_git_status, read_environment
from engine.records import RunRecord
from engine.runs import create_folder, list_folders, open_folder, parse_sample, write_atomically

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


def same(left: object, right: object) -> bool:
    """Equality that keeps 1, 1.0 and True, and 0.0 and -0.0, apart."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return repr(left) == repr(right)


@given(JSON, JSON)
def test_canonical_json_is_injective(left: object, right: object) -> None:
    assert (canonical_json(left) == canonical_json(right)) == same(left, right)


@given(JSON)
def test_canonical_json_reads_back(value: object) -> None:
    assert same(json.loads(canonical_json(value)), value)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), {1: 2}, {"a": {None: 1}}, b"x", {"a": {1, 2}}, Path("x")])
def test_what_json_cannot_say_exactly_is_refused(bad: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        digest(bad)


def test_pinned_key() -> None:
    document = {"b": [1, 2.5, None, True], "a": "ü", "c": {}}
    assert digest(document) == "0c052f37427fa8d03e55067d6cf35a7e27f25224e49346870d4c422d8f1cb795"


@given(st.integers(min_value=1, max_value=10**8), st.sampled_from(["us", "ms", "s", "m", "h", "d"]))
def test_durations_read_back(count: int, unit: str) -> None:
    assert microseconds(as_text(microseconds(f"{count}{unit}"))) == microseconds(f"{count}{unit}")


@given(st.dictionaries(st.integers(0, 20), st.lists(st.integers(0, 20), max_size=4), max_size=12))
def test_topological_order_or_a_real_cycle(raw: dict[int, list[int]]) -> None:
    edges = {str(name): [str(other) for other in needed] for name, needed in raw.items()}
    try:
        order = topological(edges)
    except CyclicError as error:
        assert error.path[0] == error.path[-1]
        assert all(
            after in edges[before] or before in edges.get(after, ())
            for before, after in zip(error.path, error.path[1:], strict=False)
        )
        return
    assert len(order) == len(set(order))
    assert all(order.index(other) < order.index(name) for name, needed in edges.items() for other in needed)
    for name in order:
        assert all(name in descendants(edges, [other]) for other in ancestors(edges, [name]))


def record(run_id: str, **changes: object) -> RunRecord:
    fields = {"run_id": run_id, "pipeline": "p", "status": "running", "started_at": "2026-01-01T00:00:00Z",
              "config_digest": "0" * 64, "plan_digest": "0" * 64} | changes  # fmt: skip
    return RunRecord(**fields)


def test_a_run_that_was_killed_is_told_from_one_that_goes_on(tmp_path: Path) -> None:
    folder = create_folder(tmp_path, "7")
    folder.write_record(record("7"))
    with folder.hold():
        assert folder.read_record().status == "running"
    assert folder.read_record().status == "interrupted"
    assert folder.read_record().exit_code == 137


def test_a_lock_goes_with_its_process(tmp_path: Path) -> None:
    folder = create_folder(tmp_path, "1")
    folder.write_record(record("1"))
    code = (
        "import sys, os, signal; from pathlib import Path; from engine.runs import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).hold():\n    print('held', flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    child = subprocess.run([sys.executable, "-c", code, str(folder.path)], capture_output=True, text=True, check=False)
    assert child.stdout == "held\n"
    assert not folder.is_alive()


def test_runs_are_listed_by_number_and_found(tmp_path: Path) -> None:
    for run_id in ("10", "9", "2"):
        create_folder(tmp_path, run_id).write_record(record(run_id))
    (tmp_path / "notes").mkdir()
    assert [folder.run_id for folder in list_folders(tmp_path)] == ["2", "9", "10"]
    assert open_folder(tmp_path, "last").run_id == "10"
    with pytest.raises(NotFoundError, match="no run 3"):
        open_folder(tmp_path, "3")


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "run.json"
    write_atomically(target, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        write_atomically(target, b"new")
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize("bad", ["0", "0%", "101%", "many", "-5%", "1.5", ""])
def test_a_bad_sample_is_refused(bad: str) -> None:
    with pytest.raises(UsageError, match="--sample"):
        parse_sample(bad)


def test_git_state_of_a_fresh_repository() -> None:
    state = parse_git_status("# branch.oid (initial)\n# branch.head main\n")
    assert (state.commit, state.branch, state.dirty) == (None, "main", False)


def test_the_environment_lists_what_is_installed() -> None:
    environment = read_environment()
    assert {"polars", "lightgbm", "hydra-core"} <= environment.packages.keys()
