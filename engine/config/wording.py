"""Words for people: the nearest name to what was written, and a value on one short line. Used by every check here."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from typing import Any

_SHOWN = 60


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Give the known name that is closest to what was written, if any is close.

    >>> nearest("flihgts", ["flights", "weather"])
    'flights'
    """
    found = difflib.get_close_matches(name, sorted(set(known)), 1, cutoff=0.65)
    return found[0] if found else None


def show_value(value: Any) -> str:
    """Write a JSON value on one short line.

    >>> show_value({"a": [1, None]}), show_value("x" * 99)[-3:], show_value("")
    ('{"a": [1, null]}', 'xx…', '""')
    """
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = " ".join(text.split()) or json.dumps(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
