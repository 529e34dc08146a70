"""Wide charts over calendar time: curves with events on them, and lanes that show what was in force when.

Enter: named tracks and a span of time. Leave: SVG for a page that brings the style (`engine.report.style`). Up to eight tracks are
told apart by colour and dash, and each lane by its name. Nothing of it knows what the tracks are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from engine.report.axes import Plot, Scale, finite, nice_ticks, pad_domain, tick_labels
from engine.report.charts import picture
from engine.report.lettering import shorten, text_width
from engine.report.markup import Markup, element, join, text

WIDE = 960.0
_LEFT, _RIGHT = 62.0, 16.0
_LANE, _LANES_LEFT, _LANES_RIGHT = 26.0, 128.0, 250.0
_MOST_TICKS = 13
_COLOURS = (
    "var(--off)", "var(--challenger)", "var(--baseline)", "var(--champion)", "#a35fc4", "#d1495b", "#2a9aa8", "#97791f",
)  # fmt: skip
_DASHES = ("", "", "7 4", "2 3", "10 3 2 3", "", "7 4", "2 3")


@dataclass(frozen=True, slots=True)
class Span:
    """The time that a chart covers."""

    start: datetime
    end: datetime

    @property
    def days(self) -> float:
        """How many days that is."""
        return (self.end - self.start) / timedelta(days=1)

    def place(self, moment: datetime) -> float:
        """Give a moment in days since the start."""
        return (moment - self.start) / timedelta(days=1)

    def ticks(self) -> list[tuple[float, str]]:
        """Give round moments with their names: months, or days when there are few months.

        >>> Span(datetime(2024, 1, 15, tzinfo=UTC), datetime(2024, 6, 1, tzinfo=UTC)).ticks()[:2]
        [(17.0, 'Feb 2024'), (46.0, 'Mar')]
        """
        firsts = [
            datetime(year, month, 1, tzinfo=UTC)
            for year in range(self.start.year, self.end.year + 1)
            for month in range(1, 13)
        ]
        inside = [first for first in firsts if self.start <= first <= self.end]
        if len(inside) < 3:
            step = max(1, round(self.days / 8))
            days = [self.start + timedelta(days=index * step) for index in range(int(self.days / step) + 1)]
            return [(self.place(day), f"{day:%b} {day.day}") for day in days]
        kept = inside[:: -(-len(inside) // _MOST_TICKS)]
        return [
            (self.place(first), f"{first:%b %Y}" if index == 0 or first.month == 1 else f"{first:%b}")
            for index, first in enumerate(kept)
        ]


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened: filled when it changed what is in force, a ring when it did not."""

    at: datetime
    filled: bool
    words: str


@dataclass(frozen=True, slots=True)
class Track:
    """One of the things compared: its curve as (moment, value), what happened, and words at the end of its lane.

    `look` chooses colour and dash, so that a track looks the same in every chart.
    """

    name: str
    look: int
    points: Sequence[tuple[datetime, float]] = ()
    marks: Sequence[Mark] = ()
    words: str = ""
    band: Sequence[tuple[datetime, float, float]] = ()

    @property
    def style(self) -> str:
        """Its colour, as a style."""
        return f"--tone:{_COLOURS[self.look % len(_COLOURS)]}"

    @property
    def dash(self) -> str | None:
        """Its dash."""
        return _DASHES[self.look % len(_DASHES)] or None


def curves_over_time(words: tuple[str, str, str], span: Span, tracks: Sequence[Track], *, zero: bool = False) -> Markup:
    """Draw curves over time; `words` are title, y axis and description, `zero` draws a line at 0.

    Marks are drawn on a curve at their moments, between its neighbouring points.
    """
    values = [value for track in tracks for _, value in track.points]
    values += [end for track in tracks for _, low, high in track.band for end in (low, high)]
    low, high = pad_domain([*values, 0.0] if zero else values)
    legend, top = _legend(tracks)
    plot = Plot(Scale(0.0, span.days, _LEFT, WIDE - _RIGHT), Scale(low, high, top + 300.0, top))
    parts = [legend, _frame(plot, span, words[1])]
    if zero:
        y = plot.y(0.0)
        parts.append(element("line", {"class": "reference", "x1": plot.x.start, "x2": plot.x.end, "y1": y, "y2": y}))
    parts += [_curve(plot, span, track) for track in tracks]
    return picture(words[0], words[2], plot.y.start + 40.0, parts, WIDE)


