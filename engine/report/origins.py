"""Where the result comes from: the DAG with timings, data and split, what changed since the last run, what to type."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from engine.records import NodeResult, RunRecord
from engine.report.blocks import Column, Row, absent, badge, code, digest, figure, pairs, paragraph, scrolling, section, table
from engine.report.content import DataUsed, Finding, ReportContent, SourceData, SplitPart
from engine.report.evidence import metric_words
from engine.report.graph import draw_graph
from engine.report.markup import NOTHING, Markup, element, join, text
from engine.report.numbers import (
    MISSING,
    format_bytes,
    format_count,
    format_instant,
    format_number,
    format_seconds,
    format_share,
    plural,
)

_STATE_TONES = {"ran": "ran", "cached": "cached", "failed": "bad", "running": "ran"}
_FINDING_TONES = {"pass": "good", "passed": "good", "fail": "bad", "failed": "bad", "warn": "unsure", "warning": "unsure"}
_SAMPLES = 5
_CELL = 80


def graph_section(content: ReportContent) -> Markup:
    """Draw the plan with states and timings; a table has reasons, memory and keys."""
    results = {node.name: node for node in content.run.nodes}
    if not content.plan.nodes:
        return section("plan", "What ran", absent("The plan has no nodes."))
    cached = sum(node.state == "cached" for node in content.run.nodes)
    worked = sum(node.seconds for node in content.run.nodes if node.state != "cached")
    told = f"{plural(len(content.plan.nodes), 'node')}, {cached} from the cache; {format_seconds(worked)} of work in {format_seconds(content.run.seconds)}."
    picture = figure(Markup(draw_graph(content.plan, results, standalone=False)))
    nodes = [_node_row(node.name, results.get(node.name), node.kind) for node in content.plan.nodes]
    columns = [Column("Node"), Column("Kind"), Column("State"), Column("Time", number=True), Column("Peak memory", number=True), Column("Content"), Column("Why")]
    listed = element("details", {}, element("summary", {}, text("All nodes as a table")), table("Nodes in the order of the plan", columns, nodes))
    return section("plan", "What ran", paragraph(text(told)), scrolling("Plan", picture, "scroll graph"), listed)


def data_section(data: DataUsed) -> Markup:
    """Give sources, validation, labels and split."""
    blocks: list[Markup] = []
    if data.sources:
        columns = [Column("Source"), Column("Repository"), Column("Commit"), Column("Rows", number=True), Column("From"), Column("To"), Column("Expectations")]
        blocks.append(table("Sources as this run read them", columns, map(_source_row, data.sources)))
        blocks.append(_findings(data.sources))
    if data.usable_labels is not None or data.dropped_labels:
        blocks.append(_labels(data))
    if data.split:
        blocks.append(_split(data.split))
    return section("data", "Data and split", *(blocks or [absent("The run read no data.")]))


def changes_section(run: RunRecord, previous: RunRecord | None) -> Markup:
    """Compare with the pipeline's run before this one; nothing without one."""
    if previous is None:
        return NOTHING
    before = {one.name: one.value for one in previous.metrics}
    rows = [_changed(one.name, before.get(one.name), one.value) for one in run.metrics]
    facts = [("Run", code(previous.run_id)), ("Ended", text(f"{format_instant(previous.finished_at)}, {previous.verdict or previous.status}"))]
    facts.append(("Configuration", text("the same" if previous.config_digest == run.config_digest else "differs")))
    facts.append(("Data", text(_data_changes(run, previous))))
    facts.append(("Environment", text(_environment_changes(run, previous))))
    facts.append(("Code", text(_code_change(run, previous))))
    columns = [Column("Metric"), *(Column(title, number=True) for title in ("Before", "Now", "Change"))]
    metrics = table("Metrics, each on the test rows of its own run", columns, rows) if rows and before else NOTHING
    return section("changes", "Since the previous run", pairs(facts), metrics)


