"""Charts with one line a name: bars (importance) and points with intervals (metrics by model, slices).

Enter: rows of plain values. Leave: SVG for a page that brings the style. Names get the room they need, numbers align at
the right, and the plot takes what is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.report.axes import WIDTH, Domain, Scale, draw_x_axis, finite, pad_domain
from engine.report.charts import ChartText, Tone, marker, picture
from engine.report.lettering import shorten, text_width
from engine.report.markup import NOTHING, Markup, element, text
from engine.report.numbers import format_interval, format_number

_ROW = 19.0
_TOP = 26.0
_LABEL_SIZE = 11.5
_MAX_LABEL = 146.0
_GAP = 10.0


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar; `shown` is written at its right."""

    name: str
    value: float | None
    shown: str


@dataclass(frozen=True, slots=True)
class Interval:
    """One point with its interval; without `value` the row says `note` instead (why there is none)."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    tone: Tone = "challenger"
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Columns:
    label: float
    left: float
    right: float


def bar_chart(words: ChartText, bars: Sequence[Bar], alike: Sequence[Bar] = ()) -> Markup:
    """Draw horizontal bars from zero, in the order given; negative values count as zero.

    Charts with the same `alike` (all their bars together) have the same scale and columns.
    """
    sized = alike or bars
    columns = _columns([bar.name for bar in sized], [bar.shown for bar in sized])
    longest = max(finite(bar.value for bar in sized), default=0.0)
    scale = Scale(0.0, longest if longest > 0 else 1.0, columns.left, columns.right)
    parts: list[Markup] = []
    for index, bar in enumerate(bars):
        y = _TOP + index * _ROW
        length = max(scale(bar.value) - columns.left, 1.0) if finite([bar.value]) and bar.value else 0.0
        parts += [
            _label(bar.name, columns, y),
            element(
                "rect", {"class": "bar", "x": columns.left, "y": y + 3, "width": length, "height": _ROW - 6, "rx": 1.5}
            ),
            _value(bar.shown, y),
        ]
    height = _TOP + len(bars) * _ROW + 6
    return picture(words.title, words.description, height, (element("g", {"class": "challenger"}, *parts),))


def interval_chart(
    words: ChartText, rows: Sequence[Interval], reference: float | None = None, domain: Domain | None = None
) -> Markup:
    """Draw a forest plot: one point with its interval a row, and a dashed line at `reference`.

    `domain` is for charts that share a scale; else the chart spans its own rows (`interval_domain`).
    """
    shown = [format_number(row.value) if finite([row.value]) else row.note for row in rows]
    columns = _columns([row.name for row in rows], shown)
    low, high = domain or interval_domain(rows, reference)
    scale = Scale(low, high, columns.left, columns.right)
    bottom = _TOP + len(rows) * _ROW + 4
    parts = [draw_x_axis(scale, bottom, words.x, _TOP)]
    if finite([reference]) and reference is not None:
        x = scale(reference)
        parts.append(element("line", {"class": "reference", "x1": x, "x2": x, "y1": _TOP - 2, "y2": bottom}))
    for index, (row, value) in enumerate(zip(rows, shown, strict=True)):
        parts.append(_interval(row, value, scale, columns, _TOP + index * _ROW))
    return picture(words.title, words.description, bottom + (36 if words.x else 22), parts)


def interval_domain(rows: Sequence[Interval], reference: float | None = None) -> Domain:
    """Give the span of all values, interval ends and the reference, with a little air."""
    ends = [end for row in rows if finite([row.value]) for end in (row.value, row.low, row.high)]
    return pad_domain([*ends, reference])


def _interval(row: Interval, shown: str, scale: Scale, columns: _Columns, y: float) -> Markup:
    middle = y + _ROW / 2
    parts = [_label(row.name, columns, y), _value(shown, y)]
    if row.value is not None and finite([row.value]):
        if row.low is not None and row.high is not None and len(finite([row.low, row.high])) == 2:
            path = f"M{scale(row.low):.1f} {middle:.1f}H{scale(row.high):.1f}"
            parts.append(element("path", {"class": "whisker", "d": path}))
        told = text(f"{row.name}: {format_number(row.value)} {format_interval(row.low, row.high)}")
        parts.append(element("g", {}, element("title", {}, told), marker(row.tone, scale(row.value), middle, 4.2)))
    return element("g", {"class": row.tone}, *parts)


def _columns(names: Sequence[str], values: Sequence[str]) -> _Columns:
    label = min(max((text_width(name, _LABEL_SIZE) for name in names), default=0.0), _MAX_LABEL)
    value = min(max((text_width(shown, _LABEL_SIZE) for shown in values), default=0.0), 110.0)
    return _Columns(label, label + _GAP, WIDTH - value - _GAP)


def _label(name: str, columns: _Columns, y: float) -> Markup:
    """Write a row's name at the left, whole in a tooltip when it had to be cut."""
    short = shorten(name, columns.label + 0.5, _LABEL_SIZE)
    whole = element("title", {}, text(name)) if short != name else NOTHING
    return element("text", {"class": "label", "x": 0, "y": y + _ROW / 2 + 4}, text(short), whole)


def _value(shown: str, y: float) -> Markup:
    short = text(shorten(shown, 112.0, _LABEL_SIZE))
    return element("text", {"class": "label", "x": WIDTH - 1, "y": y + _ROW / 2 + 4, "text-anchor": "end"}, short)
