"""The shell of every page: head, masthead, contents, sections, footer. One HTML file that loads and runs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.report.markup import Markup, element, text
from engine.report.style import PAGE, PALETTE, PICTURE

# Nothing may be loaded from anywhere, whatever ends up in the page.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
COMPLETE = "This page is complete: it loads nothing and runs nothing."


@dataclass(frozen=True, slots=True)
class Heading:
    """What a page is called: in the window, above its name, and its name."""

    title: str
    kicker: str
    name: str


Sections = Sequence[tuple[str, str, Markup]]
"""Identifier, title and content of each section; those without content are left out."""


def render_document(heading: Heading, sections: Sections, footer: str = COMPLETE) -> str:
    """Lay a page out; it is well-formed XML as well as HTML."""
    shown = [section for section in sections if section[2]]
    head = element(
        "head",
        {},
        element("meta", {"charset": "utf-8"}),
        element("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        element("meta", {"http-equiv": "Content-Security-Policy", "content": _POLICY}),
        element("title", {}, text(heading.title)),
        element("style", {}, Markup(PALETTE + PICTURE + PAGE)),
    )
    masthead = element(
        "header", {}, element("p", {"class": "kicker"}, text(heading.kicker)), element("h1", {}, text(heading.name))
    )
    main = element("main", {}, *(content for _, _, content in shown))
    body = element("body", {}, masthead, _contents(shown), main, element("footer", {}, text(footer)))
    return "<!DOCTYPE html>\n" + element("html", {"lang": "en"}, head, body) + "\n"


def _contents(sections: Sections) -> Markup:
    links = (element("li", {}, element("a", {"href": f"#{ident}"}, text(title))) for ident, title, _ in sections)
    return element("nav", {"aria-label": "Contents"}, element("ul", {}, *links))
