"""Where the result comes from: what changed since the previous run, what to type to repeat it, all that pins it."""

from __future__ import annotations

import shlex

from engine.records import RunRecord, SnapshotPin
from engine.report.blocks import Row, absent, code, digest, folded, name_columns, pairs, section, table
from engine.report.content import ReportContent
from engine.report.evidence import metric_words
from engine.report.markup import NOTHING, Markup, element, join, text
from engine.report.numbers import format_count, format_instant, format_number, plural


def changes_section(run: RunRecord, previous: RunRecord | None) -> Markup:
    """Compare with the pipeline's run before this one; nothing without one."""
    if previous is None:
        return NOTHING
    ended = f"{format_instant(previous.finished_at)}, {previous.verdict or previous.status}"
    facts = (
        ("Run", code(previous.run_id)),
        ("Ended", text(ended)),
        ("Configuration", text(_configuration_change(run, previous))),
        ("Data", text(_data_changes(run, previous))),
        ("Environment", text(_environment_changes(run, previous))),
        ("Code", text(_code_change(run, previous))),
    )
    return section("changes", "Since the previous run", pairs(facts), _metric_changes(run, previous))


def reproduce_section(content: ReportContent) -> Markup:
    """Say what to type, and everything that pins the result."""
    run = content.run
    typed = element("pre", {}, code("\n".join(content.reproduce)))
    commands = typed if content.reproduce else absent("This run cannot be repeated by a command.")
    pins = [_pin_row(pin) for pin in run.snapshots]
    columns = name_columns(("Source", "Repository", "Commit", "Rows", "Content"), numbers=("Rows",))
    pinned = table("Snapshots that pin the data", columns, pins) if pins else absent("No snapshot was read.")
    return section("reproduce", "What to type to reproduce", commands, pairs(_provenance(run)), pinned, _packages(run))


def _pin_row(pin: SnapshotPin) -> Row:
    rows = text(format_count(pin.rows))
    return Row.of(text(pin.source), text(pin.repository), code(pin.commit), rows, digest(pin.digest))


def _metric_changes(run: RunRecord, previous: RunRecord) -> Markup:
    before = {one.name: one.value for one in previous.metrics}
    if not before or not run.metrics:
        return NOTHING
    rows = [_changed(one.name, before.get(one.name), one.value) for one in run.metrics]
    numbers = ("Before", "Now", "Change")
    caption = "Metrics, each on the test rows of its own run"
    return table(caption, name_columns(("Metric", *numbers), numbers), rows, stack=False)


def _changed(name: str, before: float | None, now: float | None) -> Row:
    change = now - before if now is not None and before is not None else None
    values = (format_number(before), format_number(now), format_number(change, signed=True))
    return Row.of(text(metric_words(name)), *map(text, values))


def _configuration_change(run: RunRecord, previous: RunRecord) -> str:
    if previous.config_digest == run.config_digest:
        return "the same"
    if previous.overrides == run.overrides:
        return "differs, under the same overrides"
    words = [" ".join(overrides) or "none" for overrides in (previous.overrides, run.overrides)]
    return f"differs; overrides {words[0]} before, {words[1]} now"


def _data_changes(run: RunRecord, previous: RunRecord) -> str:
    before = {pin.source: pin for pin in previous.snapshots}
    now = {pin.source: pin for pin in run.snapshots}
    told = [f"{name} is new" for name in now if name not in before]
    told += [f"{name} is gone" for name in before if name not in now]
    for name, pin in now.items():
        if name in before and before[name].digest != pin.digest:
            told.append(f"{name} {format_count(before[name].rows)} rows to {format_count(pin.rows)}")
    return "; ".join(told) or "the same"


def _environment_changes(run: RunRecord, previous: RunRecord) -> str:
    if run.environment is None or previous.environment is None:
        return "not known"
    old, new = previous.environment.packages, run.environment.packages
    differing = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    changed = [f"{name} {old.get(name, 'absent')} to {new.get(name, 'absent')}" for name in differing]
    more = f" and {len(changed) - 8} more" if len(changed) > 8 else ""
    alike = run.environment.digest == previous.environment.digest
    same = "the same" if alike else "the same packages on another platform"
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
        facts.append(("Command", code(shlex.join(run.command))))
    facts.append(("Overrides", join(map(code, run.overrides), text(", ")) if run.overrides else text("none")))
    facts.append(("Seeds", text(", ".join(f"{name} {seed}" for name, seed in run.seeds.items()) or "none")))
    facts += [("Configuration", code(run.config_digest)), ("Plan", code(run.plan_digest))]
    if run.model_digest:
        facts.append(("Model", code(run.model_digest)))
    if run.git.commit:
        dirty = text(" with uncommitted changes" if run.git.dirty else "")
        facts.append(("Project", join((code(run.git.commit), dirty))))
    if run.environment:
        found = run.environment
        told = f" (engine {found.engine}, Python {found.python}, {found.platform}, {found.cpu_count} CPUs)"
        facts.append(("Environment", join((code(found.digest), text(told)))))
    return facts


def _packages(run: RunRecord) -> Markup:
    if run.environment is None or not run.environment.packages:
        return NOTHING
    lines = "\n".join(f"{name}=={version}" for name, version in sorted(run.environment.packages.items()))
    title = f"All {plural(len(run.environment.packages), 'installed package')}"
    return folded(title, element("pre", {}, text(lines)))
