"""Axes of charts: round ticks (Heckbert 1990), scales from values to places, and the drawn frame of a plot. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from engine.report.lettering import text_width
from engine.report.markup import Markup, element, join, text

Domain = tuple[float, float]

WIDTH = 360.0
"""The width of every chart, in its own units: close to CSS pixels on a phone and in three columns."""
TICK_SIZE = 11.0
_VAST = 1e300


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps `low..high` to `start..end` linearly; values outside are drawn at the nearer end."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Give the place of a value; clamped, so nothing is drawn outside the plot.

        >>> Scale(0, 10, 100, 200)(2.5), Scale(0, 10, 100, 200)(99)
        (125.0, 200.0)
        """
        inside = min(max(value, self.low), self.high)
        return self.start + (inside - self.low) / (self.high - self.low) * (self.end - self.start)


@dataclass(frozen=True, slots=True)
class Plot:
    """The rectangle between the axes, with a scale each way; y grows upwards."""

    x: Scale
    y: Scale


def finite(values: Iterable[float | None]) -> list[float]:
    """Keep what can be drawn: no NaN, no infinity, nothing so vast that a span overflows."""
    return [value for value in values if value is not None and abs(value) < _VAST]


def pad_domain(values: Iterable[float | None], share: float = 0.06) -> Domain:
    """Give a domain around values with a little air; `0..1` when there are none, one unit when they are all equal.

    >>> pad_domain([0.0, 1.0], 0.1), pad_domain([]), pad_domain([2.0])
    ((-0.1, 1.1), (0.0, 1.0), (1.9, 2.1))
    """
    known = finite(values)
    if not known:
        return (0.0, 1.0)
    low, high = min(known), max(known)
    span = high - low
    if span <= 1e-12 * max(abs(low), abs(high), 1e-300):
        around = 0.05 * abs(high) or 0.5
        return (low - around, high + around)
    return (low - share * span, high + share * span)


def nice_ticks(domain: Domain, about: int = 5) -> list[float]:
    """Give round values within a domain, a step of 1, 2, 2.5 or 5 times a power of ten apart.

    >>> nice_ticks((0.0, 1.0)), nice_ticks((0.731, 0.752), 4)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [0.735, 0.74, 0.745, 0.75])
    """
    low, high = domain
    rough = (high - low) / max(about, 1)
    if not math.isfinite(rough) or rough <= 0 or rough < 1e-13 * max(abs(low), abs(high)):
        return []
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.9)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    digits = max(0, 2 - math.floor(math.log10(step)))
    return [round(index * step, digits) + 0.0 for index in range(first, last + 1)]


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """Write ticks with the same decimals, as few as tell them apart.

    >>> tick_labels([0.0, 0.25, 0.5]), tick_labels([0.0, 20000.0]), tick_labels([0.0, 1e-7])
    (['0', '0.25', '0.50'], ['0', '20,000'], ['0', '1e−7'])
    >>> tick_labels([0.03125, 0.03125002])
    ['0.03125000', '0.03125002']
    """
    size = max(map(abs, ticks), default=0.0)
    if size and (size < 1e-4 or size >= 1e7):
        return _scientific(ticks)
    for decimals in range(14):
        shown = [f"{tick:,.{decimals}f}" for tick in ticks]
        if len(set(shown)) == len(ticks) and all(
            abs(float(label.replace(",", "")) - tick) <= 1e-9 * max(size, 1.0)
            for label, tick in zip(shown, ticks, strict=True)
        ):
            break
    return (
        ["0" if tick == 0 else label.replace("-", "−") for label, tick in zip(shown, ticks, strict=True)]
        if ticks
        else []
    )


def draw_axes(plot: Plot, labels: tuple[str, str]) -> Markup:
    """Draw rules, ticks and both axis labels around a plot."""
    left, right, bottom = plot.x.start, plot.x.end, plot.y.start
    parts: list[Markup] = []
    ys = nice_ticks((plot.y.low, plot.y.high))
    for tick, label in zip(ys, tick_labels(ys), strict=True):
        y = plot.y(tick)
        parts.append(element("line", {"class": "rule", "x1": left, "x2": right, "y1": y, "y2": y}))
        parts.append(element("text", {"class": "tick", "x": left - 6, "y": y + 3.8, "text-anchor": "end"}, text(label)))
    parts.append(draw_x_axis(plot.x, bottom, labels[0]))
    middle = (plot.y.start + plot.y.end) / 2
    turned = {"class": "tick", "transform": f"translate(11 {middle:.1f}) rotate(-90)", "text-anchor": "middle"}
    parts.append(element("text", turned, text(labels[1])))
    return join(parts)


def draw_x_axis(scale: Scale, bottom: float, label: str, top: float | None = None) -> Markup:
    """Draw a horizontal axis at `bottom`, with rules up to `top` if given."""
    ticks = _fitting_ticks(scale)
    parts = [element("line", {"class": "axis", "x1": scale.start, "x2": scale.end, "y1": bottom, "y2": bottom})]
    for tick, shown in zip(ticks, tick_labels(ticks), strict=True):
        x = scale(tick)
        if top is not None:
            parts.append(element("line", {"class": "rule", "x1": x, "x2": x, "y1": top, "y2": bottom}))
        parts.append(element("line", {"class": "axis", "x1": x, "x2": x, "y1": bottom, "y2": bottom + 4}))
        parts.append(_centred(x, bottom + 16, shown))
    if label:
        middle = (scale.start + scale.end) / 2
        parts.append(_centred(middle, bottom + 32, label))
    return join(parts)


def _fitting_ticks(scale: Scale) -> list[float]:
    """Give as many ticks, up to about five, as have room for their labels beside each other."""
    ticks: list[float] = []
    for about in (5, 4, 3, 2, 1):
        ticks = nice_ticks((scale.low, scale.high), about)
        needed = sum(text_width(label, TICK_SIZE) + 6 for label in tick_labels(ticks))
        if needed <= scale.end - scale.start + 20:
            break
    return ticks


def _centred(x: float, y: float, words: str) -> Markup:
    """Write a label around `x`, moved in as far as the chart's edges demand."""
    half = text_width(words, TICK_SIZE) / 2
    x = max(min(x, WIDTH - half), half)
    return element("text", {"class": "tick", "x": x, "y": y, "text-anchor": "middle"}, text(words))


def _scientific(ticks: Sequence[float]) -> list[str]:
    """Write ticks as powers of ten, with as few digits as tell them apart."""
    shown: list[str] = []
    for digits in range(16):
        parts = [f"{tick:.{digits}e}".split("e") for tick in ticks]
        shown = [f"{mantissa}e{int(exponent)}".replace("-", "−") for mantissa, exponent in parts]
        if len(set(shown)) == len(ticks):
            break
    return ["0" if tick == 0 else label for tick, label in zip(ticks, shown, strict=True)]
