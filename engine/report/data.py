"""What the run read: sources with their commits and validation, labels, and the split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from engine.report.blocks import (
    Row,
    absent,
    badge,
    code,
    digest,
    folded,
    name_columns,
    paragraph,
    section,
    table,
)
from engine.report.content import DataUsed, Finding, SourceData, SplitPart
from engine.report.markup import NOTHING, Markup, element, join, text
from engine.report.numbers import format_count, format_instant, format_number, format_share, plural

_FINDING_TONES = {"pass": "good", "passed": "good", "fail": "bad", "failed": "bad"}
_SAMPLES = 5
_CELL = 80


def data_section(data: DataUsed) -> Markup:
    """Give sources, validation, labels and split."""
    blocks: list[Markup] = []
    if data.sources:
        columns = name_columns(
            ("Source", "Repository", "Commit", "Rows", "From", "To", "Expectations"), numbers=("Rows",)
        )
        blocks.append(table("Sources as this run read them", columns, map(_source_row, data.sources)))
        blocks.append(_findings(data.sources))
    if data.usable_labels is not None or data.dropped_labels:
        blocks.append(_labels(data))
    if data.split:
        blocks.append(_split(data.split))
    return section("data", "Data and split", *(blocks or [absent("The run read no data.")]))


def _source_row(source: SourceData) -> Row:
    return Row.of(
        text(source.name),
        text(source.repository),
        digest(source.commit),
        text(format_count(source.rows)),
        _instant(source.first),
        _instant(source.last),
        _expectations(source.findings),
    )


def _expectations(findings: Sequence[Finding]) -> Markup:
    if not findings:
        return text("none declared")
    tones = [_finding_tone(finding) for finding in findings]
    broken = sum(tone != "good" for tone in tones)
    if not broken:
        return badge(f"{len(findings)} met", "good")
    return badge(f"{broken} of {len(findings)} not met", "bad" if "bad" in tones else "unsure")


def _finding_tone(finding: Finding) -> str:
    tone = _FINDING_TONES.get(finding.status, "unsure")
    return "unsure" if tone == "bad" and finding.severity != "block" else tone


def _findings(sources: Iterable[SourceData]) -> Markup:
    """List the expectations that were not met, with some of the rows that break them."""
    found = [(source.name, finding) for source in sources for finding in source.findings]
    broken = [(source, finding) for source, finding in found if _finding_tone(finding) != "good"]
    if not broken:
        return NOTHING
    columns = name_columns(("Source", "Expectation", "Result", "Rows failing", "Observed"), numbers=("Rows failing",))
    rows = [_finding_row(source, finding) for source, finding in broken]
    samples = [_samples(source, finding) for source, finding in broken if finding.samples]
    return join((table("Expectations not met", columns, rows), *samples))


def _finding_row(source: str, finding: Finding) -> Row:
    share = f" ({format_share(finding.failed, finding.checked)})" if finding.checked else ""
    result = badge(finding.status, _finding_tone(finding))
    failing = text(format_count(finding.failed) + share)
    return Row.of(text(source), code(finding.rule), result, failing, text(finding.observed))


def _samples(source: str, finding: Finding) -> Markup:
    shown = finding.samples[:_SAMPLES]
    names = list(dict.fromkeys(str(name) for sample in shown for name in sample))[:8]
    if not names:
        return NOTHING
    rows = [Row([_sampled(sample, name) for name in names]) for sample in shown]
    caption = f"{source}: some rows that break {finding.rule}"
    return folded(caption, table(caption, name_columns(names), rows, stack=False))


def _sampled(sample: Mapping[str, Any], name: str) -> Markup:
    shown = "null" if sample.get(name) is None else str(sample[name])
    return text(shown if len(shown) <= _CELL else shown[: _CELL - 1] + "…")


def _labels(data: DataUsed) -> Markup:
    dropped = sum(data.dropped_labels.values())
    total = (data.usable_labels or 0) + dropped
    counted = [(reason.replace("_", " "), count) for reason, count in data.dropped_labels.items() if count]
    reasons = ", ".join(f"{format_count(count)} {reason}" for reason, count in counted)
    told = f"{format_count(data.usable_labels)} of {plural(total, 'spine row')} have a usable label"
    return paragraph(text(f"{told}; {format_count(dropped)} were dropped ({reasons})." if dropped else f"{told}."))


def _split(parts: tuple[SplitPart, ...]) -> Markup:
    counted = any(part.positives is not None for part in parts)
    total = sum(part.rows for part in parts)
    numbers = ("Rows", "Share", *(("Positives",) if counted else ()), "Mean label")
    columns = name_columns(("Part", *numbers, "From", "To"), numbers)
    rows: list[Row] = []
    for part in parts:
        positives = [text(format_count(part.positives))] if counted else []
        cells = (text(part.name), text(format_count(part.rows)), text(format_share(part.rows, total)), *positives)
        rows.append(Row.of(*cells, text(format_number(_label_mean(part))), _instant(part.first), _instant(part.last)))
    return table("Split", columns, rows, stack=False)


def _label_mean(part: SplitPart) -> float | None:
    if part.label_mean is None and part.positives is not None and part.rows:
        return part.positives / part.rows
    return part.label_mean


def _instant(value: str | None) -> Markup:
    return element("span", {"style": "white-space:nowrap"}, text(format_instant(value)))
