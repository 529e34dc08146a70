"""A matrix of shares as a picture: what was taken for what. Rows add up to one; darker is more.

Enters: a chart of the kind `matrix`. Leaves: SVG for a page that brings the style. Every cell says its numbers in a tooltip, and
those with room write them.
"""

from __future__ import annotations

from engine.analysis_records import AnalysisChart, AnalysisPoint
from engine.report.axes import WIDTH
from engine.report.charts import picture
from engine.report.lettering import shorten, text_width
from engine.report.markup import Attributes, Markup, element, text
from engine.report.numbers import format_share, plural

_TOP, _SIZE = 60.0, 11.5
_MOST_LABEL, _MOST_CELL, _LEAST_WRITTEN = 120.0, 46.0, 26.0


def matrix_chart(title: str, chart: AnalysisChart) -> Markup:
    """Draw a square of cells; the diagonal is what was right."""
    names = [series.name for series in chart.series]
    label = min(max((text_width(name, _SIZE) for name in names), default=0.0), _MOST_LABEL)
    left = label + 10
    cell = min(_MOST_CELL, (WIDTH - left) / max(1, len(names)))
    parts = [element("text", {"class": "tick", "x": left, "y": _TOP - 24}, text(f"{chart.x} \u2192, {chart.y} \u2193"))]
    for column, name in enumerate(names):
        middle = left + (column + 0.5) * cell
        shown = shorten(name, cell - 2, _SIZE)
        parts.append(
            element("text", {"class": "tick", "x": middle, "y": _TOP - 6, "text-anchor": "middle"}, text(shown))
        )
    for row, series in enumerate(chart.series):
        y = _TOP + row * cell
        shown = text(shorten(series.name, label, _SIZE))
        parts.append(
            element("text", {"class": "label", "x": label, "y": y + cell / 2 + 4, "text-anchor": "end"}, shown)
        )
        parts += [
            _cell(series.name, point, (left + column * cell, y), cell) for column, point in enumerate(series.points)
        ]
    told = "; ".join(f"{series.name}: {_told(series.points)}" for series in chart.series)
    body = element("g", {"class": "challenger"}, *parts)
    return picture(title, told, _TOP + len(names) * cell + 8, (body,))


def _cell(actual: str, point: AnalysisPoint, place: tuple[float, float], side: float) -> Markup:
    share = point.value or 0.0
    x, y = place
    box = element(
        "rect",
        {"class": "cell", "x": x + 0.5, "y": y + 0.5, "width": side - 1, "height": side - 1,
         "style": f"fill:var(--tone);fill-opacity:{0.04 + 0.6 * share:.3f}"},
    )  # fmt: skip
    words = f"{actual} taken for {point.name}: {format_share(share, 1)} ({plural(point.n, 'row')})"
    parts = [element("title", {}, text(words)), box]
    if side >= _LEAST_WRITTEN:
        shown = text("" if point.value is None else f"{100 * share:.0f}")
        middle: Attributes = {"class": "label", "x": x + side / 2, "y": y + side / 2 + 4, "text-anchor": "middle"}
        parts.append(element("text", middle, shown))
    return element("g", {}, *parts)


def _told(points: tuple[AnalysisPoint, ...]) -> str:
    return ", ".join(f"{point.name} {format_share(point.value or 0.0, 1)}" for point in points)
