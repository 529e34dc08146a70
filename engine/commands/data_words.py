"""Diffs, profiles and findings as tables for a terminal. Called by the actions of `engine data`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from engine.commands.tables import Cell, render_table
from engine.data_records import ColumnProfile, SnapshotDiff, SourceDiff, TableProfile

_SHOWN = 5


def diff_words(diff: SnapshotDiff) -> str:
    """Tell what differs between two commits."""
    title = f"{diff.repository}: {diff.before[:12]} -> {diff.after[:12]}"
    if not diff.sources:
        return f"{title}: no source differs"
    return "\n\n".join([title, *map(_source_words, diff.sources)])


def _source_words(item: SourceDiff) -> str:
    matched = f"matched by {', '.join(item.key)}" if item.key else "no key: a changed row counts as removed and added"
    lines = [
        f"{item.source}: {item.rows_before:,} -> {item.rows_after:,} rows ({matched})",
        f"{item.rows_added:,} added, {item.rows_removed:,} removed, {item.rows_changed:,} changed",
        render_table(
            ["object", "", "bytes before", "after"], [[o.path, o.kind, o.before, o.after] for o in item.objects]
        ),
    ]
    if item.columns:
        rows: list[list[Cell]] = [
            [
                column.column, _kind(column.kind, moved=column.moved), _change(column.type_before, column.type_after),
                column.psi, column.ks, column.nulls_before, column.nulls_after, _number(column.mean_before),
                _number(column.mean_after),
            ]
            for column in item.columns
        ]  # fmt: skip
        headers = ["column", "", "type", "psi", "ks", "nulls before", "after", "mean before", "after"]
        lines += ["", render_table(headers, rows)]
    for sample in item.samples:
        shown = sample.after if sample.kind != "removed" else sample.before
        told = ", ".join(
            f"{name}={sample.before[name]} -> {value}" if sample.kind == "changed" and sample.before.get(name) != value
            else f"{name}={value}"
            for name, value in shown.items()
            if sample.kind != "changed" or name in item.key or sample.before.get(name) != value
        )  # fmt: skip
        lines.append(f"  {sample.kind}: {told}")
    return "\n".join(lines)


def profile_words(profile: TableProfile) -> str:
    """Tell a table in numbers."""
    rows = [_profile_row(column, profile.rows) for column in profile.columns]
    headers = ["column", "type", "nulls", "distinct", "min", "median", "max", "mean", "most frequent"]
    return f"{profile.name}: {profile.rows:,} rows, {len(profile.columns)} columns\n\n{render_table(headers, rows)}"


def findings_words(findings: Iterable[Mapping[str, Any]], *, only_failed: bool = True) -> str:
    """Tell what an audit found, with some of the rows that break each expectation."""
    shown = [item for item in findings if item["status"] == "fail" or not only_failed]
    lines = [
        render_table(
            ["expectation", "", "severity", "observed"],
            [[item["rule"], item["status"], item["severity"], item["observed"]] for item in shown],
        )
    ]
    for item in (item for item in shown if item["samples"]):
        samples = item["samples"][:_SHOWN]
        headers = list(dict.fromkeys(name for sample in samples for name in sample))
        lines += ["", f"{item['rule']}: {item['failed']:,} rows, such as"]
        lines.append(render_table(headers, [[sample.get(name) for name in headers] for sample in samples]))
    return "\n".join(lines)


def _profile_row(column: ColumnProfile, rows: int) -> list[Cell]:
    nulls = f"{column.nulls / rows:.2%}" if rows else "-"
    top = ", ".join(f"{value} ({count:,})" for value, count in column.top[:3]) if column.distinct < rows else None
    low, median, high = (_short(value) for value in (column.minimum, column.quantiles.get("0.5"), column.maximum))
    return [column.column, column.type, nulls, column.distinct, low, median, high, _number(column.mean), top]


def _short(value: Any) -> str | None:
    if value is None:
        return None
    return value[:16] if isinstance(value, str) else f"{value:.6g}"


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.5g}"


def _change(before: str | None, after: str | None) -> str:
    return str(after or before) if before == after or not (before and after) else f"{before} -> {after}"


def _kind(kind: str, *, moved: bool) -> str:
    return ("moved" if moved else "") if kind == "kept" else kind
