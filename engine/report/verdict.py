"""The top of the page: what became of the run in one word and one sentence, the facts beside it, and the gates."""

from __future__ import annotations

from dataclasses import dataclass

from engine.errors import ExitCode
from engine.records import GateResult, RunRecord
from engine.report.blocks import Row, absent, badge, code, name_columns, pairs, paragraph, section, table
from engine.report.content import ReportContent
from engine.report.evidence import Evidence, Measure, metric_words
from engine.report.markup import NOTHING, Markup, element, join, text
from engine.report.numbers import MISSING, format_bytes, format_interval, format_number, format_seconds, plural

_EXIT_WORDS = {
    ExitCode.OK: "ok",
    ExitCode.INTERNAL: "internal error",
    ExitCode.USAGE: "usage or configuration",
    ExitCode.REJECTED: "gate rejected",
    ExitCode.INCONCLUSIVE: "inconclusive",
    ExitCode.QUARANTINED: "data quarantined",
    ExitCode.LOCKED: "locked",
    ExitCode.UNAVAILABLE: "a dependency is unavailable",
    ExitCode.INTEGRITY: "integrity",
    ExitCode.INTERRUPTED: "interrupted",
}
_GATE_TONES = {"pass": "good", "fail": "bad", "inconclusive": "unsure"}


@dataclass(frozen=True, slots=True)
class Ruling:
    """The verdict for people: a word, the sentence that explains it, and whether it is good."""

    word: str
    sentence: str
    tone: str


def rule_on(run: RunRecord) -> Ruling:
    """Say in one word and one sentence how the run ended and why."""
    match run.status:
        case "failed":
            return Ruling("Failed", _failure(run), "bad")
        case "interrupted":
            return Ruling(
                "Interrupted", _failure(run) if run.error else "The run was stopped before it ended.", "unsure"
            )
        case "running":
            return Ruling("Running", "The run had not ended when this page was written.", "unsure")
        case "pruned":
            return Ruling("Pruned", "The sweep stopped this trial: others were ahead at the same point.", "unsure")
        case "succeeded":
            return _judged(run)


def verdict_section(content: ReportContent, evidence: Evidence) -> Markup:
    """Give the banner, the facts and the gates; the failing node with its error when the run failed."""
    run = content.run
    ruling = rule_on(run)
    sample = f" Only a sample of the rows was used ({run.sample})." if run.sample else ""
    banner = element(
        "div",
        {"class": "banner"},
        element("h2", {"class": "ruling", "id": "verdict-title"}, text(ruling.word)),
        paragraph(text(ruling.sentence + sample)),
        paragraph(text(f"Exit code {run.exit_code} ({exit_words(run.exit_code)})"), css="exit"),
    )
    css = f"verdict verdict-{ruling.tone}"
    gates = gate_table(run.gates) if run.gates else absent("No gate was judged in this run.")
    facts = pairs(_facts(content, evidence), css="facts")
    return element("section", {"id": "verdict", "aria-labelledby": "verdict-title", "class": css}, banner, facts, gates)


def failure_section(run: RunRecord) -> Markup:
    """Show each node that failed, with the error that a person reads; nothing when none did."""
    failed = [node for node in run.nodes if node.state == "failed"]
    if not failed and not run.error:
        return NOTHING
    shown: list[Markup] = []
    for node in failed:
        attempts = plural(max(node.attempts, 1), "attempt")
        told = f"{node.name} ({node.kind}) after {format_seconds(node.seconds)}, {attempts}"
        shown += [element("h3", {}, text(told)), element("pre", {"class": "error"}, text(node.error or "no message"))]
    if run.error and run.error not in [node.error for node in failed]:
        shown.append(element("pre", {"class": "error"}, text(run.error)))
    stopped = [node.name for node in run.nodes if node.state in {"skipped", "cancelled"}]
    after = [paragraph(text("Not run because of it: "), join(map(code, stopped), text(", ")))] if stopped else []
    return section("failure", "What failed", *shown, *after)


def gate_table(gates: tuple[GateResult, ...]) -> Markup:
    """List the gates, those that block and did not pass first."""
    order = {"fail": 0, "inconclusive": 1, "pass": 2}
    ranked = sorted(gates, key=lambda gate: (order[gate.status], gate.severity))
    columns = name_columns(("Gate", "Result", "If it fails", "Observed", "Required", "Why"))
    return table("Gates, those that did not pass first", columns, map(_gate_row, ranked))


