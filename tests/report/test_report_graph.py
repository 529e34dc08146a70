"""The picture of a plan: layout invariants for any DAG, states, and a file that stands alone."""

from __future__ import annotations

import random
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.dag import ancestors
from engine.plan.explain import NodeForecast
from engine.plan.model import ExecutionPlan, PlanNode
from engine.records import NodeResult, NodeState
from engine.report.graph import draw_graph
from engine.report.layout import GAP_X, GAP_Y, arrange, assign_layers, drop_implied

Parse = Callable[[str], ET.Element]


@st.composite
def dags(draw: st.DrawFn) -> dict[str, list[str]]:
    count = draw(st.integers(0, 14))
    names = [f"n{index}" for index in range(count)]
    return {
        name: draw(st.lists(st.sampled_from(names[:index]), max_size=4)) if index else []
        for index, name in enumerate(names)
    }


def random_plan(count: int, seed: int) -> ExecutionPlan:
    chance = random.Random(seed)
    nodes: list[PlanNode] = []
    for index in range(count):
        earlier = [node.name for node in nodes[-14:]]
        inputs = chance.sample(earlier, min(len(earlier), chance.choice((0, 1, 1, 2, 3))))
        roles = {f"role{place}": name for place, name in enumerate(inputs)}
        nodes.append(PlanNode(name=f"node.number_{index}", kind="train", inputs=roles, title="lightgbm_binary"))
    return ExecutionPlan(pipeline="random", nodes=tuple(nodes))


def node_groups(root: ET.Element) -> dict[str, ET.Element]:
    groups = [part for part in root.iter() if "node" in part.attrib.get("class", "").split()]
    return {(group[0].text or "").partition(":")[0]: group for group in groups}


@given(dags(), st.data())
@settings(max_examples=150)
def test_boxes_keep_apart_and_edges_run_to_the_right(needs: Mapping[str, Sequence[str]], data: st.DataObject) -> None:
    sizes = {name: (data.draw(st.floats(20, 200)), 50.0) for name in needs}
    layout = arrange(needs, sizes)
    assert set(layout.boxes) == set(needs)
    boxes = list(layout.boxes.values())
    for index, one in enumerate(boxes):
        assert one.x >= -1e-6
        assert one.x + one.width <= layout.width + 1e-6
        assert one.y >= -1e-6
        assert one.y + one.height <= layout.height + 1e-6
        for other in boxes[:index]:
            beside = one.x + one.width + GAP_X <= other.x + 1e-6 or other.x + other.width + GAP_X <= one.x + 1e-6
            apart = one.y + one.height + GAP_Y <= other.y + 1e-6 or other.y + other.height + GAP_Y <= one.y + 1e-6
            assert beside or apart
    for route in layout.routes:
        xs = [x for x, _ in route.points]
        assert xs == sorted(xs)
        assert layout.boxes[route.source].x < layout.boxes[route.target].x


@given(dags())
def test_edges_do_not_run_through_boxes_of_other_nodes(needs: Mapping[str, Sequence[str]]) -> None:
    layout = arrange(needs, dict.fromkeys(needs, (80.0, 50.0)))
    for route in layout.routes:
        for x, y in route.points[1:-1]:
            for name, box in layout.boxes.items():
                if name not in {route.source, route.target} and box.x <= x <= box.x + box.width:
                    assert not box.y < y < box.y + box.height


@given(dags())
def test_the_reduction_keeps_reachability_and_nothing_else(needs: dict[str, list[str]]) -> None:
    whole = {name: list(dict.fromkeys(inputs)) for name, inputs in needs.items()}
    direct = drop_implied(whole)
    for name in whole:
        assert ancestors(direct, [name]) == ancestors(whole, [name])
        for other in direct[name]:
            others = [input_ for input_ in direct[name] if input_ != other]
            assert other not in ancestors(direct, others)


@given(dags())
def test_layers_have_no_holes_and_rise_along_edges(needs: dict[str, list[str]]) -> None:
    layers = assign_layers(needs)
    assert all(layers[other] < layers[name] for name, inputs in needs.items() for other in inputs)
    assert set(layers.values()) == set(range(max(layers.values(), default=-1) + 1))


