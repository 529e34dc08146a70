"""Curves and histograms as small SVG pictures, from plain lists.

Enter: series of points, labels. Leave: SVG for a page that brings the style (`engine.report.style`). Not matplotlib:
its import takes 0.6 s in a process that otherwise needs none of its dependencies, and its pictures carry fonts or
glyph outlines by the hundred kilobytes; these are a few kilobytes of text that follow light and dark.

A series is told apart by colour, dash and marker, never by colour alone. Values that are not finite are left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from engine.report.axes import TICK_SIZE, WIDTH, Domain, Plot, Scale, draw_axes, finite, nice_ticks, tick_labels
from engine.report.lettering import shorten, text_width
from engine.report.markup import NOTHING, Markup, element, join, text
from engine.report.numbers import plural

Tone: TypeAlias = Literal["challenger", "baseline", "champion", "other"]
Point: TypeAlias = tuple[float, float]

_LEFT, _RIGHT, _BOTTOM = 50.0, 12.0, 38.0
_TURNED = 24.0  # what the turned label of the y axis and gaps take beside the ticks
_PLOT_HEIGHT = 220.0
_TITLE = 22.0
_LEGEND_LINE = 18.0
_LABEL_SIZE = 11.5
# Points of a curve nearer than this to the last one drawn cannot be seen; leaving them out keeps the page small.
_STEP = 1.2


@dataclass(frozen=True, slots=True)
class ChartText:
    """What a chart says in words: its title, its axes, and a description for those who cannot see it."""

    title: str
    x: str
    y: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """A named curve. `weights`, one a point, make markers that grow with them (counts of a calibration bin).

    `band` is a low and a high end for each point, shaded; `None` where there is no interval.
    """

    name: str
    tone: Tone
    points: Sequence[Point]
    weights: Sequence[float] = ()
    band: Sequence[Point | None] = ()


@dataclass(frozen=True, slots=True)
class Bins:
    """A named histogram: shares of rows (they need not add up to one) between neighbouring `edges`, one fewer."""

    name: str
    tone: Tone
    edges: Sequence[float]
    shares: Sequence[float]


@dataclass(frozen=True, slots=True)
class Reference:
    """A dashed line for comparison, from one point to another."""

    name: str
    start: Point
    end: Point


@dataclass(frozen=True, slots=True)
class LegendEntry:
    """A name in a legend: a series by its tone, or the reference line when there is none."""

    name: str
    tone: Tone | None
    marked: bool = False


UNIT: Domain = (0.0, 1.0)
DIAGONAL = ((0.0, 0.0), (1.0, 1.0))


def line_chart(
    words: ChartText,
    series: Sequence[Series],
    domains: tuple[Domain, Domain] = (UNIT, UNIT),
    reference: Reference | None = None,
) -> Markup:
    """Draw curves over two numeric axes, with a legend above the plot."""
    entries = [LegendEntry(one.name, one.tone, marked=bool(one.weights)) for one in series]
    legend = draw_legend([*entries, LegendEntry(reference.name, None)] if reference else entries)
    plot = _plot(domains, legend[1])
    parts = [draw_axes(plot, (words.x, words.y))]
    if reference is not None:
        x1, y1 = plot.x(reference.start[0]), plot.y(reference.start[1])
        x2, y2 = plot.x(reference.end[0]), plot.y(reference.end[1])
        parts.append(element("line", {"class": "reference", "x1": x1, "y1": y1, "x2": x2, "y2": y2}))
    heaviest = max((weight for one in series for weight in finite(one.weights)), default=0.0)
    # The challenger is drawn last, on top.
    parts += [_curve(plot, one, heaviest) for one in reversed(series)]
    empty = _note(plot, "nothing to draw") if not any(one.points for one in series) else NOTHING
    return picture(words.title, words.description, plot.y.start + _BOTTOM, (legend[0], *parts, empty))


def histogram(words: ChartText, series: Sequence[Bins]) -> Markup:
    """Draw histograms over each other as outlines with a light fill."""
    legend = draw_legend([LegendEntry(one.name, one.tone) for one in series])
    edges = finite(edge for one in series for edge in one.edges)
    top = max(finite(share for one in series for share in one.shares), default=1.0) or 1.0
    low, high = (min(edges), max(edges)) if edges and max(edges) > min(edges) else UNIT
    plot = _plot(((low, high), (0.0, top * 1.04)), legend[1])
    outlines = [_outline(plot, one) for one in reversed(series)]
    empty = _note(plot, "nothing to draw") if not any(one.shares for one in series) else NOTHING
    axes = draw_axes(plot, (words.x, words.y))
    return picture(words.title, words.description, plot.y.start + _BOTTOM, (legend[0], axes, *outlines, empty))


def picture(title: str, description: str, height: float, parts: Sequence[Markup], width: float = WIDTH) -> Markup:
    """Frame a chart: a visible heading, which is also its accessible title, and a description."""
    heading = element("text", {"class": "heading", "x": 0, "y": 14}, text(shorten(title, width, 13.6)))
    described = element("desc", {}, text(description)) if description else NOTHING
    natural = f"--natural:{width:.0f}px"  # a page lets it grow a little: large letters read no better
    attributes = {"class": "picture", "role": "img", "style": natural, "viewBox": f"0 0 {width:g} {height:.1f}"}
    return element("svg", attributes, element("title", {}, text(title)), described, heading, *parts)


def draw_legend(entries: Sequence[LegendEntry]) -> tuple[Markup, float]:
    """Lay a legend out in as many lines as it needs, under the heading; gives it with the y where a plot may start."""
    parts: list[Markup] = []
    x, y = 0.0, _TITLE + 10
    for entry in entries:
        shown = shorten(entry.name, WIDTH - 40, _LABEL_SIZE)
        width = 32 + text_width(shown, _LABEL_SIZE) + 14
        if x and x + width - 14 > WIDTH:
            x, y = 0.0, y + _LEGEND_LINE
        parts.append(_legend_entry(entry, shown, x, y))
        x += width
    return join(parts), y + 14 if entries else _TITLE + 6


def marker(tone: Tone, x: float, y: float, radius: float) -> Markup:
    """Draw the marker that belongs to a tone: circle, square or diamond."""
    match tone:
        case "baseline":
            side = radius * 1.77
            return element(
                "rect", {"class": "dot", "x": x - side / 2, "y": y - side / 2, "width": side, "height": side}
            )
        case "champion":
            r = radius * 1.25
            return element(
                "path",
                {"class": "dot", "d": f"M{x:.1f} {y - r:.1f}l{r:.1f} {r:.1f}l{-r:.1f} {r:.1f}l{-r:.1f} {-r:.1f}z"},
            )
        case _:
            return element("circle", {"class": "dot", "cx": x, "cy": y, "r": radius})


def nice_limit(values: Sequence[float], about: int = 5) -> float:
    """Give the round value at or above the largest, as the upper end of an axis that starts at zero.

    >>> nice_limit([0.12, 0.57]), nice_limit([])
    (0.6, 1.0)
    """
    largest = max(finite(values), default=0.0)
    if largest <= 0:
        return 1.0
    ticks = nice_ticks((0.0, largest), about)
    if len(ticks) < 2:
        return largest
    if ticks[-1] >= largest * (1 - 1e-9):
        return ticks[-1]
    # One step more, rounded as the ticks are.
    return round(ticks[-1] + ticks[1], 2 - math.floor(math.log10(ticks[1])))


def _legend_entry(entry: LegendEntry, shown: str, x: float, y: float) -> Markup:
    css = "curve" if entry.tone else "reference"
    stroke = element("line", {"class": css, "x1": x, "x2": x + 24, "y1": y - 4, "y2": y - 4})
    dot = marker(entry.tone, x + 12, y - 4, 3.4) if entry.tone and entry.marked else NOTHING
    label = element("text", {"class": "label", "x": x + 30, "y": y}, text(shown))
    return element("g", {"class": entry.tone}, stroke, dot, label)


def _plot(domains: tuple[Domain, Domain], top: float) -> Plot:
    (x_low, x_high), (y_low, y_high) = (_open(domain) for domain in domains)
    labels = tick_labels(nice_ticks((y_low, y_high)))
    left = max(_LEFT, _TURNED + max((text_width(label, TICK_SIZE) for label in labels), default=0.0))
    return Plot(Scale(x_low, x_high, left, WIDTH - _RIGHT), Scale(y_low, y_high, top + _PLOT_HEIGHT, top))


def _open(domain: Domain) -> Domain:
    low, high = domain
    return domain if len(finite(domain)) == 2 and high > low else UNIT


def _curve(plot: Plot, series: Series, heaviest: float) -> Markup:
    weights = series.weights if len(series.weights) == len(series.points) else ()
    known = [(index, point) for index, point in enumerate(series.points) if len(finite(point)) == 2]
    places = [(plot.x(x), plot.y(y)) for _, (x, y) in known]
    parts: list[Markup] = [_band(plot, series)]
    drawn = _thin(places)
    if len(drawn) > 1:
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in drawn)
        parts.append(element("path", {"class": "curve", "d": path}))
    if weights and heaviest > 0:
        for (index, point), place in zip(known, places, strict=True):
            parts.append(_weighted(series, point, place, (weights[index], heaviest)))
    elif len(drawn) == 1:
        parts.append(marker(series.tone, *drawn[0], 3.6))
    return element("g", {"class": series.tone}, *parts)


def _band(plot: Plot, series: Series) -> Markup:
    """Shade between the lower and the upper ends, as far as there are both."""
    ends = [
        (plot.x(point[0]), plot.y(band[0]), plot.y(band[1]))
        for point, band in zip(series.points, series.band, strict=False)
        if band is not None and len(finite((*point, *band))) == 4
    ]
    if len(ends) < 2:
        return NOTHING
    lower = [f"{x:.1f} {low:.1f}" for x, low, _ in ends]
    upper = [f"{x:.1f} {high:.1f}" for x, _, high in reversed(ends)]
    return element("path", {"class": "area", "d": "M" + "L".join([*lower, *upper]) + "Z"})


def _weighted(series: Series, point: Point, place: Point, weights: tuple[float, float]) -> Markup:
    """Draw a marker that grows with the point's weight, relative to the heaviest of the chart."""
    weight = max(sum(finite(weights[:1])), 0.0)
    radius = 2.2 + 3.6 * math.sqrt(min(weight / weights[1], 1.0))
    told = f"{series.name}: {point[0]:.4g}, {point[1]:.4g} ({plural(int(weight), 'row')})"
    return element("g", {}, element("title", {}, text(told)), marker(series.tone, *place, radius))


