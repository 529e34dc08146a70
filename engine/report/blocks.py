"""Building blocks of the page: sections, tables that scroll when the screen is narrow, lists of facts, figures."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from engine.report.markup import NOTHING, Markup, element, join, text


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table; numbers align at the right."""

    title: str
    number: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A row's cells, the first being its header; `css` marks it."""

    cells: Sequence[Markup]
    css: str | None = None

    @classmethod
    def of(cls, *cells: Markup, css: str | None = None) -> Row:
        """Give a row from its cells."""
        return cls(cells, css)


def name_columns(titles: Sequence[str], numbers: Collection[str] = ()) -> list[Column]:
    """Give columns by title; those in `numbers` align at the right."""
    return [Column(title, title in numbers) for title in titles]


def folded(summary: str, content: Markup) -> Markup:
    """Give content that opens on demand, without a script."""
    return element("details", {}, element("summary", {}, text(summary)), content)


def section(ident: str, title: str, *body: Markup) -> Markup:
    """Give a section that the table of contents can point at."""
    heading = element("h2", {"id": f"{ident}-title"}, text(title))
    return element("section", {"id": ident, "aria-labelledby": f"{ident}-title"}, heading, *body)


def paragraph(*parts: Markup, css: str | None = None) -> Markup:
    """Give a paragraph."""
    return element("p", {"class": css}, *parts)


def absent(words: str) -> Markup:
    """Say in the place of something that it is not there, and why."""
    return paragraph(text(words), css="none")


def table(caption: str, columns: Sequence[Column], rows: Iterable[Row], *, stack: bool = True) -> Markup:
    """Give a table with its caption and scoped headers.

    On a narrow screen each row of a `stack` becomes a block with its columns' names (best for words); any other table
    keeps its grid and scrolls sideways (best for numbers to compare).
    """
    head = element("tr", {}, *(_header(column) for column in columns))
    body = join(_row(row, columns) for row in rows)
    whole = element(
        "table",
        {"class": "stack" if stack else "grid"},
        element("caption", {}, text(caption)),
        element("thead", {}, head),
        element("tbody", {}, body),
    )
    return scrolling(caption, whole)


def scrolling(label: str, content: Markup, css: str = "scroll") -> Markup:
    """Let wide content scroll sideways by itself, for keyboards too."""
    return element("div", {"class": css, "role": "region", "aria-label": label, "tabindex": 0}, content)


def pairs(facts: Iterable[tuple[str, Markup]], css: str = "pairs") -> Markup:
    """Give a list of terms with what they are."""
    cells = (element("div", {}, element("dt", {}, text(term)), element("dd", {}, value)) for term, value in facts)
    return element("dl", {"class": css}, *cells)


def figure(content: Markup, caption: str = "") -> Markup:
    """Give a picture with a caption."""
    return element("figure", {}, content, element("figcaption", {}, text(caption)) if caption else NOTHING)


def badge(words: str, tone: str) -> Markup:
    """Give a word with a mark in its tone: good, bad, unsure, ran, cached, or nothing."""
    return element("span", {"class": f"badge tone-{tone}" if tone else "badge"}, text(words))


def code(value: object) -> Markup:
    """Give text as it would be typed."""
    return element("code", {}, text(value))


def digest(value: str | None, kept: int = 12) -> Markup:
    """Give the start of a digest or commit, whole in its tooltip."""
    if not value:
        return text("–")
    return element("code", {"title": value}, text(value[:kept]))


def _header(column: Column) -> Markup:
    return element("th", {"scope": "col", "class": "number" if column.number else None}, text(column.title))


def _row(row: Row, columns: Sequence[Column]) -> Markup:
    first, *rest = row.cells
    wide = "wrap" if len(first) > 60 else None
    cells = [element("th", {"scope": "row", "class": wide}, first)]
    for cell, column in zip(rest, columns[1:], strict=True):
        css = " ".join(name for name, on in (("number", column.number), ("empty", not cell)) if on)
        cells.append(element("td", {"class": css or None, "data-label": column.title}, cell))
    return element("tr", {"class": row.css}, *cells)
