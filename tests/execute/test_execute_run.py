"""What runs, what is cached, what is cut off: `execute` on the embedded scheduler."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import EngineError, UsageError
from engine.execute.pool import POOL
from engine.execute.request import select
from engine.plan.model import ExecutionPlan, PlanNode
from engine.records import Event


def _states(results):
    return {name: result.state for name, result in results.items()}


def test_second_run_is_cached_and_gives_the_same(bench, node):
    nodes = node("a", word="x"), node("b", inputs=["a"]), node("c", inputs=["a", "b"])
    first = bench.run(*nodes)
    assert set(_states(first).values()) == {"ran"}
    assert bench.text(first["c"]) == "((x)((x)))"
    assert bench.calls() == ["a", "b", "c"]
    assert first["a"].output.notes["rows"] == 7
    assert first["a"].attempts == 1
    assert first["a"].peak_bytes > 1 << 20
    second = bench.run(*nodes)
    assert set(_states(second).values()) == {"cached"}
    assert bench.calls() == []
    assert [(r.key, r.output) for r in first.values()] == [(r.key, r.output) for r in second.values()]
    assert bench.staged() == []


def test_one_child_serves_many_nodes_with_its_share_of_threads(bench, node):
    results = bench.run(*(node(f"n{i}", word=str(i)) for i in range(5)), threads=3)
    notes = [result.output.notes for result in results.values()]
    assert len({note["pid"] for note in notes}) == 1
    assert {(note["threads"], note["cap"]) for note in notes} == {(3, "3")}


def test_other_code_gets_another_child(bench, node):
    pids = {bench.run(node("a", code={"plugin": version}))["a"].output.notes["pid"] for version in ("v1", "v2")}
    assert len(pids) == 2


def test_early_cutoff_stops_where_bytes_are_the_same(bench, node):
    def plan(word):
        return node("a", word=word, same=True), node("b", inputs=["a"]), node("c", inputs=["b"])

    bench.run(*plan("old"))
    bench.calls()
    assert _states(bench.run(*plan("new"))) == {"a": "ran", "b": "cached", "c": "cached"}
    assert bench.calls() == ["a"]


def test_a_change_reaches_all_that_depend_on_it_and_nothing_else(bench, node):
    def plan(word):
        return node("a", word=word), node("b", inputs=["a"]), node("other")

    bench.run(*plan("old"))
    assert _states(bench.run(*plan("new"))) == {"a": "ran", "b": "ran", "other": "cached"}


def test_force_runs_though_cached_and_says_why(bench, node):
    nodes = node("a"), node("b", inputs=["a"])
    bench.run(*nodes)
    results = bench.run(*nodes, force={"a": "new driver"})
    assert _states(results) == {"a": "ran", "b": "cached"}
    assert results["a"].reason == "forced: new driver"
    assert bench.heard.messages("warning") == []  # what is cached is not damaged
    with pytest.raises(UsageError, match=r"--force aa: no such node \(did you mean `a`"):
        bench.run(*nodes, force={"aa": ""})


def test_what_has_no_key_always_runs_and_says_why(bench, node):
    nodes = node("a", uncacheable="its query cannot be pinned"), node("b", inputs=["a"])
    bench.run(*nodes)
    results = bench.run(*nodes)
    assert bench.heard.messages("warning") == []
    assert _states(results) == {"a": "ran", "b": "cached"}
    assert results["a"].reason == "not cached: its query cannot be pinned"


def test_equal_actions_are_computed_once(bench, node):
    results = bench.run(node("a", "nap"), node("b", "nap"), node("c", "nap"), workers=3)
    assert sorted(_states(results).values()) == ["cached", "cached", "ran"]
    assert len(bench.calls()) == 1
    assert bench.heard.messages("info").count("waiting for another run that is computing this node") == 2


def test_independent_nodes_run_side_by_side(bench, node):
    nodes = [node(f"n{i}", "nap", seconds=0.4 + i / 1000) for i in range(3)]
    bench.run(*nodes, workers=3)
    states = [
        event.state for event in bench.heard.events if event.event == "node" and event.state in {"running", "ran"}
    ]
    assert states == ["running"] * 3 + ["ran"] * 3


def test_select_names_the_nearest_node(node):
    plan = ExecutionPlan(
        pipeline="p", nodes=(node("ingest"), node("features", inputs=["ingest"]), node("train", inputs=["features"]))
    )
    assert select(plan, None, None, None) is None
    assert select(plan, "features", None, None) == {"features", "train"}
    assert select(plan, None, "features", None) == {"ingest", "features"}
    assert select(plan, "features", "features", None) == {"features"}
    assert select(plan, None, None, "train") == {"train"}
    with pytest.raises(UsageError, match=r"--from feature: no such node \(did you mean `features`\?\)"):
        select(plan, "feature", None, None)
    with pytest.raises(UsageError, match="no path"):
        select(plan, "train", "ingest", None)
    with pytest.raises(UsageError, match="--only"):
        select(plan, "ingest", None, "train")


def test_selection_uses_only_the_cache_outside(bench, node):
    nodes = node("a"), node("b", inputs=["a"]), node("c", inputs=["b"])
    with pytest.raises(UsageError, match="`a` is needed by the selected nodes") as error:
        bench.run(*nodes, selected=frozenset({"b", "c"}))
    assert "--from" in error.value.hint
    assert bench.calls() == []
    results = bench.run(*nodes, selected=frozenset({"a", "b"}))
    assert _states(results) == {"a": "ran", "b": "ran", "c": "skipped"}
    assert results["c"].reason == "not selected"
    assert _states(bench.run(*nodes, selected=frozenset({"c"}))) == {"a": "cached", "b": "cached", "c": "ran"}


def test_effects_come_last_in_order_and_only_after_success(bench, node):
    done = []

    def publish(one: PlanNode, results):
        done.append((one.name, sorted(results)))
        return {"alias": "champion"}

    nodes = (
        node("a"),
        node("bad", "fail", how="data"),
        node("promote", "publish", inputs=["a"], effect=True),
        node("report", "publish", inputs=["promote"], effect=True),
        node("never", "publish", inputs=["bad"], effect=True),
    )
    results = bench.run(*nodes, effects={"publish": publish})
    assert _states(results) == {"a": "ran", "bad": "failed", "promote": "ran", "report": "ran", "never": "skipped"}
    assert [name for name, _ in done] == ["promote", "report"]
    assert results["promote"].output.notes == {"alias": "champion"}
    assert results["never"].reason == "`bad` failed"
    assert _states(bench.run(*nodes, effects={"publish": publish}))["promote"] == "ran", "an effect is never cached"


def test_a_failing_effect_is_a_result(bench, node):
    def broken(one, results):
        raise ZeroDivisionError("no rows")

    result = bench.run(node("a"), node("e", "x", inputs=["a"], effect=True), effects={"x": broken})["e"]
    assert (result.state, result.error, result.exit_code) == ("failed", "ZeroDivisionError: no rows", 1)
    assert any("Traceback" in message for message in bench.heard.messages("debug"))


def test_a_kind_that_nobody_does_is_an_error_before_anything_runs(bench, node):
    with pytest.raises(EngineError, match="kind unheard"):
        bench.run(node("a"), node("b", "unheard", inputs=["a"]))
    assert bench.calls() == []


def test_events_tell_every_step_in_order(bench, node):
    bench.run(node("a"), node("b", inputs=["a"]))
    told = [(event.node, event.state) for event in bench.heard.events if event.event == "node"]
    assert told == [(n, s) for n, s in told if s == "pending"] + [
        ("a", "running"),
        ("a", "ran"),
        ("b", "running"),
        ("b", "ran"),
    ]
    progress = next(event for event in bench.heard.events if event.event == "progress")
    assert (progress.node, progress.message, progress.rows, progress.done) == ("a", "writing", 7, 0.5)
    assert all(isinstance(event, Event) and event.run_id == "7" for event in bench.heard.events)


def test_an_observer_that_fails_ends_the_run_with_its_error(bench, node):
    class Full:
        def on_event(self, event):
            if event.state == "ran":
                raise OSError("disk full")

    bench.heard = Full()
    with pytest.raises(OSError, match="disk full"):
        bench.run(node("a"), node("b", "slow", inputs=["a"]))


def test_no_op_run_imports_nothing_heavy(bench, node, tmp_path):
    bench.run(node("a"), node("b", inputs=["a"]))
    code = f"""
