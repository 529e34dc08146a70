"""Parallel coordinates and scatter plots as small SVGs: many runs or trials by many parameters, one figure each.

Enter: values by name, one a run. Leave: SVG for a page of ours. Numbers lie on a scale, words on steps, and what is missing
is left out. The colour goes from the worst to the best; the best is drawn last, thicker, so that colour is never alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.report.axes import TICK_SIZE, WIDTH
from engine.report.charts import picture
from engine.report.lettering import shorten
from engine.report.markup import Markup, coordinate, element, text

_TOP, _HEIGHT, _BOTTOM = 74.0, 230.0, 34.0
_SIDE = 62.0


@dataclass(frozen=True, slots=True)
class Axis:
    """One quantity: its name and its value for each run (`None`: it has none)."""

    name: str
    values: Sequence[Any]

    @property
    def is_numeric(self) -> bool:
        """Say whether every value is a number."""
        known = [value for value in self.values if value is not None]
        return bool(known) and all(isinstance(value, int | float) and not isinstance(value, bool) for value in known)

    def places(self) -> list[float | None]:
        """Give each value's place from 0 (bottom) to 1 (top)."""
        if self.is_numeric:
            known = [float(value) for value in self.values if value is not None]
            low, high = min(known), max(known)
            width = (high - low) or 1.0
            return [
                None if value is None else (0.5 if high == low else (float(value) - low) / width)
                for value in self.values
            ]
        steps = sorted({str(value) for value in self.values if value is not None})
        count = max(len(steps) - 1, 1)
        return [
            None if value is None else (steps.index(str(value)) / count if len(steps) > 1 else 0.5)
            for value in self.values
        ]

    def ends(self) -> tuple[str, str]:
        """Word the bottom and the top of the axis."""
        if self.is_numeric:
            known = [float(value) for value in self.values if value is not None]
            return f"{min(known):.4g}", f"{max(known):.4g}"
        steps = sorted({str(value) for value in self.values if value is not None})
        return (steps[0], steps[-1]) if steps else ("", "")


def read_axes(columns: Mapping[str, Sequence[Any]]) -> list[Axis]:
    """Give axes of columns whose texts are read as numbers where all of them are."""
    return [Axis(name, [_read(value) for value in values]) for name, values in columns.items()]


