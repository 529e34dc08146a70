"""Many plans as one DAG: what is the same is one node, what differs is not, and every trial finds its own nodes."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from engine.plan.model import ExecutionPlan, PlanNode
from engine.sweeps.merging import merge

KINDS = {"text"}


def plan(features: int, train: int) -> ExecutionPlan:
    nodes = (
        PlanNode(name="features", kind="text", settings={"word": features}),
        PlanNode(name="train", kind="text", inputs={"rows": "features"}, settings={"word": train}),
        PlanNode(name="promote", kind="promote", inputs={"model": "train"}, effect=True),
    )
    return ExecutionPlan(pipeline="p", nodes=nodes)


def test_what_trials_share_is_one_node_and_effects_are_left_out() -> None:
    merged = merge({0: plan(1, 1), 1: plan(1, 2), 2: plan(1, 1)}, KINDS)
    assert [node.name for node in merged.plan.nodes] == ["features", "train", "train#1"]
    assert merged.users == {"features": (0, 1, 2), "train": (0, 2), "train#1": (1,)}
    assert merged.names[1] == {"features": "features", "train": "train#1"}
    assert merged.own_name(1, "train#1") == "train"
    assert merged.wide == {"features"}


def test_the_same_step_after_different_inputs_is_not_the_same() -> None:
    merged = merge({0: plan(1, 1), 1: plan(2, 1)}, KINDS)
    assert len(merged.plan.nodes) == 4
    assert merged.plan.node("train#1").inputs == {"rows": "features#1"}


def test_prose_and_limits_do_not_split_a_node_and_code_does() -> None:
    other = plan(1, 1)
    worded = tuple(msgspec.structs.replace(node, title="words", retries=7, timeout_seconds=3.0) for node in other.nodes)
    assert len(merge({0: other, 1: ExecutionPlan(pipeline="p", nodes=worded)}, KINDS).plan.nodes) == 2
    coded = tuple(msgspec.structs.replace(node, code={"engine": "x"}) for node in other.nodes)
    assert len(merge({0: other, 1: ExecutionPlan(pipeline="p", nodes=coded)}, KINDS).plan.nodes) == 4


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=8))
def test_the_merged_plan_has_each_different_node_once(words: list[tuple[int, int]]) -> None:
    merged = merge({number: plan(*word) for number, word in enumerate(words)}, KINDS)
    assert len(merged.plan.nodes) == len({word for word, _ in words}) + len(set(words))
    seen: set[str] = set()
    for node in merged.plan.nodes:
        assert set(node.inputs.values()) <= seen, "topological order"
        seen.add(node.name)
    for number, (features, train) in enumerate(words):
        names = merged.names[number]
        assert merged.plan.node(names["features"]).settings == {"word": features}
        assert merged.plan.node(names["train"]).settings == {"word": train}