import sys
from pathlib import Path
from engine.contracts import Place
from engine.execute.request import ExecuteRequest
from engine.execute.run import execute
from engine.plan.model import ExecutionPlan, PlanNode
from engine.stores.artefacts import LocalArtefactStore
class Deaf:
    def on_event(self, event): pass
root = Path({str(tmp_path)!r})
nodes = (PlanNode(name="a", kind="text", backoff_seconds=0.01), PlanNode(name="b", kind="text", inputs={{"in0": "a"}}))
request = ExecuteRequest(bodies={{"text": "plumbline_test_bodies:text"}})
results = execute(ExecutionPlan(pipeline="p", nodes=nodes), request, Place(root, "", str(root / "store"), (), 1, "8"),
                  LocalArtefactStore(root / "store"), Deaf())
assert [result.state for result in results] == ["cached", "cached"], results
heavy = {{"dask", "distributed", "polars", "numpy", "rich", "psutil", "subprocess", "asyncio", "concurrent"}}
print(sorted(heavy.intersection(name.partition(".")[0] for name in sys.modules)))
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_a_thousand_nodes(bench, node, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)  # a thousand waits for the disk say nothing more than one
    rest = [node(f"n{i}", word=str(i), inputs=[f"n{i // 2}"] if i % 3 else []) for i in range(1, 1000)]
    for state in ("ran", "cached"):
        results = bench.run(node("n0", word="0"), *rest)
        assert set(_states(results).values()) == {state}


