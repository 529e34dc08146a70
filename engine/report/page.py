"""The report of a run: one HTML file that needs no network and no script, verdict first.

Enters: `ReportContent`. Leaves: the page as text, well-formed XML as well as HTML. It goes to
`runs/<id>/report.html` after each run. Read `render_report` for what is on the page and in which order.
"""

from __future__ import annotations

from engine.report.analyses import analyses_section
from engine.report.content import ReportContent
from engine.report.data import data_section
from engine.report.document import COMPLETE, Heading, render_document
from engine.report.evidence import read_evidence
from engine.report.numbers import format_instant, format_seconds
from engine.report.provenance import changes_section, reproduce_section
from engine.report.results import curves_section, importance_section, metrics_section
from engine.report.slices import slices_section
from engine.report.verdict import failure_section, rule_on, verdict_section
from engine.report.workings import graph_section


def render_report(content: ReportContent) -> str:
    """Render the page of a run; whatever is missing is said, nothing is made up for it."""
    evidence = read_evidence(content.evaluation, content.run)
    sections = (
        ("verdict", "Verdict", verdict_section(content, evidence)),
        ("failure", "Failure", failure_section(content.run)),
        ("metrics", "Metrics", metrics_section(content, evidence)),
        ("plan", "What ran", graph_section(content)),
        ("data", "Data and split", data_section(content.data)),
        ("curves", "Curves", curves_section(content, evidence)),
        ("importance", "Importance", importance_section(content, evidence)),
        ("slices", "Slices", slices_section(content, evidence)),
        ("analyses", "Analyses", analyses_section(content.analyses)),
        ("changes", "Changes", changes_section(content.run, content.previous)),
        ("reproduce", "Reproduce", reproduce_section(content)),
    )
    run = content.run
    heading = Heading(
        title=f"{run.pipeline}: {rule_on(run).word.lower()} (run {run.run_id})",
        kicker=f"Run {run.run_id}, {format_instant(run.started_at)}, {format_seconds(run.seconds)}",
        name=run.pipeline,
    )
    engine = run.environment.engine if run.environment else None
    return render_document(heading, sections, COMPLETE + (f" Written by engine {engine}." if engine else ""))
