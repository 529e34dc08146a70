"""The forecast says what would run and why, in the words of the YAML."""

from __future__ import annotations

import msgspec

from engine.plan.explain import changes_between, forecast, known_outputs, render_forecast
from engine.plan.model import Alternative, ExecutionPlan, PlanNode, action_key, settle
from engine.records import NodeOutput

A, B = "a" * 64, "b" * 64


def plan_of(rounds: int = 3, path: str = "x.csv") -> ExecutionPlan:
    return ExecutionPlan(
        pipeline="p",
        nodes=(
            PlanNode(name="ingest.s", kind="ingest", settings={"spec": {"path": path}}, declared_at={"spec": "sources.s"}),
            PlanNode(name="train", kind="train", inputs={"rows": "ingest.s"}, settings={"params": {"rounds": rounds}},
                     declared_at={"params": "train"}),
            PlanNode(name="promote", kind="promote", inputs={"model": "train"}, effect=True),
        ),
    )  # fmt: skip


def actions_of(plan: ExecutionPlan, digests: dict[str, str]) -> dict[str, NodeOutput]:
    found = {}
    for node in plan.nodes:
        if node.name in digests:
            key = action_key(node, {role: digests[name] for role, name in node.inputs.items()})
            found[key] = NodeOutput(digest=digests[node.name])
    return found


def test_nothing_known_means_the_first_runs_and_the_rest_depends() -> None:
    nodes = forecast(plan_of(), {}.get, None, {})
    assert [node.state for node in nodes] == ["run", "depends", "effect"]
    assert nodes[0].reason == "never run"


def test_all_known_is_cached() -> None:
    plan = plan_of()
    nodes = forecast(plan, actions_of(plan, {"ingest.s": A, "train": B}).get, plan, {})
    assert [node.state for node in nodes] == ["cached", "cached", "effect"]


def test_a_changed_setting_is_told_with_its_path_and_both_values() -> None:
    before = plan_of()
    found = actions_of(before, {"ingest.s": A, "train": B})
    nodes = forecast(plan_of(rounds=5), found.get, before, {"ingest.s": A, "train": B})
    assert [node.state for node in nodes] == ["cached", "run", "effect"]
    (change,) = nodes[1].changes
    assert (change.path, change.old, change.new) == ("train.rounds", 3, 5)
    assert "train.rounds: 3 -> 5" in render_forecast("p", nodes)


def test_new_content_of_an_input_is_the_reason() -> None:
    plan = plan_of()
    found = actions_of(plan, {"ingest.s": B})
    nodes = forecast(plan, found.get, plan, {"ingest.s": A, "train": A})
    assert nodes[1].reason == "new content from ingest.s"


def test_a_result_that_left_the_store_is_said() -> None:
    plan = plan_of()
    assert forecast(plan, {}.get, plan, {"ingest.s": A})[0].reason == "its result is no longer in the store"


def test_early_cutoff_follows_content_not_names() -> None:
    plan = plan_of()
    known = known_outputs(plan, actions_of(plan, {"ingest.s": A, "train": B}).get)
    assert {name: output.digest for name, output in known.items()} == {"ingest.s": A, "train": B}


def test_an_uncacheable_node_is_never_known() -> None:
    node = PlanNode(name="ingest.s", kind="ingest", uncacheable="the server cannot say")
    plan = ExecutionPlan(pipeline="p", nodes=(node,))
    everything = lambda key: NodeOutput(digest=A)  # noqa: E731
    assert known_outputs(plan, everything) == {}
    assert "the server cannot say" in forecast(plan, everything, None, {})[0].reason


def step(name: str, window: int) -> dict[str, object]:
    return {"step": "window", "name": name, "window": window}


def test_steps_are_compared_by_name_and_durations_are_readable() -> None:
    def node(*steps: dict[str, object]) -> PlanNode:
        settings = {"program": {"steps": list(steps)}}
        return PlanNode(name="features", kind="features", settings=settings, declared_at={"program.steps": "features"})

    day = 86_400_000_000
    old, new = node(step("a", day), step("b", 30 * day)), node(step("b", 7 * day), step("a", day))
    (change,) = changes_between(old, new)
    assert (change.path, change.old, change.new) == ("features.b.window", "30d", "7d")


def test_an_alternative_setting_follows_the_content_of_an_input() -> None:
    won = Alternative(role="model", digest=A, setting="champion", value=None)
    first = PlanNode(name="evaluate", kind="evaluate", inputs={"model": "train"}, settings={"champion": None})
    second = PlanNode(
        name="evaluate", kind="evaluate", inputs={"model": "train"}, settings={"champion": "c"}, alternatives=(won,)
    )
    assert action_key(second, {"model": A}) == action_key(first, {"model": A})
    assert action_key(second, {"model": B}) != action_key(first, {"model": B})
    assert (settle(second, {"model": A})["champion"], settle(second, {"model": B})["champion"]) == (None, "c")


def test_what_was_written_and_read_again_has_not_changed() -> None:
    tree = {"node": "call", "name": ">", "args": ({"node": "column", "name": "x"}, {"node": "literal", "value": 30})}
    settings = {"label": {"expr": tree, "on": (("id", "id"),)}, "rounds": 3}
    before = PlanNode(name="train", kind="train", settings=msgspec.json.decode(msgspec.json.encode(settings)))
    after = PlanNode(name="train", kind="train", settings=settings | {"rounds": 4})
    (change,) = changes_between(before, after)
    assert (change.path, change.old, change.new) == ("rounds", 3, 4)