def reproduce_section(content: ReportContent) -> Markup:
    """Say what to type, and everything that pins the result."""
    run = content.run
    commands = element("pre", {}, code("\n".join(content.reproduce))) if content.reproduce else absent("This run cannot be repeated by a command.")
    pins = [
        Row((text(pin.source), text(pin.repository), code(pin.commit), text(format_count(pin.rows)), digest(pin.digest)))
        for pin in run.snapshots
    ]
    columns = [Column("Source"), Column("Repository"), Column("Commit"), Column("Rows", number=True), Column("Content")]
    pinned = table("Snapshots that pin the data", columns, pins) if pins else absent("No snapshot was read.")
    return section("reproduce", "What to type to reproduce", commands, pairs(_provenance(run)), pinned, _packages(run))


def _node_row(name: str, result: NodeResult | None, kind: str) -> Row:
    if result is None:
        return Row((code(name), text(kind), badge("not reached", ""), *map(text, (MISSING, MISSING, MISSING, ""))))
    state = badge(result.state, _STATE_TONES.get(result.state, ""))
    spent = format_seconds(result.seconds) if result.state != "cached" else MISSING
    content = digest(result.output.digest) if result.output else text(MISSING)
    return Row((code(name), text(kind), state, text(spent), text(format_bytes(result.peak_bytes)), content, text(result.reason)))


def _source_row(source: SourceData) -> Row:
    failed = [finding for finding in source.findings if _finding_tone(finding) != "good"]
    blocking = any(_finding_tone(finding) == "bad" for finding in failed)
    words = f"{len(failed)} of {len(source.findings)} not met" if failed else f"{len(source.findings)} met"
    verdict = badge(words, "bad" if blocking else "unsure" if failed else "good") if source.findings else text("none declared")
    return Row((
        text(source.name), text(source.repository), digest(source.commit), text(format_count(source.rows)),
        _instant(source.first), _instant(source.last), verdict,
    ))  # fmt: skip


def _finding_tone(finding: Finding) -> str:
    tone = _FINDING_TONES.get(finding.status, "unsure")
    return "unsure" if tone == "bad" and finding.severity == "warn" else tone


def _findings(sources: Iterable[SourceData]) -> Markup:
    """List the expectations that were not met, with some of the rows that break them."""
    failed = [(source, finding) for source in sources for finding in source.findings if _finding_tone(finding) != "good"]
    if not failed:
        return NOTHING
    columns = [Column("Source"), Column("Expectation"), Column("Result"), Column("Rows failing", number=True), Column("Observed")]
    rows = []
    for source, finding in failed:
        share = f"{format_count(finding.failed)} ({format_share(finding.failed, finding.checked)})" if finding.checked else format_count(finding.failed)
        rows.append(Row((text(source.name), code(finding.rule), badge(finding.status, _finding_tone(finding)), text(share), text(finding.observed))))
    samples = [_samples(source.name, finding) for source, finding in failed if finding.samples]
    return join((table("Expectations not met", columns, rows), *samples))


def _samples(source: str, finding: Finding) -> Markup:
    shown = finding.samples[:_SAMPLES]
    names = list(dict.fromkeys(str(name) for sample in shown for name in sample))[:8]
    if not names:
        return NOTHING
    rows = [Row([_sampled(sample, name) for name in names]) for sample in shown]
    caption = f"{source}: some rows that break {finding.rule}"
    return element("details", {}, element("summary", {}, text(caption)), table(caption, [Column(name) for name in names], rows))


def _sampled(sample: Mapping[str, Any], name: str) -> Markup:
    shown = "null" if sample.get(name) is None else str(sample[name])
    return text(shown if len(shown) <= _CELL else shown[: _CELL - 1] + "…")


def _labels(data: DataUsed) -> Markup:
    dropped = sum(data.dropped_labels.values())
    total = (data.usable_labels or 0) + dropped
    reasons = ", ".join(f"{format_count(count)} {reason.replace('_', ' ')}" for reason, count in data.dropped_labels.items() if count)
    told = f"{format_count(data.usable_labels)} of {plural(total, 'spine row')} have a usable label"
    return paragraph(text(f"{told}; {format_count(dropped)} were dropped ({reasons})." if dropped else f"{told}."))