def _model(plan: list[tuple[int, bool, frozenset[int]]]) -> tuple[list[str], list[tuple]]:
    """What each node's text and identity must be, without the engine."""
    texts: list[str] = []
    keys: list[tuple] = []
    for word, same, inputs in plan:
        parts = [texts[index] for index in sorted(inputs)]
        keys.append((word, same, tuple(parts)))
        texts.append("(" + ("" if same else str(word)) + "".join(parts) + ")")
    return texts, keys


@st.composite
def _graphs(draw: st.DrawFn) -> list[tuple[int, bool, frozenset[int]]]:
    size = draw(st.integers(1, 6))
    return [
        (
            draw(st.integers(0, 2)),
            draw(st.booleans()),
            draw(st.frozensets(st.integers(0, index - 1), max_size=2)) if index else frozenset(),
        )
        for index in range(size)
    ]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_graphs(), min_size=1, max_size=3), st.integers(1, 3))
def test_any_sequence_of_plans_runs_each_action_once_and_gives_what_a_clean_run_gives(bench, node, plans, workers):
    known = bench.__dict__.setdefault("known", set())
    for plan in plans:
        texts, keys = _model(plan)
        nodes = [
            node(f"n{i}", word=word, same=same, inputs=[f"n{j}" for j in sorted(inputs)])
            for i, (word, same, inputs) in enumerate(plan)
        ]
        results = bench.run(*nodes, workers=workers)
        assert [bench.text(results[one.name]) for one in nodes] == texts
        assert sum(result.state == "ran" for result in results.values()) == len(set(keys) - known)
        known |= set(keys)
    assert bench.staged() == []


def test_children_that_idle_too_long_are_not_used(bench, node):
    first = bench.run(node("a"))["a"].output.notes["pid"]
    for idle in POOL._idle.values():
        for child in idle:
            child.idle_since -= 1000
    assert bench.run(node("b", word="b"))["b"].output.notes["pid"] != first
