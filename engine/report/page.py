"""The report of a run: one HTML file that needs no network and no script, verdict first.

Enters: `ReportContent`. Leaves: the page as text, well-formed XML as well as HTML. It goes to
`runs/<id>/report.html` after each run. Read `render_report` for what is on the page and in which order.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.report.content import ReportContent
from engine.report.data import data_section
from engine.report.evidence import read_evidence
from engine.report.markup import Markup, element, text
from engine.report.numbers import format_instant, format_seconds
from engine.report.provenance import changes_section, reproduce_section
from engine.report.results import curves_section, importance_section, metrics_section
from engine.report.slices import slices_section
from engine.report.style import PAGE, PALETTE, PICTURE
from engine.report.verdict import failure_section, rule_on, verdict_section
from engine.report.workings import graph_section

# Nothing may be loaded from anywhere, whatever ends up in the page.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


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
        ("changes", "Changes", changes_section(content.run, content.previous)),
        ("reproduce", "Reproduce", reproduce_section(content)),
    )
    shown = [section for section in sections if section[2]]
    contents = _contents([(ident, title) for ident, title, _ in shown])
    main = element("main", {}, *(body for _, _, body in shown))
    body = element("body", {}, _masthead(content), contents, main, _footer(content))
    return "<!DOCTYPE html>\n" + element("html", {"lang": "en"}, _head(content), body) + "\n"


def _head(content: ReportContent) -> Markup:
    title = f"{content.run.pipeline}: {rule_on(content.run).word.lower()} (run {content.run.run_id})"
    return element(
        "head",
        {},
        element("meta", {"charset": "utf-8"}),
        element("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        element("meta", {"http-equiv": "Content-Security-Policy", "content": _POLICY}),
        element("title", {}, text(title)),
        element("style", {}, Markup(PALETTE + PICTURE + PAGE)),
    )


def _masthead(content: ReportContent) -> Markup:
    run = content.run
    told = f"Run {run.run_id}, {format_instant(run.started_at)}, {format_seconds(run.seconds)}"
    kicker = element("p", {"class": "kicker"}, text(told))
    return element("header", {}, kicker, element("h1", {}, text(run.pipeline)))


def _contents(entries: Sequence[tuple[str, str]]) -> Markup:
    links = (element("li", {}, element("a", {"href": f"#{ident}"}, text(title))) for ident, title in entries)
    return element("nav", {"aria-label": "Contents"}, element("ul", {}, *links))


def _footer(content: ReportContent) -> Markup:
    engine = content.run.environment.engine if content.run.environment else None
    words = "This page is complete: it loads nothing and runs nothing." + (
        f" Written by engine {engine}." if engine else ""
    )
    return element("footer", {}, text(words))
