"""The page of `engine data profile`: a source or a file in numbers, one picture a column.

Enters: a `TableProfile`. Leaves: one HTML file in the style of the run report.
"""

from __future__ import annotations

from typing import Any

from engine.data_records import ColumnProfile, TableProfile
from engine.report.blocks import Row, absent, code, figure, name_columns, paragraph, section, table
from engine.report.charts import ChartText
from engine.report.document import Heading, Sections, render_document
from engine.report.markup import Markup, element, text
from engine.report.numbers import format_count, format_instant, format_number, format_share, plural
from engine.report.rowcharts import Bar, bar_chart

_TOP = 12


def render_profile(profile: TableProfile) -> str:
    """Render the page."""
    told = f"{plural(profile.rows, 'row')}, {plural(len(profile.columns), 'column')}, {format_instant(profile.at)}"
    sections: Sections = [("columns", "Columns", _overview(profile)), ("values", "Values", _values(profile))]
    return render_document(Heading(f"Profile of {profile.name}", told, profile.name), sections)


def _overview(profile: TableProfile) -> Markup:
    if not profile.columns:
        return section("columns", "Columns", absent("There are no columns."))
    numbers = ("Nulls", "Distinct", "Min", "Median", "Max", "Mean", "Std")
    columns = name_columns(("Column", "Type", *numbers, "Text"), numbers)
    rows = [_row(column, profile.rows) for column in profile.columns]
    return section("columns", "Columns", table("Every column in numbers", columns, rows))


def _row(column: ColumnProfile, rows: int) -> Row:
    low, high = column.lengths or (None, None)
    lengths = "" if low is None else f"{low} characters" if low == high else f"{low} to {high} characters"
    shape = f", {column.shape}" if column.shape else ""
    return Row.of(
        code(column.column),
        text(column.type),
        text(format_share(column.nulls, rows)),
        text(format_count(column.distinct)),
        *(text(_value(value)) for value in (column.minimum, column.quantiles.get("0.5"), column.maximum)),
        text(format_number(column.mean)),
        text(format_number(column.std)),
        text(lengths + shape),
    )


def _values(profile: TableProfile) -> Markup:
    note = "Numbers and times in bins of equal width between their first and last hundredth, others by their most frequent values."
    charts = [figure(_chart(column, profile.rows)) for column in profile.columns if sum(column.counts)]
    return section(
        "values", "Values", paragraph(text(note), css="soft"), element("div", {"class": "charts two"}, *charts)
    )


def _chart(column: ColumnProfile, rows: int) -> Markup:
    counted = list(zip(column.bins, column.counts, strict=True))
    if column.type in {"i64", "f64", "timestamp"}:
        shown = [(name, count) for name, count in counted if count or name != "null"]
    else:
        rest = rows - column.nulls - sum(count for _, count in column.top[:_TOP])
        shown = [
            *column.top[:_TOP],
            *([("other", rest)] if rest > 0 else []),
            *([("null", column.nulls)] if column.nulls else []),
        ]
    bars = [Bar(name, count / rows if rows else 0.0, format_share(count, rows)) for name, count in shown]
    return bar_chart(ChartText(column.column, "", "", f"Shares of rows of {column.column} by value"), bars)


def _value(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, str):
        return value[:16].replace("T", " ")
    return format_count(value) if isinstance(value, int) else format_number(value)