def _gate_row(gate: GateResult) -> Row:
    return Row.of(
        join((text(gate.name), _kind(gate))),
        badge(gate.status, _GATE_TONES[gate.status]),
        text("blocks" if gate.severity == "block" else "warns"),
        text(gate.observed or MISSING),
        text(gate.required or MISSING),
        text(gate.reason),
    )


def exit_words(exit_code: int) -> str:
    """Say what an exit code means.

    >>> exit_words(3), exit_words(77)
    ('gate rejected', 'unknown')
    """
    return _EXIT_WORDS.get(ExitCode(exit_code), "unknown") if exit_code in set(ExitCode) else "unknown"


def _judged(run: RunRecord) -> Ruling:
    blocking = [gate for gate in run.gates if gate.severity == "block"]
    match run.verdict:
        case "promote" if run.promoted:
            sentence = f"{_passed(blocking)}, and {run.model or 'the model'} is now the champion."
            return Ruling("Promoted", sentence, "good")
        case "promote":
            return Ruling("Promote", f"{_passed(blocking)}; the champion has not been replaced.", "good")
        case "reject":
            return Ruling("Rejected", _against(blocking, "fail", "failed"), "bad")
        case "inconclusive":
            return Ruling("Inconclusive", _against(blocking, "inconclusive", "could not decide"), "unsure")
        case None if run.command[:2] == ("engine", "analyse"):
            looked = sum(node.kind == "analysis" and node.state in {"ran", "cached"} for node in run.nodes)
            return Ruling(
                "Analysed", f"{looked} {'analysis' if looked == 1 else 'analyses'}; nothing was judged.", "good"
            )
        case None:
            return Ruling("Finished", "The run ended without a verdict: no gate was asked.", "unsure")


def _passed(blocking: list[GateResult]) -> str:
    return f"All {plural(len(blocking), 'blocking gate')} passed" if len(blocking) > 1 else "Every blocking gate passed"


def _against(blocking: list[GateResult], status: str, verb: str) -> str:
    found = [gate for gate in blocking if gate.status == status]
    if not found:
        return "No blocking gate says why; see the table of gates."
    first = found[0]
    why = first.reason or f"observed {first.observed or 'nothing'}, required {first.required or 'something'}"
    more = f" ({len(found) - 1} more)" if len(found) > 1 else ""
    return f"{len(found)} of {plural(len(blocking), 'blocking gate')} {verb}: {first.name}, {why.rstrip('.')}{more}."


def _failure(run: RunRecord) -> str:
    node = next((node for node in run.nodes if node.state == "failed"), None)
    error = (node.error if node else None) or run.error or "no message"
    first = next((line.strip() for line in error.splitlines() if line.strip()), "no message")
    first = first if len(first) <= 220 else first[:219] + "…"
    return f"Node {node.name} failed: {first}" if node else first


def _facts(content: ReportContent, evidence: Evidence) -> list[tuple[str, Markup]]:
    run = content.run
    facts = _measured(evidence, evidence.primary) if evidence.primary else []
    memory = f"peak memory {format_bytes(run.peak_bytes)}" if run.peak_bytes else ""
    facts.append(("Duration", _with_small(format_seconds(run.seconds), memory)))
    ran = sum(node.state == "ran" for node in run.nodes)
    cached = sum(node.state == "cached" for node in run.nodes)
    facts.append(("Nodes", _with_small(f"{ran} ran, {cached} cached", f"of {len(content.plan.nodes)} planned")))
    if run.model:
        facts.append(("Model", _with_small(run.model, "promoted" if run.promoted else "registered, not promoted")))
    return facts


def _measured(evidence: Evidence, primary: str) -> list[tuple[str, Markup]]:
    """Give the primary metric, and how far it is from champion and baseline."""
    name = metric_words(primary)
    own = evidence.headline
    facts = [(f"{name}, challenger", _with_small(format_number(own.value), _span(own)))] if own else []
    for role, differences in evidence.differences.items():
        if primary in differences:
            difference = differences[primary]
            shown = format_number(difference.value, signed=True)
            facts.append((f"{name} against {role}", _with_small(shown, _span(difference, signed=True))))
    return facts


def _span(measure: Measure, *, signed: bool = False) -> str:
    return format_interval(measure.low, measure.high, signed=signed) if measure.low is not None else ""


def _with_small(value: str, small: str) -> Markup:
    return join((text(value), element("small", {}, text(small)) if small else NOTHING))


def _kind(gate: GateResult) -> Markup:
    return element("small", {}, text(gate.kind)) if gate.kind != gate.name else NOTHING
