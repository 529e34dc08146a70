"""The page of `engine data diff`: what differs between two commits, source by source, what moved first.

Enters: a `SnapshotDiff`. Leaves: one HTML file in the style of the run report.
"""

from __future__ import annotations

from engine.data_records import ColumnDiff, RowSample, SnapshotDiff, SourceDiff
from engine.report.blocks import (
    Row,
    absent,
    badge,
    code,
    digest,
    figure,
    folded,
    name_columns,
    paragraph,
    section,
    table,
)
from engine.report.charts import ChartText
from engine.report.document import Heading, Sections, render_document
from engine.report.markup import NOTHING, Markup, element, join, text
from engine.report.numbers import format_bytes, format_count, format_number, format_share, plural
from engine.report.paired import Pair, paired_bars

_CHARTS = 12
_CELL = 60
_COLUMNS = 10
_TONES = {"added": "good", "removed": "bad", "changed": "unsure", "retyped": "bad"}


def render_diff(diff: SnapshotDiff) -> str:
    """Render the page."""
    kicker = f"{diff.repository}, {diff.before[:12]} to {diff.after[:12]}"
    sections: Sections = [
        ("summary", "Summary", _summary(diff)),
        *((f"source-{item.source}", item.source, _source(item, diff)) for item in diff.sources),
    ]
    return render_document(Heading(f"Data diff: {kicker}", kicker, "What changed in the data"), sections)


def _summary(diff: SnapshotDiff) -> Markup:
    commits = paragraph(text("From commit "), digest(diff.before), text(" to "), digest(diff.after), text("."))
    if not diff.sources:
        return section("summary", "Summary", commits, absent("No source differs."))
    numbers = ("Rows before", "Rows after", "Added", "Removed", "Changed", "Objects", "Columns moved")
    rows = [
        Row.of(
            element("a", {"href": f"#source-{item.source}"}, text(item.source)),
            *(text(format_count(value)) for value in (
                item.rows_before, item.rows_after, item.rows_added, item.rows_removed, item.rows_changed, len(item.objects),
                sum(column.moved for column in item.columns),
            )),
        )
        for item in diff.sources
    ]  # fmt: skip
    return section(
        "summary", "Summary", commits, table("Sources that differ", name_columns(("Source", *numbers), numbers), rows)
    )


def _source(item: SourceDiff, diff: SnapshotDiff) -> Markup:
    matched = f"Rows are matched by {', '.join(item.key)}" if item.key else (
        "No columns name a row, so a changed row counts as one removed and one added"
    )  # fmt: skip
    told = (
        f"{plural(item.rows_added, 'row')} added, {format_count(item.rows_removed)} removed, "
        f"{format_count(item.rows_changed)} changed. {matched}."
    )
    moved = sorted(
        (column for column in item.columns if column.bins and column.psi), key=lambda column: -(column.psi or 0)
    )
    names = (diff.before[:8], diff.after[:8])
    charts = [figure(_chart(column, names)) for column in moved[:_CHARTS] if column.moved]
    return section(
        f"source-{item.source}",
        item.source,
        paragraph(text(told)),
        _columns(item),
        element("div", {"class": "charts two"}, *charts) if charts else NOTHING,
        _objects(item),
        *(_samples(item, kind) for kind in ("changed", "added", "removed")),
    )


def _columns(item: SourceDiff) -> Markup:
    if not item.columns:
        return absent("The source is on one side only: there is nothing to compare its columns with.")
    numbers = ("PSI", "KS", "Nulls before", "Nulls after", "Mean before", "Mean after")
    ordered = sorted(item.columns, key=lambda column: (column.kind == "kept", -(column.psi or 0), column.column))
    note = "A column counts as moved from a PSI of 0.1 on: ten quantile bins of the earlier commit, or its most frequent values."
    columns = name_columns(("Column", "", "Type", *numbers), numbers)
    return join((table("Columns", columns, map(_column_row, ordered)), paragraph(text(note), css="soft")))


def _column_row(column: ColumnDiff) -> Row:
    word = "moved" if column.moved and column.kind == "kept" else "" if column.kind == "kept" else column.kind
    types = column.type_after or column.type_before or ""
    if column.kind == "retyped":
        types = f"{column.type_before} → {column.type_after}"
    return Row.of(
        code(column.column),
        badge(word, _TONES.get(word, "unsure")) if word else NOTHING,
        text(types),
        text(format_number(column.psi, 4)),
        text(format_number(column.ks, 4)),
        text(format_share(column.nulls_before, 1)),
        text(format_share(column.nulls_after, 1)),
        text(format_number(column.mean_before)),
        text(format_number(column.mean_after)),
    )


def _chart(column: ColumnDiff, names: tuple[str, str]) -> Markup:
    values = zip(column.bins, column.shares_before, column.shares_after, strict=True)
    pairs = [Pair(name, before, after) for name, before, after in values if before or after]
    described = f"Shares of rows of {column.column} before and after, by bin"
    title = f"{column.column}: PSI {format_number(column.psi, 4)}"
    return paired_bars(ChartText(title, "", "", described), pairs, names)


def _objects(item: SourceDiff) -> Markup:
    rows = [
        Row.of(code(one.path), badge(one.kind, _TONES[one.kind]), text(_size(one.before)), text(_size(one.after)))
        for one in item.objects
    ]
    caption = plural(len(rows), "object")
    shown = table(
        caption, name_columns(("Object", "", "Size before", "Size after"), ("Size before", "Size after")), rows
    )
    return shown if len(rows) <= _CHARTS else folded(f"{caption} that differ", shown)


def _samples(item: SourceDiff, kind: str) -> Markup:
    shown = [sample for sample in item.samples if sample.kind == kind]
    if not shown:
        return NOTHING
    names = list(dict.fromkeys(name for sample in shown for name in (sample.after or sample.before)))
    differing = [name for name in names if any(_differs(sample, name) for sample in shown)]
    ordered = list(dict.fromkeys([*item.key, *differing, *names]))[:_COLUMNS]
    rows = [Row([_cell(sample, name) for name in ordered]) for sample in shown]
    return table(f"Some rows {kind}", name_columns(ordered), rows, stack=False)


def _differs(sample: RowSample, name: str) -> bool:
    return sample.kind == "changed" and sample.before.get(name) != sample.after.get(name)


def _cell(sample: RowSample, name: str) -> Markup:
    if _differs(sample, name):
        old = element("span", {"class": "soft"}, text(f"{_short(sample.before.get(name))} → "))
        return join((old, text(_short(sample.after.get(name)))))
    return text(_short((sample.after or sample.before).get(name)))


def _short(value: str | None) -> str:
    shown = "null" if value is None else value
    return shown if len(shown) <= _CELL else shown[: _CELL - 1] + "…"


def _size(value: int | None) -> str:
    return "–" if value is None else format_bytes(value)