def _thin(places: Sequence[Point]) -> list[Point]:
    """Leave out points that are hardly apart from the last one kept; the first and the last stay."""
    kept: list[Point] = []
    for index, (x, y) in enumerate(places):
        near = kept and abs(x - kept[-1][0]) + abs(y - kept[-1][1]) < _STEP
        if not near or index == len(places) - 1:
            kept.append((x, y))
    return kept if len(kept) != 2 or kept[0] != kept[1] else kept[:1]


def _outline(plot: Plot, bins: Bins) -> Markup:
    floor = plot.y(0.0)
    steps: list[str] = []
    for left, right, share in zip(bins.edges, bins.edges[1:], bins.shares, strict=False):
        if len(finite((left, right, share))) == 3:
            y = plot.y(share)
            steps.append(f"{'L' if steps else 'M'}{plot.x(left):.1f} {y:.1f}H{plot.x(right):.1f}")
    if not steps:
        return NOTHING
    path = "".join(steps)
    first = steps[0][1:].split(" ", 1)[0]
    area = element("path", {"class": "area", "d": f"{path}V{floor:.1f}H{first}Z"})
    return element("g", {"class": bins.tone}, area, element("path", {"class": "curve", "d": path}))


def _note(plot: Plot, words: str) -> Markup:
    x, y = (plot.x.start + plot.x.end) / 2, (plot.y.start + plot.y.end) / 2
    return element("text", {"class": "tick", "x": x, "y": y, "text-anchor": "middle"}, text(words))
