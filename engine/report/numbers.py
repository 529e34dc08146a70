"""Numbers, durations, sizes and instants as a report writes them. Pure; `None`, NaN and infinities are an en dash."""

from __future__ import annotations

import math
import re

MISSING = "–"
_MINUS = "−"
_NBSP = "\u00a0"  # a number and its unit stay on one line


def format_number(value: float | None, decimals: int | None = None, *, signed: bool = False) -> str:
    """Write a measured value: four decimals below ten, fewer above, two digits when it is tiny.

    >>> format_number(0.74213), format_number(-12345.6), format_number(0.0000312), format_number(0.01, signed=True)
    ('0.7421', '−12,346', '3.1e−05', '+0.0100')
    """
    if value is None or not math.isfinite(value):
        return MISSING
    size = abs(value)
    if decimals is None:
        decimals = 4 if size < 10 else 2 if size < 1000 else 0
    tiny_or_vast = 0 < size < 0.5 * 10**-decimals or size >= 1e15
    shown = f"{value:.1e}" if tiny_or_vast else f"{value:,.{decimals}f}"
    if not tiny_or_vast and float(shown.replace(",", "")) == 0:
        shown = shown.lstrip("-")
    plus = "+" if signed and value > 0 else ""
    return plus + shown.replace("-", _MINUS)


def format_interval(low: float | None, high: float | None, *, signed: bool = False) -> str:
    """Write both ends of an interval.

    >>> format_interval(0.735, 0.749)
    '[0.7350, 0.7490]'
    """
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return MISSING
    return f"[{format_number(low, signed=signed)}, {format_number(high, signed=signed)}]"


def format_count(value: float | None) -> str:
    """Write a whole number with thousands separated.

    >>> format_count(336776)
    '336,776'
    """
    return MISSING if value is None or not math.isfinite(value) else f"{value:,.0f}".replace("-", _MINUS)


def format_share(part: float | None, whole: float | None) -> str:
    r"""Write a part of a whole in per cent.

    >>> format_share(1, 8), format_share(1, 0)
    ('12.5\xa0%', '–')
    """
    if part is None or not whole or not math.isfinite(part / whole):
        return MISSING
    return f"{100 * part / whole:.1f}{_NBSP}%"


def format_seconds(value: float | None) -> str:
    r"""Write a duration with the unit that fits.

    >>> format_seconds(0.0123), format_seconds(3.26), format_seconds(75), format_seconds(4000)
    ('12\xa0ms', '3.3\xa0s', '1\xa0min\xa015\xa0s', '1\xa0h\xa06\xa0min')
    """
    if value is None or not math.isfinite(value) or value < 0:
        return MISSING
    if value < 0.9995:
        return f"{value * 1000:.0f}{_NBSP}ms"
    if value < 59.95:
        return f"{value:.1f}{_NBSP}s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60}{_NBSP}min{_NBSP}{whole % 60}{_NBSP}s"
    return f"{whole // 3600:,}{_NBSP}h{_NBSP}{whole % 3600 // 60}{_NBSP}min"


def format_bytes(value: float | None) -> str:
    r"""Write a size in binary units.

    >>> format_bytes(512), format_bytes(3 * 2**20)
    ('512\xa0B', '3.0\xa0MiB')
    """
    if value is None or not math.isfinite(value):
        return MISSING
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f}{_NBSP}B" if unit == "B" else f"{value:.1f}{_NBSP}{unit}"
        value /= 1024
    return f"{value:,.1f}{_NBSP}TiB"


def format_instant(value: str | None) -> str:
    """Write an RFC 3339 instant in UTC for people, to the second; anything else as it stands.

    >>> format_instant("2026-05-04T10:11:12.5Z"), format_instant("2013-09-01T00:00:00Z"), format_instant("soon")
    ('2026-05-04 10:11:12 UTC', '2013-09-01', 'soon')
    """
    if not value:
        return MISSING
    found = re.fullmatch(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(\.\d+)?(Z|\+00:?00)", value)
    if found is None:
        return value
    return found[1] if found[2] == "00:00:00" and not found[3] else f"{found[1]} {found[2]} UTC"


def plural(count: int, noun: str) -> str:
    """Count a regular noun.

    >>> plural(1, "node"), plural(1200, "row")
    ('1 node', '1,200 rows')
    """
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
