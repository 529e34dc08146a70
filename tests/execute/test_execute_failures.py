"""What goes wrong in a node, and what a person then reads: crashes, timeouts, errors, damage."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from engine.errors import IntegrityError, UsageError
from engine.execute.pool import POOL


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("data", (1, 5, "txns.csv:7: amt is 'x'\n  next: correct the row")),
        ("away", (3, 7, "no server\n  next: start it")),
        ("bug", (1, 1, "KeyError: 'missing'")),
        ("kill", (3, 1, "its process was killed by SIGKILL")),
        ("segv", (3, 1, "its process was killed by SIGSEGV")),
        ("exit", (3, 1, "its process ended by itself with status 3")),
        ("sysexit", (1, 1, "SystemExit: 4")),
        ("notes", (1, 1, "ValueError: Out of range float")),
        ("memory", (1, 7, "not enough memory")),
        ("full", (1, 7, "the disk is full")),
        ("wrapped", (1, 1, "cannot count")),
    ],
)
def test_a_failure_is_told_once_in_words_with_its_exit_code(bench, node, how, expected):
    attempts, code, words = expected
    results = bench.run(
        node("a", "fail", how=how, retries=2), node("b", inputs=["a"]), node("c", inputs=["b"]), node("d")
    )
    failed = results["a"]
    assert (failed.state, failed.attempts, failed.exit_code) == ("failed", attempts, code)
    assert words in failed.error
    assert "Traceback" not in failed.error
    assert failed.output is None
    assert len(bench.calls()) == attempts + 1
    assert [results[name].state for name in "bcd"] == ["skipped", "skipped", "ran"]
    assert results["c"].reason == "`a` failed", "the first cause is named"
    assert bench.staged() == []
    assert "last words" in bench.heard.messages("info")


@pytest.mark.parametrize("how", ["bug", "wrapped", "segv"])
def test_the_traceback_is_in_the_log(bench, node, how):
    bench.run(node("a", "fail", how=how, retries=0))
    lines = "\n".join(bench.heard.messages("debug") + bench.heard.messages("info"))
    assert "plumbline_test_bodies.py" in lines
    assert "most recent call" in lines


@pytest.mark.parametrize("how", ["kill", "away", "segv"])
def test_what_passes_by_itself_is_tried_again(bench, node, how):
    result = bench.run(node("a", "fail", how=how, times=2, retries=2), node("b", inputs=["a"]))
    assert (result["a"].state, result["a"].attempts, result["b"].state) == ("ran", 3, "ran")
    warnings = bench.heard.messages("warning")
    assert len(warnings) == 2
    assert warnings[0].startswith("attempt 1 of 3: ")
    assert "next:" not in warnings[0]


def test_the_pause_doubles(bench, node, monkeypatch):
    monkeypatch.setattr("random.uniform", lambda low, high: (low + high) / 2)
    started = time.monotonic()
    bench.run(node("a", "fail", how="away", retries=2, backoff_seconds=0.2))
    assert time.monotonic() - started >= 0.2 + 0.4


def test_a_timeout_kills_and_is_tried_again(bench, node):
    started = time.monotonic()
    result = bench.run(node("a", "fail", how="sleep", times=1, retries=1, timeout_seconds=3))["a"]
    assert (result.state, result.attempts) == ("ran", 2)
    assert time.monotonic() - started < 30  # the body sleeps for a minute
    result = bench.run(node("b", "fail", how="sleep", x=1, retries=0, timeout_seconds=0.2))["b"]
    assert "took longer than 0.2 s and was stopped" in result.error
    assert "execute.timeout" in result.error


def test_a_body_that_cannot_be_imported(bench, node):
    result = bench.run(node("a"), bodies={"text": "no_such_module:f"})["a"]
    assert result.state == "failed"
    assert "ModuleNotFoundError: No module named 'no_such_module'" in result.error


def test_a_failure_is_not_cached(bench, node):
    failing = node("a", "fail", how="data", times=1)
    assert bench.run(failing)["a"].state == "failed"
    assert bench.run(failing)["a"].state == "ran"


def _damage(bench, result, *, same_size):
    path = bench.store.root / "objects" / result.output.digest[:2] / result.output.digest / "text"
    data = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:] if same_size else data + b"!")


@pytest.mark.parametrize("same_size", [True, False])
def test_a_damaged_artefact_is_made_again_and_never_used(bench, node, same_size):
    nodes = node("a", word="x"), node("b", inputs=["a"]), node("c", inputs=["b"])
    first = bench.run(*nodes)
    _damage(bench, first["b"], same_size=same_size)
    bench.calls()
    results = bench.run(*nodes[:2], node("c", inputs=["b"], word="new"))
    assert {name: result.state for name, result in results.items()} == {"a": "cached", "b": "ran", "c": "ran"}
    assert sorted(bench.calls()) == ["b", "c"]
    assert bench.text(results["c"]) == "(new((x)))"
    if same_size:
        assert any("`b` cannot be used and is made again" in message for message in bench.heard.messages("warning"))


def test_damage_all_the_way_up(bench, node):
    nodes = node("a", word="x"), node("b", inputs=["a"]), node("c", inputs=["b"])
    first = bench.run(*nodes)
    for name in "abc":
        _damage(bench, first[name], same_size=True)
    results = bench.run(
        *nodes[:2], node("c", inputs=["b"]), node("d", inputs=["c", "a"]), force={"d": "again"}, workers=2
    )
    assert {result.state for result in results.values()} == {"ran"}
    assert bench.text(results["d"]) == "((((x)))(x))"
    assert bench.calls().count("d") == 1


def test_damage_outside_the_selection_fails_with_the_way_out(bench, node):
    nodes = node("a", word="x"), node("b", inputs=["a"])
    _damage(bench, bench.run(*nodes)["a"], same_size=True)
    with pytest.raises(UsageError, match="its stored result was damaged") as caught:
        bench.run(node("a", word="x"), node("b", inputs=["a"], word="new"), selected=frozenset({"b"}))
    assert "drop --from or --only" in str(caught.value)


def test_damage_found_by_an_effect(bench, node):
    def publish(one, results):
        return {"text": bench.text(results["a"])}

    nodes = node("a", word="x"), node("e", "publish", inputs=["a"], effect=True)
    _damage(bench, bench.run(*nodes, effects={"publish": publish})["a"], same_size=True)
    results = bench.run(*nodes, effects={"publish": publish})
    assert (results["a"].state, results["e"].state) == ("ran", "ran")
    assert results["e"].output.notes == {"text": "(x)"}


def test_an_artefact_damaged_each_time_ends_the_run(bench, node, monkeypatch):
    nodes = node("a", word="x"), node("b", inputs=["a"])
    asked = []

    def refuse(self, digest):
        asked.append(digest)
        raise IntegrityError("bad disk")

    monkeypatch.setattr(type(bench.store), "open", refuse)
    result = bench.run(*nodes)["b"]
    assert (result.state, result.exit_code) == ("failed", 8)
    assert 1 < len(asked) <= 3


def test_a_node_that_prints_for_ever_does_not_fill_the_disk(bench, node, monkeypatch):
    monkeypatch.setattr("engine.execute.conversation._MAX_LINES", 0)
    bench.run(node("a", "fail", how="away", retries=0))
    assert "last words" not in bench.heard.messages("info")
    assert any("the rest is dropped" in message for message in bench.heard.messages("warning"))


def test_settings_and_notes_larger_than_a_pipe(bench, node):
    result = bench.run(node("a", "odd", how="big", text="é" * 300_000))["a"]
    assert (result.state, result.output.notes["size"]) == ("ran", 300_000)
    assert result.output.notes["echo"] == "é" * 300_000


def test_settings_arrive_as_they_are(bench, node):
    deep = {"a": [1, 2.5, None, True, {"b": "x"}], "tiny": 5e-324, "third": 1 / 3, "big": 2**53 + 1, "minus": -0.0}
    notes = bench.run(node("a", "odd", how="stdlib", deep=deep))["a"].output.notes
    assert repr(notes["frozen"]) == repr(deep)


@pytest.mark.parametrize("how", ["flood", "binary", "steal", "threads", "daemon"])
def test_a_body_that_behaves_oddly_still_ends(bench, node, how):
    results = bench.run(node("a", "odd", how=how), node("b", inputs=["a"]) if how == "none" else node("b"))
    assert {result.state for result in results.values()} == {"ran"}


def test_progress_is_thinned_out_and_lines_are_kept(bench, node):
    bench.run(node("a", "odd", how="flood"))
    assert sum(message.startswith("line ") for message in bench.heard.messages("info")) == 2000
    assert 1 <= sum(event.event == "progress" for event in bench.heard.events) < 100


def test_a_grandchild_that_holds_the_pipes_does_not_hide_a_crash(bench, node):
    started = time.monotonic()
    result = bench.run(node("a", "odd", how="daemon", die=True, retries=0))["a"]
    assert "SIGKILL" in result.error
    assert time.monotonic() - started < 20  # the grandchild sleeps for half a minute


def test_an_artefact_that_the_store_refuses(bench, node):
    result = bench.run(node("a", "odd", how="link"))["a"]
    assert (result.state, result.attempts) == ("failed", 1)
    assert "link" in result.error
    assert bench.staged() == []


def _open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_nothing_leaks(bench, node):
    bench.run(node("warm"))
    before = _open_files()
    for index in range(5):
        bench.run(node("a", "fail", how="kill", x=index, retries=1), node("b", x=index), workers=2)
    POOL.close()
    assert _open_files() <= before