def lanes(words: tuple[str, str], span: Span, tracks: Sequence[Track]) -> Markup:
    """Draw one lane a track, with what happened on it and words at its end; `words` are title and description."""
    scale = Scale(0.0, span.days, _LANES_LEFT, WIDE - _LANES_RIGHT)
    bottom = 34.0 + _LANE * len(tracks)
    parts = []
    for x, name in span.ticks():
        place = scale(x)
        parts.append(element("line", {"class": "rule", "x1": place, "x2": place, "y1": 26.0, "y2": bottom}))
        parts.append(_centred(place, bottom + 16, name))
    for index, track in enumerate(tracks):
        y = 34.0 + _LANE * (index + 0.5)
        name = element(
            "text", {"class": "label", "x": _LANES_LEFT - 12, "y": y + 4, "text-anchor": "end"}, text(shorten(track.name, 110.0, 11.5))
        )  # fmt: skip
        line = element("line", {
            "class": "curve", "x1": scale.start, "x2": scale.end, "y1": y, "y2": y, "stroke-opacity": 0.45, "stroke-dasharray": track.dash,
        })  # fmt: skip
        said = element("text", {"class": "tick", "x": scale.end + 12, "y": y + 4}, text(track.words))
        marks = [_mark(scale(span.place(mark.at)), y, mark, 4.6) for mark in track.marks]
        parts.append(element("g", {"style": track.style}, line, name, said, *marks))
    return picture(words[0], words[1], bottom + 26.0, parts, WIDE)


def _frame(plot: Plot, span: Span, label: str) -> Markup:
    parts = []
    ticks = nice_ticks((plot.y.low, plot.y.high), 6)
    for tick, shown in zip(ticks, tick_labels(ticks), strict=True):
        y = plot.y(tick)
        parts.append(element("line", {"class": "rule", "x1": plot.x.start, "x2": plot.x.end, "y1": y, "y2": y}))
        parts.append(
            element("text", {"class": "tick", "x": plot.x.start - 7, "y": y + 3.8, "text-anchor": "end"}, text(shown))
        )
    bottom = plot.y.start
    parts.append(element("line", {"class": "axis", "x1": plot.x.start, "x2": plot.x.end, "y1": bottom, "y2": bottom}))
    for x, shown in span.ticks():
        place = plot.x(x)
        parts.append(element("line", {"class": "axis", "x1": place, "x2": place, "y1": bottom, "y2": bottom + 4}))
        parts.append(_centred(place, bottom + 17, shown))
    middle = (plot.y.start + plot.y.end) / 2
    turned = {"class": "tick", "transform": f"translate(12 {middle:.1f}) rotate(-90)", "text-anchor": "middle"}
    parts.append(element("text", turned, text(label)))
    return join(parts)


def _curve(plot: Plot, span: Span, track: Track) -> Markup:
    places = [(plot.x(span.place(moment)), plot.y(value)) for moment, value in track.points if finite([value])]
    parts = []
    if len(track.band) > 1:
        upper = [f"{plot.x(span.place(moment)):.1f} {plot.y(high):.1f}" for moment, _, high in track.band]
        lower = [f"{plot.x(span.place(moment)):.1f} {plot.y(low):.1f}" for moment, low, _ in reversed(track.band)]
        parts.append(element("path", {"class": "area", "d": "M" + "L".join([*upper, *lower]) + "Z"}))
    if len(places) > 1:
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        wide = 4.5 if track.look == 0 else None
        look = {
            "class": "curve",
            "d": path,
            "stroke-dasharray": track.dash,
            "style": f"stroke-width:{wide};opacity:.45" if wide else None,
        }
        parts.append(element("path", look))
    elif places:
        parts.append(element("circle", {"class": "dot", "cx": places[0][0], "cy": places[0][1], "r": 4}))
    for mark in track.marks:
        x = plot.x(span.place(mark.at))
        parts.append(_mark(x, _height_at(places, x), mark, 3.6))
    return element("g", {"style": track.style}, *parts)


def _height_at(places: Sequence[tuple[float, float]], x: float) -> float:
    """Give how high a curve is at a place: on the line between its neighbours."""
    before = [place for place in places if place[0] <= x]
    after = [place for place in places if place[0] >= x]
    if not before or not after:
        return (before or after or [(x, 0.0)])[-1 if before else 0][1]
    (x1, y1), (x2, y2) = before[-1], after[0]
    return y1 if x2 == x1 else y1 + (y2 - y1) * (x - x1) / (x2 - x1)


def _mark(x: float, y: float, mark: Mark, radius: float) -> Markup:
    ring = None if mark.filled else "fill:var(--paper);stroke:var(--tone);stroke-width:1.6"
    dot = element("circle", {"class": "dot", "cx": x, "cy": y, "r": radius, "style": ring})
    return element("g", {}, element("title", {}, text(mark.words)), dot)


def _legend(tracks: Sequence[Track]) -> tuple[Markup, float]:
    parts = []
    x, y = 0.0, 36.0
    for track in tracks:
        width = 34 + text_width(track.name, 11.5) + 18
        if x and x + width > WIDE:
            x, y = 0.0, y + 18.0
        wide = "stroke-width:4.5;opacity:.45" if track.look == 0 else None
        line = element("line", {
            "class": "curve", "x1": x, "x2": x + 26, "y1": y - 4, "y2": y - 4, "stroke-dasharray": track.dash, "style": wide,
        })  # fmt: skip
        label = element("text", {"class": "label", "x": x + 32, "y": y}, text(track.name))
        parts.append(element("g", {"style": track.style}, line, label))
        x += width
    return join(parts), y + 16.0


def _centred(x: float, y: float, words: str) -> Markup:
    half = text_width(words, 11.0) / 2
    return element(
        "text", {"class": "tick", "x": max(min(x, WIDE - half), half), "y": y, "text-anchor": "middle"}, text(words)
    )