def _split(parts: tuple[SplitPart, ...]) -> Markup:
    counted = any(part.positives is not None for part in parts)
    total = sum(part.rows for part in parts)
    columns = [Column("Part"), Column("Rows", number=True), Column("Share", number=True)]
    columns += [Column("Positives", number=True)] if counted else []
    columns += [Column("Mean label", number=True), Column("From"), Column("To")]
    rows = []
    for part in parts:
        positives = [text(format_count(part.positives))] if counted else []
        mean = part.label_mean if part.label_mean is not None else part.positives / part.rows if part.positives is not None and part.rows else None
        cells = (text(part.name), text(format_count(part.rows)), text(format_share(part.rows, total)), *positives)
        rows.append(Row((*cells, text(format_number(mean)), _instant(part.first), _instant(part.last))))
    return table("Split by event time", columns, rows)


def _instant(value: str | None) -> Markup:
    return element("span", {"style": "white-space:nowrap"}, text(format_instant(value)))


def _changed(name: str, before: float | None, now: float | None) -> Row:
    change = now - before if now is not None and before is not None else None
    return Row((text(metric_words(name)), text(format_number(before)), text(format_number(now)), text(format_number(change, signed=True))))


def _data_changes(run: RunRecord, previous: RunRecord) -> str:
    before = {pin.source: pin for pin in previous.snapshots}
    now = {pin.source: pin for pin in run.snapshots}
    told = [f"{name} is new" for name in now if name not in before] + [f"{name} is gone" for name in before if name not in now]
    for name, pin in now.items():
        if name in before and before[name].digest != pin.digest:
            told.append(f"{name} {format_count(before[name].rows)} rows to {format_count(pin.rows)}")
    return "; ".join(told) or "the same"


def _environment_changes(run: RunRecord, previous: RunRecord) -> str:
    if run.environment is None or previous.environment is None:
        return "not known"
    old, new = previous.environment.packages, run.environment.packages
    changed = [f"{name} {old.get(name, 'absent')} to {new.get(name, 'absent')}" for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    more = f" and {len(changed) - 8} more" if len(changed) > 8 else ""
    same = "the same" if run.environment.digest == previous.environment.digest else "the same packages on another platform"
    return ", ".join(changed[:8]) + more if changed else same


def _code_change(run: RunRecord, previous: RunRecord) -> str:
    old, new = previous.git.commit, run.git.commit
    if old is None or new is None:
        return "not known"
    dirty = ", with uncommitted changes now" if run.git.dirty else ""
    return ("the same commit" if old == new else f"{old[:10]} to {new[:10]}") + dirty


def _provenance(run: RunRecord) -> list[tuple[str, Markup]]:
    facts = [("Run", code(run.run_id)), ("Started", text(format_instant(run.started_at)))]
    if run.command:
        facts.append(("Command", code(" ".join(run.command))))
    facts.append(("Overrides", join(map(code, run.overrides), text(", ")) if run.overrides else text("none")))
    facts.append(("Seeds", text(", ".join(f"{name} {seed}" for name, seed in run.seeds.items()) or "none")))
    facts += [("Configuration", code(run.config_digest)), ("Plan", code(run.plan_digest))]
    if run.model_digest:
        facts.append(("Model", code(run.model_digest)))
    if run.git.commit:
        facts.append(("Project", join((code(run.git.commit), text(" with uncommitted changes" if run.git.dirty else "")))))
    if run.environment:
        found = run.environment
        facts.append(("Environment", join((code(found.digest), text(f" (engine {found.engine}, Python {found.python}, {found.platform}, {found.cpu_count} CPUs)")))))
    return facts


def _packages(run: RunRecord) -> Markup:
    if run.environment is None or not run.environment.packages:
        return NOTHING
    lines = "\n".join(f"{name}=={version}" for name, version in sorted(run.environment.packages.items()))
    title = f"All {plural(len(run.environment.packages), 'installed package')}"
    return element("details", {}, element("summary", {}, text(title)), element("pre", {}, text(lines)))
