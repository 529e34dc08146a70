"""A `ScoreReport` as a page of its own, which loads and runs nothing."""

from __future__ import annotations

from engine.report.blocks import Row, badge, name_columns, paragraph, section, table
from engine.report.document import COMPLETE, Heading, render_document
from engine.report.markup import Markup, text
from engine.score.rubric import SECTIONS
from engine.score_records import ScoredTest, ScoreReport

_TITLES = {
    "data": "Features and data",
    "model": "Model development",
    "infrastructure": "Infrastructure",
    "monitoring": "Monitoring",
}
_TONES = {0.0: "bad", 0.5: "unsure", 1.0: "good"}


def render_score(report: ScoreReport) -> str:
    """Render the page: the score with its meaning, then the four sections."""
    heading = Heading(
        title=f"{report.pipeline}: ML test score {report.score:g}", kicker="The ML Test Score", name=report.pipeline
    )
    judged = f"Judged by run {report.run_id}" if report.run_id else "No whole run has been judged"
    summary = section(
        "score",
        f"Score {report.score:g}",
        paragraph(text(f"{report.band[0].upper()}{report.band[1:]}.")),
        paragraph(text(f"The score is the least of the four sections; each is the sum of seven tests. {judged}.")),
        table(
            "Sections",
            name_columns(("Section", "Points of 7"), {"Points of 7"}),
            [_section_row(report, name) for name in SECTIONS],
        ),
    )
    parts = [("score", "Score", summary)]
    for name in SECTIONS:
        rows = [_row(test) for test in report.tests if test.section == name]
        columns = name_columns(("Test", "Points", "Found", "To add"))
        made = section(name, _TITLES[name], table(f"{report.sections[name]:g} of 7", columns, rows))
        parts.append((name, _TITLES[name], made))
    footer = f"{COMPLETE} After Breck, Cai, Nielsen, Salib and Sculley: The ML Test Score (2017)."
    return render_document(heading, parts, footer)


def _section_row(report: ScoreReport, name: str) -> Row:
    return Row.of(text(_TITLES[name]), text(f"{report.sections[name]:g}"))


def _row(test: ScoredTest) -> Row:
    points: Markup = badge(f"{test.score:g}", _TONES[test.score])
    return Row.of(text(f"{test.number}. {test.title}"), points, text(test.found), text(test.add or "nothing"))
