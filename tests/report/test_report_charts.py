"""Charts stay inside their frame and readable for any input; ticks, scales and numbers are sound."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.report.axes import Scale, nice_ticks, pad_domain, tick_labels
from engine.report.charts import (
    DIAGONAL,
    Bins,
    ChartText,
    Reference,
    Series,
    Tone,
    histogram,
    line_chart,
    nice_limit,
)
from engine.report.lettering import clip, shorten, text_width
from engine.report.markup import element, text
from engine.report.numbers import format_bytes, format_interval, format_number, format_seconds
from engine.report.rowcharts import Bar, Interval, bar_chart, interval_chart

Parse = Callable[[str], ET.Element]
WORDS = ChartText("A title", "across", "up", "What it shows.")
ANY_FLOAT = st.floats(allow_nan=True, allow_infinity=True)
TONES: tuple[Tone, ...] = ("challenger", "baseline", "champion", "other")
POINTS = st.lists(st.tuples(ANY_FLOAT, ANY_FLOAT), max_size=12)


def classes(root: ET.Element, name: str) -> list[ET.Element]:
    return [part for part in root.iter() if name in part.attrib.get("class", "").split()]


@given(st.lists(st.tuples(st.text(max_size=60), st.sampled_from(TONES), POINTS), max_size=5), ANY_FLOAT, ANY_FLOAT)
def test_any_curves_draw_a_valid_picture(parse_svg: Parse, drawn, low: float, high: float) -> None:
    series = [Series(name, tone, points) for name, tone, points in drawn]
    parse_svg(line_chart(WORDS, series, ((low, high), (0.0, 1.0)), Reference("even", *DIAGONAL)))


@given(POINTS, st.lists(ANY_FLOAT, max_size=12))
def test_any_weights_draw_a_valid_picture(parse_svg: Parse, points, weights: list[float]) -> None:
    parse_svg(line_chart(WORDS, [Series("model", "champion", points, weights)]))


@given(st.lists(st.tuples(st.text(max_size=80), st.none() | ANY_FLOAT, st.none() | ANY_FLOAT, st.none() | ANY_FLOAT)))
def test_any_rows_draw_valid_forests_and_bars(parse_svg: Parse, rows) -> None:
    forest = [Interval(name, value, low, high, note="too few") for name, value, low, high in rows]
    parse_svg(interval_chart(WORDS, forest, rows[0][1] if rows else None))
    parse_svg(bar_chart(WORDS, [Bar(name, value, format_number(value)) for name, value, _, _ in rows]))


@given(st.lists(ANY_FLOAT, max_size=8), st.lists(ANY_FLOAT, max_size=8))
def test_any_histogram_draws_a_valid_picture(parse_svg: Parse, edges: list[float], shares: list[float]) -> None:
    parse_svg(histogram(WORDS, [Bins("all", "challenger", edges, shares)]))


def test_models_differ_by_more_than_colour(parse_svg: Parse, content) -> None:
    points = [(0.0, 0.0), (0.5, 0.8), (1.0, 1.0)]
    series = [Series(tone, tone, points, (1, 2, 3)) for tone in TONES[:3]]
    root = parse_svg(line_chart(WORDS, series))
    for tone, shape in (("challenger", "circle"), ("baseline", "rect"), ("champion", "path")):
        markers = [part for group in classes(root, tone) for part in classes(group, "dot")]
        assert {part.tag for part in markers} == {shape}
        assert len(markers) == 4  # one in the legend, three on the curve


def test_a_thousand_points_stay_small_and_keep_their_ends(parse_svg: Parse) -> None:
    points = [(i / 100_000, math.sqrt(i / 100_000)) for i in range(100_001)]
    source = line_chart(WORDS, [Series("model", "challenger", points)])
    assert len(source) < 12_000
    curve = next(part for part in classes(parse_svg(source), "curve") if part.tag == "path").attrib["d"]
    first, last = curve[1:].split("L")[0], curve.split("L")[-1]
    assert float(first.split()[0]) == 50
    assert float(last.split()[0]) == pytest.approx(348)


def test_one_point_is_a_marker_and_none_says_so(parse_svg: Parse) -> None:
    one = parse_svg(line_chart(WORDS, [Series("model", "challenger", [(0.5, 0.5)])]))
    assert len(classes(one, "dot")) == 1
    assert "nothing to draw" in line_chart(WORDS, [])


def test_bigger_bins_have_bigger_markers(parse_svg: Parse) -> None:
    series = Series("model", "challenger", [(0.1, 0.1), (0.9, 0.9)], (10, 1000))
    root = parse_svg(line_chart(WORDS, [series]))
    small, large = [float(dot.attrib["r"]) for dot in classes(root, "dot")][1:]
    assert large > 1.5 * small


def test_bars_that_share_a_scale_have_lengths_in_proportion(parse_svg: Parse) -> None:
    bars = [Bar("a long feature name", 0.8, "80 %"), Bar("b", 0.2, "20 %")]
    lengths = [float(classes(parse_svg(bar_chart(WORDS, [bar], bars)), "bar")[0].attrib["width"]) for bar in bars]
    assert lengths[0] == pytest.approx(4 * lengths[1], rel=0.01)


def test_the_legend_wraps_instead_of_overlapping(parse_svg: Parse) -> None:
    names = [f"model number {index} of a rather long list" for index in range(6)]
    root = parse_svg(line_chart(WORDS, [Series(name, "other", [(0, 0), (1, 1)]) for name in names]))
    labels = classes(root, "label")
    places = sorted((float(part.attrib["y"]), float(part.attrib["x"]), part.text or "") for part in labels)
    for (y, x, name), (next_y, next_x, _) in pairwise(places):
        assert y != next_y or x + text_width(name, 11) < next_x
    top_of_plot = min(float(part.attrib["y1"]) for part in classes(root, "rule"))
    assert top_of_plot > places[-1][0]


@given(st.floats(-1e12, 1e12), st.floats(1e-9, 1e12))
@example(0.03125, 5.960464477539063e-08)
def test_ticks_are_inside_rising_and_told_apart(low: float, span: float) -> None:
    ticks = nice_ticks((low, low + span))
    assert len(ticks) <= 12
    assert all(low - 1e-6 * span <= tick <= low + span + 1e-6 * span for tick in ticks)
    assert all(left < right for left, right in pairwise(ticks))
    if len(ticks) > 1 and span > 1e-6 * abs(low):
        assert len(set(tick_labels(ticks))) == len(ticks)


@given(st.lists(st.none() | ANY_FLOAT))
def test_a_domain_is_open_and_holds_its_values(values: list[float | None]) -> None:
    known = [value for value in values if value is not None and abs(value) < 1e100]
    low, high = pad_domain(known)
    assert low < high
    assert all(low <= value <= high for value in known)


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_a_limit_is_round_and_not_exceeded(values: list[float]) -> None:
    assert nice_limit(values) >= max(values) * (1 - 1e-9)


def test_a_scale_never_leaves_its_range() -> None:
    scale = Scale(0, 1, 50, 100)
    assert [scale(value) for value in (-math.inf, 0.5, math.inf)] == [50, 75, 100]


@given(st.text(max_size=80), st.floats(20, 300))
def test_shortened_text_fits(value: str, width: float) -> None:
    for cut in (shorten, clip):
        short = cut(value, width, 11)
        assert short == value or text_width(short, 11) <= max(width, 22)


@given(st.text() | st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape")))
def test_whatever_comes_through_text_is_well_formed_and_encodable(value: str) -> None:
    markup = element("p", {"title": value}, text(value))
    ET.fromstring(markup.encode("utf-8"))


@given(ANY_FLOAT)
def test_numbers_are_written_for_people(value: float) -> None:
    for shown in (format_number(value), format_seconds(value), format_bytes(value), format_interval(value, value)):
        assert shown
        assert not {"nan", "inf"} & {shown.lower().strip("-−[]")}


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (0.0, "0.0000"), (-0.00001, "−1.0e−05"), (12.345, "12.35"), (1234.5, "1,234"), (1e20, "1.0e+20")],
)
def test_number_format(value: float | None, shown: str) -> None:
    assert format_number(value) == shown


@pytest.mark.parametrize("domain", [(0.0, 0.125), (0.0, 9e6), (-9e6, 9e6), (0.0, 1e9), (0.0, 3e-9)])
def test_wide_tick_labels_neither_leave_the_chart_nor_meet(parse_svg: Parse, domain: tuple[float, float]) -> None:
    root = parse_svg(line_chart(WORDS, [Series("model", "challenger", [(0, 0), (1, 1)])], (domain, domain)))
    across = [part for part in classes(root, "tick") if part.attrib.get("text-anchor") == "middle" and part.text]
    lowest = max(float(part.attrib.get("y", 0)) for part in across) - 16
    ticks = [part for part in across if float(part.attrib.get("y", 0)) == pytest.approx(lowest)]
    assert len(ticks) > 1
    for left, right in pairwise(ticks):
        half = (text_width(left.text or "", 11) + text_width(right.text or "", 11)) / 2
        assert float(right.attrib["x"]) - float(left.attrib["x"]) >= half - 1
