"""Bars in pairs, one line a bin: shares before and after. Enters plain values, leaves SVG for a page with the style."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.report.axes import WIDTH, Scale, finite
from engine.report.charts import ChartText, LegendEntry, draw_legend, picture
from engine.report.lettering import shorten, text_width
from engine.report.markup import Markup, element, text
from engine.report.numbers import format_share

_ROW = 17.0
_BAR = 5.0
_SIZE = 11.5
_MAX_LABEL = 150.0
_NUMBERS = 116.0


@dataclass(frozen=True, slots=True)
class Pair:
    """One bin with its share of rows on both sides."""

    name: str
    before: float
    after: float


def paired_bars(words: ChartText, pairs: Sequence[Pair], names: tuple[str, str]) -> Markup:
    """Draw each pair as two bars, with their shares in numbers."""
    legend, top = draw_legend([LegendEntry(names[0], "baseline"), LegendEntry(names[1], "challenger")])
    label = min(max((text_width(pair.name, _SIZE) for pair in pairs), default=0.0), _MAX_LABEL)
    longest = max(finite(value for pair in pairs for value in (pair.before, pair.after)), default=1.0) or 1.0
    scale = Scale(0.0, longest, label + 10, WIDTH - _NUMBERS)
    rows = [_row(pair, scale, (label, top + index * _ROW)) for index, pair in enumerate(pairs)]
    return picture(words.title, words.description, top + len(pairs) * _ROW + 6, (legend, *rows))


def _row(pair: Pair, scale: Scale, place: tuple[float, float]) -> Markup:
    label, y = place
    shown = f"{format_share(pair.before, 1)} → {format_share(pair.after, 1)}"
    parts = [element("text", {"class": "label", "x": 0, "y": y + 11}, text(shorten(pair.name, label + 0.5, _SIZE)))]
    for tone, value, offset in (("baseline", pair.before, 2.0), ("challenger", pair.after, 2.0 + _BAR + 1)):
        width = max(scale(value) - scale(0.0), 0.0)
        bar = element("rect", {"class": "bar", "x": scale(0.0), "y": y + offset, "width": width, "height": _BAR})
        parts.append(element("g", {"class": tone}, bar))
    parts.append(element("text", {"class": "tick", "x": WIDTH - 1, "y": y + 11, "text-anchor": "end"}, text(shown)))
    return element("g", {}, element("title", {}, text(f"{pair.name}: {shown}")), *parts)
