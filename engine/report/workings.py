"""How the run went: the DAG with states, timings and cache hits, and every node in a table."""

from __future__ import annotations

from engine.records import NodeResult
from engine.report.analyses import gather_fits
from engine.report.blocks import (
    Row,
    absent,
    badge,
    code,
    digest,
    figure,
    folded,
    name_columns,
    paragraph,
    scrolling,
    section,
    table,
)
from engine.report.content import ReportContent
from engine.report.graph import draw_graph
from engine.report.markup import Markup, text
from engine.report.numbers import MISSING, format_bytes, format_seconds, plural

_STATE_TONES = {"ran": "ran", "cached": "cached", "failed": "bad", "running": "ran"}


def graph_section(content: ReportContent) -> Markup:
    """Draw the plan with states and timings; a table has reasons, memory and keys."""
    results = {node.name: node for node in content.run.nodes}
    if not content.plan.nodes:
        return section("plan", "What ran", absent("The plan has no nodes."))
    cached = sum(node.state == "cached" for node in content.run.nodes)
    worked = sum(node.seconds for node in content.run.nodes if node.state != "cached")
    spent = f"{format_seconds(worked)} of work in {format_seconds(content.run.seconds)}"
    told = f"{plural(len(content.plan.nodes), 'node')}, {cached} from the cache; {spent}."
    picture = figure(Markup(draw_graph(*gather_fits(content.plan, results), standalone=False)))
    nodes = [_node_row(node.name, results.get(node.name), node.kind) for node in content.plan.nodes]
    columns = name_columns(
        ("Node", "Kind", "State", "Time", "Peak memory", "Content", "Why"), numbers=("Time", "Peak memory")
    )
    listed = folded("All nodes as a table", table("Nodes in the order of the plan", columns, nodes))
    return section("plan", "What ran", paragraph(text(told)), scrolling("Plan", picture, "scroll graph"), listed)


def _node_row(name: str, result: NodeResult | None, kind: str) -> Row:
    if result is None:
        return Row.of(code(name), text(kind), badge("not reached", ""), *map(text, (MISSING, MISSING, MISSING, "")))
    return Row.of(
        code(name),
        text(kind),
        badge(result.state, _STATE_TONES.get(result.state, "")),
        text(format_seconds(result.seconds) if result.state != "cached" else MISSING),
        text(format_bytes(result.peak_bytes)),
        digest(result.output.digest) if result.output else text(MISSING),
        text(result.reason),
    )