def test_a_fan_does_not_cross() -> None:
    needs: dict[str, list[str]] = {"a": [], **{f"t{i}": ["a"] for i in range(6)}}
    # Users in reverse order of what they need: an order that crosses everywhere if it is left as it came.
    needs |= {f"e{i}": [f"t{i}"] for i in reversed(range(6))}
    layout = arrange(needs, dict.fromkeys(needs, (60.0, 40.0)))
    trains = sorted((layout.boxes[f"t{i}"].y, i) for i in range(6))
    assert [i for _, i in sorted((layout.boxes[f"e{i}"].y, i) for i in range(6))] == [i for _, i in trains]
    assert all(layout.boxes[f"t{i}"].y == pytest.approx(layout.boxes[f"e{i}"].y) for i in range(6))


def test_states_timings_and_rows_are_on_the_nodes(parse_svg: Parse, content) -> None:
    results = {node.name: node for node in content.run.nodes}
    groups = node_groups(parse_svg(draw_graph(content.plan, results)))
    assert set(groups) == {node.name for node in content.plan.nodes}
    words = {name: [part.text for part in group.iter() if part.tag.endswith("text")] for name, group in groups.items()}
    assert words["ingest.flights"] == ["ingest.flights", "cached", "336,776 rows"]
    assert words["train"] == ["train", "ran · 9.4\xa0s", "lightgbm_binary"]
    assert "cached" in groups["ingest.flights"].attrib["class"]


@pytest.mark.parametrize(
    ("state", "word"),
    [("ran", "ran · 1.5\xa0s"), ("cached", "cached"), ("failed", "failed · 1.5\xa0s"), ("pending", "to run"),
     ("running", "running"), ("skipped", "skipped"), ("cancelled", "cancelled")],
)  # fmt: skip
def test_every_state_has_its_word(parse_svg: Parse, state: NodeState, word: str) -> None:
    plan = ExecutionPlan(pipeline="p", nodes=(PlanNode(name="a", kind="train"),))
    result = NodeResult(name="a", kind="train", state=state, seconds=1.5)
    root = parse_svg(draw_graph(plan, {"a": result}))
    assert word in {part.text for part in root.iter()}
    assert f"1 {word.partition(' ·')[0]}" in {part.text for part in root.iter()}


def test_a_forecast_is_drawn_before_anything_ran(parse_svg: Parse) -> None:
    plan = ExecutionPlan(
        pipeline="p", nodes=(PlanNode(name="a", kind="ingest"), PlanNode(name="b", kind="train", inputs={"rows": "a"}))
    )
    forecast = (
        NodeForecast(name="a", kind="ingest", state="cached", reason=""),
        NodeForecast(name="b", kind="train", state="run", reason="train.rounds 10 -> 20"),
    )
    root = parse_svg(draw_graph(plan, forecast=forecast))
    groups = node_groups(root)
    assert "todo" in groups["b"].attrib["class"]
    assert "train.rounds 10 -> 20" in (groups["b"][0].text or "")


def test_a_standalone_picture_is_complete(content) -> None:
    source = draw_graph(content.plan)
    root = ET.fromstring(source)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert {"width", "height", "viewBox"} <= set(root.attrib)
    assert "prefers-color-scheme:dark" in source
    assert source.count("http") == 1  # the namespace, which nothing fetches
    assert "http" not in draw_graph(content.plan, standalone=False)


def test_hostile_names_are_text(parse_svg: Parse) -> None:
    name = '<script>alert("x")</script> & \x1b[31m\x00'
    plan = ExecutionPlan(pipeline=name, nodes=(PlanNode(name=name, kind=name, title=name),))
    result = NodeResult(name=name, kind=name, state="failed", error=name)
    source = draw_graph(plan, {name: result})
    parse_svg(source)
    assert "<script" not in source


@pytest.mark.parametrize("count", [0, 1, 5, 40, 200])
def test_any_size_is_drawn_fast(parse_svg: Parse, count: int) -> None:
    plan = random_plan(count, seed=count)
    began = time.perf_counter()
    source = draw_graph(plan)
    assert time.perf_counter() - began < 20
    assert len(node_groups(parse_svg(source))) == count


def test_the_same_plan_gives_the_same_picture(content) -> None:
    assert draw_graph(content.plan) == draw_graph(content.plan)


def test_importing_the_graph_needs_the_standard_library_only() -> None:
    check = "import sys; import engine.report.graph; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    found = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout.split()
    ours = {"engine", "__main__", "sitecustomize", "usercustomize"}
    foreign = {name for name in found if name not in sys.stdlib_module_names and name not in ours}
    assert not {name for name in foreign if not name.startswith(("_", "__editable__", "distutils"))}
