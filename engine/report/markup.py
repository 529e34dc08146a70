"""The one door from text to markup: whatever comes through it is escaped, and the result is well-formed XML.

`Markup` is a type of its own, so mypy refuses a name, an error or a number that did not come through `text` or
`element`. HTML pages and SVG pictures are both built here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from html import escape
from typing import NewType, TypeAlias

Markup = NewType("Markup", str)
Attributes: TypeAlias = Mapping[str, "str | float | int | None"]

NOTHING = Markup("")
# Elements that HTML, or SVG inside HTML, lets close themselves; all others need a closing tag even when empty.
_SELF_CLOSING = frozenset({"meta", "br", "hr", "col", "path", "rect", "circle", "line", "polyline", "polygon"})
# What XML 1.0 cannot contain at all: most control characters (terminal colours in an error), lone surrogates.
_ILLEGAL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")
_TERMINAL_COLOURS = re.compile("\x1b\\[[0-9;]*[A-Za-z]")


def text(value: object) -> Markup:
    r"""Escape anything for text or an attribute; terminal colours go, other control characters show as `�`.

    >>> text('<b> & "c"\x1b[31m!')
    '&lt;b&gt; &amp; &quot;c&quot;!'
    """
    plain = _TERMINAL_COLOURS.sub("", str(value))
    return Markup(escape(_ILLEGAL.sub("\ufffd", plain), quote=True))


def element(name: str, attributes: Attributes, *children: Markup) -> Markup:
    """Build one element; an attribute that is `None` is left out, a number is written as a short coordinate.

    >>> element("rect", {"x": 1.25, "class": "bar", "rx": None})
    '<rect x="1.25" class="bar"/>'
    """
    opened = [name]
    for key, value in attributes.items():
        if value is not None:
            opened.append(f'{key}="{text(value) if isinstance(value, str) else coordinate(value)}"')
    start = " ".join(opened)
    if not children and name in _SELF_CLOSING:
        return Markup(f"<{start}/>")
    return Markup(f"<{start}>{''.join(children)}</{name}>")


def join(parts: Iterable[Markup], separator: Markup = NOTHING) -> Markup:
    """Put markup together."""
    return Markup(separator.join(parts))


def coordinate(value: float) -> str:
    """Write a length in as few characters as two decimals need.

    >>> coordinate(12.0), coordinate(0.333), coordinate(-0.001)
    ('12', '0.33', '0')
    """
    short = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if short == "-0" else short
