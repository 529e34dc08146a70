"""A `CiReport` as Markdown for a merge request, and as JUnit XML for whatever shows test results. Pure.

In JUnit an inconclusive gate is skipped, with its reason: it neither passed nor failed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from engine.ci_records import CiReport, Compared
from engine.records import FeatureCaseResult, GateResult
from engine.report.markup import Markup, element, text

_WORDS = {"promote": "passed", "reject": "failed", "inconclusive": "inconclusive"}
_SIGNS = {"better": "better", "same": "no clear difference", "worse": "**worse**", "unknown": "unknown"}


def render_markdown(report: CiReport) -> str:
    """Write the report, the verdict first."""
    sample = f" on {report.sample} of the rows" if report.sample else ""
    lines = [f"## {report.pipeline}: {_WORDS[report.verdict]}", ""]
    lines += [f"- {_cell(reason)}" for reason in report.reasons] + ([""] if report.reasons else [])
    lines += [f"Run {report.run_id}{sample}, {report.seconds:.1f} s, exit code {report.exit_code}.", ""]
    if report.error:
        lines += ["```", report.error.replace("```", "'''"), "```", ""]
    if report.compared:
        lines += [f"### Against {_cell(report.against)}", "", *_table(_metrics(report.compared)), ""]
    else:
        lines += [f"Nothing to compare with: {_cell(report.against)}", ""]
    if report.gates:
        rows = [[gate.name, gate.status, gate.severity, gate.observed, gate.reason] for gate in report.gates]
        lines += ["### Gates", "", *_table([["gate", "result", "severity", "observed", "why"], *rows]), ""]
    if report.cases:
        passed = sum(case.passed for case in report.cases)
        lines += [f"### Feature cases: {passed} of {len(report.cases)} pass", ""]
        lines += [f"- {case.name}: {_differing(case)}" for case in report.cases if not case.passed]
    if report.changed:
        lines += ["", "### What ran", "", *(f"- `{name}`: {_cell(why)}" for name, why in report.changed.items())]
    return "\n".join(lines).rstrip() + "\n"


def _metrics(compared: Sequence[Compared]) -> list[list[str]]:
    rows = [["metric", "here", "baseline", "difference", ""]]
    for item in compared:
        span = f" ({item.low:+.4f} to {item.high:+.4f})" if item.low is not None and item.high is not None else ""
        gap = f"{item.difference:+.4f}{span}" if item.difference is not None else item.note or "not defined"
        name = f"**{item.metric}**" if item.primary else item.metric
        rows.append([name, _number(item.ours), _number(item.theirs), gap, _SIGNS[item.standing]])
    return rows


def _number(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.4f}"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    head, *body = [f"| {' | '.join(map(_cell, row))} |" for row in rows]
    return [head, f"|{'---|' * len(rows[0])}", *body]


def _cell(value: str) -> str:
    """Keep a text on one line and inside its cell."""
    return " ".join(value.replace("|", "\\|").split())


def render_junit(report: CiReport) -> str:
    """Write the report as test suites: the training itself, feature cases, gates, comparisons."""
    broken = [_failure(report.error)] if report.error else []
    suites = {
        "run": [_case("training", "run", broken, report.seconds)],
        "features": [_case(case.name, "features", _case_outcome(case)) for case in report.cases],
        "gates": [_case(gate.name, "gates", _gate_outcome(gate)) for gate in report.gates],
        "metrics": [_case(item.metric, "metrics", _metric_outcome(item)) for item in report.compared],
    }
    made = [_suite(f"{report.pipeline}.{name}", cases) for name, cases in suites.items() if cases]
    root = element("testsuites", {"name": f"engine ci {report.pipeline}", "time": f"{report.seconds:.3f}"}, *made)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{root}\n'


def _suite(name: str, cases: Sequence[Markup]) -> Markup:
    counts = {
        what: str(sum(f"<{tag} " in case for case in cases))
        for what, tag in (("failures", "failure"), ("skipped", "skipped"))
    }
    return element("testsuite", {"name": name, "tests": str(len(cases)), "errors": "0", **counts}, *cases)


def _case(name: str, group: str, outcome: Iterable[Markup], seconds: float = 0.0) -> Markup:
    return element("testcase", {"classname": group, "name": name, "time": f"{seconds:.3f}"}, *outcome)


def _failure(message: str) -> Markup:
    return element("failure", {"message": message.splitlines()[0][:300]}, text(message))


def _skipped(message: str) -> Markup:
    return element("skipped", {"message": message[:300]}, text(message))


def _case_outcome(case: FeatureCaseResult) -> list[Markup]:
    return [] if case.passed else [_failure(_differing(case))]


def _differing(case: FeatureCaseResult) -> str:
    wrong = [item for item in case.compared if not item.equal]
    return "; ".join(f"{item.feature} is {item.actual!r}, expected {item.expected!r}" for item in wrong)


def _gate_outcome(gate: GateResult) -> list[Markup]:
    told = f"{gate.reason or gate.status}; observed {gate.observed or 'nothing'}; required {gate.required or 'nothing'}"
    if gate.status == "fail" and gate.severity == "block":
        return [_failure(told)]
    return [] if gate.status == "pass" else [_skipped(f"{gate.status}: {told}")]


def _metric_outcome(item: Compared) -> list[Markup]:
    told = f"{_number(item.ours)} against {_number(item.theirs)}: {item.standing}"
    if item.standing == "worse" and item.primary:
        return [_failure(told)]
    return [_skipped(told)] if item.standing in ("worse", "unknown") else []
