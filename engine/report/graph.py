"""The plan as a picture: boxes in layers from left to right, coloured by how each node ended or would.

Enters: an execution plan with the results of a run, or with a forecast. Leaves: SVG, either standing alone
(`engine plan --graph plan.svg`) or for a page that brings its own style. Only the standard library is imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.report.layout import Box, Route, arrange
from engine.report.lettering import clip, shorten, text_width
from engine.report.markup import NOTHING, Markup, element, join, text
from engine.report.numbers import format_count, format_seconds, plural
from engine.report.style import PALETTE, PICTURE

if TYPE_CHECKING:
    from engine.plan.explain import NodeForecast
    from engine.plan.model import ExecutionPlan, PlanNode
    from engine.records import NodeResult

_MARGIN = 8.0
_HEIGHT = 56.0
_LEFT, _RIGHT = 11.0, 8.0
_MAX_TEXT = 190.0
_MAX_DETAIL = 104.0
_NAME_SIZE = 13.5  # the name is 12.5 and bold
_DETAIL_SIZE = 11.0
_LEGEND_HEIGHT = 30.0
_CURVE = 0.5

# How a state is named and coloured; the class is also a rule of the style sheet.
_STATES = {
    "ran": ("ran", "ran"),
    "cached": ("cached", "cached"),
    "failed": ("failed", "failed"),
    "running": ("running", "ran"),
    "pending": ("to run", "todo"),
    "skipped": ("skipped", "skipped"),
    "cancelled": ("cancelled", "skipped"),
    "run": ("to run", "todo"),
    "depends": ("runs if inputs change", "maybe"),
    "effect": ("effect", "maybe"),
    "source": ("source", "cached"),
    "request": ("request field", "skipped"),
    "feature": ("feature", "ran"),
    "subject": ("this feature", "todo"),
    "user": ("uses it", "maybe"),
}


@dataclass(frozen=True, slots=True)
class Card:
    """What one box says: its first line, its state, a line of detail, and the full story for a tooltip."""

    name: str
    state: str
    status: str
    detail: str
    story: str


def draw_graph(
    plan: ExecutionPlan,
    results: Mapping[str, NodeResult] | None = None,
    *,
    forecast: Sequence[NodeForecast] = (),
    standalone: bool = True,
) -> str:
    """Draw a plan; nodes without a result or forecast are still to run.

    Edges that a longer path implies are left out, and the legend says how many. Standing alone, the picture carries its
    style and follows the reader's light or dark preference.
    """
    foreseen = {node.name: node for node in forecast}
    cards = [_card(node, (results or {}).get(node.name), foreseen.get(node.name)) for node in plan.nodes]
    needs = "; ".join(
        f"{node.name} after {', '.join(dict.fromkeys(node.inputs.values()))}" for node in plan.nodes if node.inputs
    )
    said = (f"Plan of pipeline {plan.pipeline}", f"{plural(len(plan.nodes), 'node')}. {needs}")
    return draw_cards(cards, plan.edges, said, standalone=standalone)


def draw_cards(
    cards: Sequence[Card], edges: Mapping[str, Iterable[str]], said: tuple[str, str], *, standalone: bool = True
) -> str:
    """Draw cards and what each needs, with a title and a description for those who cannot see it."""
    layout = arrange(
        {name: tuple(needed) for name, needed in edges.items()},
        {card.name: (_card_width(card), _HEIGHT) for card in cards},
    )
    legend = _legend(cards, layout.implied)
    width = max(layout.width, legend.width, 120.0) + 2 * _MARGIN
    height = layout.height + legend.height + 2 * _MARGIN
    drawing = element(
        "g",
        {"transform": f"translate({_MARGIN:g} {_MARGIN:g})"},
        *(_edge(route) for route in layout.routes),
        *(_node(card, layout.boxes[card.name]) for card in cards),
        element("g", {"transform": f"translate(0 {layout.height:.2f})"}, legend.body),
    )
    attributes: dict[str, str | float | int | None] = {"class": "picture", "role": "img"}
    if standalone:
        attributes |= {"xmlns": "http://www.w3.org/2000/svg", "width": width, "height": height}
        style = element("style", {}, Markup(PALETTE + PICTURE + "svg{background:var(--paper)}"))
    else:
        # The page lets it shrink a little to fit a wide screen; on a narrow one it keeps its size and scrolls.
        attributes["style"] = f"--natural:{width:.0f}px"
        style = NOTHING
    attributes["viewBox"] = f"0 0 {width:.2f} {height:.2f}"
    title, described = (element(tag, {}, text(words)) for tag, words in zip(("title", "desc"), said, strict=True))
    return element("svg", attributes, title, described, style, drawing)


def _card(node: PlanNode, result: NodeResult | None, foreseen: NodeForecast | None) -> Card:
    state = result.state if result else foreseen.state if foreseen else "pending"
    word, _ = _STATES[state]
    if result is not None and state in {"ran", "failed"}:
        word = f"{word} · {format_seconds(result.seconds)}"
    rows = _rows(result)
    detail = f"{format_count(rows)} rows" if rows is not None else node.title or node.kind
    reason = (result.error or result.reason) if result else foreseen.reason if foreseen else ""
    story = [
        f"{node.name}: {word}",
        node.title,
        reason,
        f"needs {', '.join(dict.fromkeys(node.inputs.values()))}" if node.inputs else "",
    ]
    return Card(node.name, state, word, detail, "\n".join(line for line in story if line))


def _rows(result: NodeResult | None) -> int | None:
    rows = result.output.notes.get("rows") if result and result.output else None
    return rows if isinstance(rows, int) and not isinstance(rows, bool) else None


def _card_width(card: Card) -> float:
    widest = max(
        text_width(card.name, _NAME_SIZE),
        text_width(card.status, _DETAIL_SIZE + 0.5),
        min(text_width(card.detail, _DETAIL_SIZE), _MAX_DETAIL),
    )
    return min(widest, _MAX_TEXT) + _LEFT + _RIGHT


def _node(card: Card, box: Box) -> Markup:
    room = box.width - _LEFT - _RIGHT + 0.5

    def line(css: str, y: float, shown: str) -> Markup:
        return element("text", {"class": css, "x": _LEFT, "y": y}, text(shown))

    return element(
        "g",
        {"class": f"node {_STATES[card.state][1]}", "transform": f"translate({box.x:.2f} {box.y:.2f})"},
        element("title", {}, text(card.story)),
        element("rect", {"class": "box", "width": box.width, "height": box.height, "rx": 4}),
        element("rect", {"class": "stripe", "width": 4, "height": box.height, "rx": 2}),
        line("name", 18, shorten(card.name, room, _NAME_SIZE)),
        line("state", 33.5, clip(card.status, room, _DETAIL_SIZE + 0.5)),
        line("detail", 48, clip(card.detail, room, _DETAIL_SIZE)),
    )


def _edge(route: Route) -> Markup:
    start, *rest = route.points
    steps = [f"M{start[0]:.1f} {start[1]:.1f}"]
    here = start
    for there in rest:
        if abs(there[1] - here[1]) < 0.05:
            steps.append(f"H{there[0]:.1f}")
        else:
            middle = here[0] + (there[0] - here[0]) * _CURVE
            steps.append(f"C{middle:.1f} {here[1]:.1f} {middle:.1f} {there[1]:.1f} {there[0]:.1f} {there[1]:.1f}")
        here = there
    x, y = here
    tip = element("path", {"class": "tip", "d": f"M{x:.1f} {y:.1f}l-7 -3.5v7z"})
    return join((element("path", {"class": "edge", "d": "".join(steps)}), tip))


@dataclass(frozen=True, slots=True)
class _Legend:
    body: Markup
    width: float
    height: float


def _legend(cards: Sequence[Card], implied: int) -> _Legend:
    """Name each state that occurs with its count, and own up to edges left out."""
    counts: dict[tuple[str, str], int] = {}
    for card in cards:
        counts[_STATES[card.state]] = counts.get(_STATES[card.state], 0) + 1
    parts: list[Markup] = []
    x = 0.0
    for (word, css), count in counts.items():
        label = f"{count} {word}"
        swatch = element("rect", {"class": "box", "x": x + 0.5, "y": 14.5, "width": 11, "height": 11, "rx": 2})
        stripe = element("rect", {"class": "stripe", "x": x + 0.5, "y": 14.5, "width": 3, "height": 11, "rx": 1})
        words = element("text", {"class": "detail", "x": x + 17, "y": 24}, text(label))
        parts.append(element("g", {"class": css}, swatch, stripe, words))
        x += 17 + text_width(label, _DETAIL_SIZE) + 18
    if implied:
        note = f"{plural(implied, 'edge')} implied by longer paths not drawn"
        parts.append(element("text", {"class": "detail", "x": x, "y": 24}, text(note)))
        x += text_width(note, _DETAIL_SIZE)
    return _Legend(join(parts), x, _LEGEND_HEIGHT if parts else 0.0)