def _read(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value if isinstance(value, int | float) or value is None else str(value)


def parallel(title: str, axes: Sequence[Axis], goodness: Sequence[float | None], names: Sequence[str]) -> Markup:
    """Draw a line a run across all axes; `goodness` goes from 0 (worst) to 1 (best)."""
    bottom = _TOP + _HEIGHT
    step = (WIDTH - 2 * _SIDE) / max(len(axes) - 1, 1)
    xs = [_SIDE + index * step for index in range(len(axes))]
    places = [axis.places() for axis in axes]
    parts: list[Markup] = []
    order = sorted(range(len(names)), key=lambda index: -1.0 if (found := goodness[index]) is None else found)
    best = order[-1] if order and goodness[order[-1]] is not None else None
    for index in order:
        points = [
            (x, bottom - place * _HEIGHT)
            for x, column in zip(xs, places, strict=True)
            if (place := column[index]) is not None
        ]
        if len(points) > 1:
            path = " ".join(
                f"{'M' if i == 0 else 'L'}{coordinate(x)} {coordinate(y)}" for i, (x, y) in enumerate(points)
            )
            mark = {
                "d": path,
                "fill": "none",
                "stroke-width": "2.6" if index == best else "1.1",
                **_stroke(goodness[index]),
            }
            parts.append(element("path", mark, element("title", {}, text(names[index]))))
    called = short_names([axis.name for axis in axes])
    for x, axis in zip(xs, axes, strict=True):
        low, high = axis.ends()
        room = min(step, 2 * _SIDE) - 6 if len(axes) > 1 else 160.0
        line = {
            "x1": coordinate(x),
            "x2": coordinate(x),
            "y1": coordinate(_TOP),
            "y2": coordinate(bottom),
            "class": "axis",
        }
        parts.append(element("line", {**line, "stroke": "currentColor", "stroke-opacity": "0.5"}))
        for words, y in ((called[axis.name], _TOP - 22), (high, _TOP - 8), (low, bottom + 15)):
            shown = shorten(words, room, TICK_SIZE)
            label = {
                "x": coordinate(x),
                "y": coordinate(y),
                "text-anchor": "middle",
                "font-size": str(TICK_SIZE),
                "fill": "currentColor",
            }
            parts.append(element("text", label, text(shown), element("title", {}, text(words))))
    description = f"One line for each of {len(names)} runs across {', '.join(axis.name for axis in axes)}; the best is the thick one."
    return picture(title, description, bottom + _BOTTOM, parts)


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Name each path by as many of its last words as tell it from the others.

    >>> short_names(["train.rounds", "baseline.rounds", "split.embargo"])
    {'train.rounds': 'train.rounds', 'baseline.rounds': 'baseline.rounds', 'split.embargo': 'embargo'}
    """
    words = {name: name.split(".") for name in names}
    found: dict[str, str] = {}
    for name, own in words.items():
        others = [other for known, other in words.items() if known != name]
        fits = (count for count in range(1, len(own)) if all(other[-count:] != own[-count:] for other in others))
        found[name] = ".".join(own[-next(fits, len(own)) :])
    return found


def scatter(title: str, across: Axis, up: Axis, goodness: Sequence[float | None], names: Sequence[str]) -> Markup:
    """Draw a point a run; the best, and whoever has `goodness` 1, is a larger ring."""
    bottom, left = _TOP + _HEIGHT - 40, 64.0
    height, width = _HEIGHT - 40, WIDTH - left - 24
    parts: list[Markup] = []
    frame = {
        "x": coordinate(left),
        "y": coordinate(_TOP),
        "width": coordinate(width),
        "height": coordinate(height),
        "fill": "none",
    }
    parts.append(element("rect", {**frame, "stroke": "currentColor", "stroke-opacity": "0.35"}))
    for x, y, value, name in zip(across.places(), up.places(), goodness, names, strict=True):
        if x is None or y is None:
            continue
        place = {"cx": coordinate(left + 8 + x * (width - 16)), "cy": coordinate(bottom - 8 - y * (height - 16))}
        ring = value is not None and value >= 1
        colour = {
            "fill": "none" if ring else str(_stroke(value)["stroke"]),
            "fill-opacity": "0.75",
            **(_stroke(value) if ring else {}),
        }
        mark = {**place, "r": "6" if ring else "3.6", **colour, **({"stroke-width": "2.4"} if ring else {})}
        parts.append(element("circle", mark, element("title", {}, text(name))))
    low, high = across.ends()
    parts += [_label(low, left, bottom + 15, "start"), _label(high, left + width, bottom + 15, "end"),
              _label(across.name, left + width / 2, bottom + 15, "middle")]  # fmt: skip
    low, high = up.ends()
    parts += [
        _label(low, left - 6, bottom, "end"),
        _label(high, left - 6, _TOP + 10, "end"),
        _label(up.name, left, _TOP - 8, "start"),
    ]
    description = f"{up.name} against {across.name}, one point for each of {len(names)}; rings mark the best."
    return picture(title, description, bottom + _BOTTOM, parts)


def _label(words: str, x: float, y: float, anchor: str) -> Markup:
    place = {
        "x": coordinate(x),
        "y": coordinate(y),
        "text-anchor": anchor,
        "font-size": str(TICK_SIZE),
        "fill": "currentColor",
    }
    return element(
        "text",
        place,
        text(shorten(words, 260.0 if anchor == "middle" else 58.0 if anchor == "end" else 240.0, TICK_SIZE)),
    )


def _stroke(goodness: float | None) -> dict[str, str]:
    """Give the colour of a place between worst (grey-blue, faint) and best (the page's good tone)."""
    if goodness is None:
        return {"stroke": "var(--muted, #888)", "stroke-opacity": "0.35"}
    share = round(max(0.0, min(1.0, goodness)) * 100)
    return {
        "stroke": f"color-mix(in srgb, var(--good) {share}%, #8fa3c4)",
        "stroke-opacity": f"{0.35 + 0.65 * share / 100:.2f}",
    }
