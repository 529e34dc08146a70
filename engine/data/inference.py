"""A first set of expectations from a profile, as YAML for a person to review.

Enters: a profile of a source. Leaves: text for `conf/expect/<source>.yaml`. Limits are wider than what was seen (a tenth
of the range on each side), since tomorrow's data is not today's; what moves is told as a warning.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from engine.data_records import ColumnProfile, TableProfile
from engine.errors import StoreError, UsageError
from engine.keys import digest_bytes

_FEW_VALUES = 20
_SLACK = 0.1
_MARK = re.compile(r"# written by `engine data profile`, digest ([0-9a-f]{64})\n")


def infer_expectations(profile: TableProfile) -> list[dict[str, Any]]:
    """Give expectations that the profiled rows meet, strict ones first."""
    found = [item for column in profile.columns for item in _of_column(column, profile.rows, profile.at)]
    found.append({"min_rows": profile.rows // 2})
    found.append({"max_row_loss": 0.1})
    drifting = [
        column for column in profile.columns if column.type in {"f64", "i64"} and not _names_rows(column, profile)
    ]
    found += [
        {"column": column.column, "distribution": {"measure": "psi", "threshold": 0.2}, "severity": "warn"}
        for column in drifting
    ]
    return found


def render_expectations(profile: TableProfile) -> str:
    """Write expectations as a Hydra group file that a pipeline may take into its defaults."""
    lines = [f"    - {_flow(item)}\n" for item in infer_expectations(profile)]
    body = "".join([
        "# @package _global_\n",
        f"# What {profile.rows:,} rows of `{profile.name}` met at {profile.at[:19]}Z. Review it: what was seen once is no law.\n",
        f"# Take it into a pipeline with `- /expect: {profile.name}` in its defaults; a list of its own there replaces this one.\n",
        f"sources:\n  {profile.name}:\n    expect:\n",
        *(f"  {line}" for line in lines),
    ])  # fmt: skip
    return f"# written by `engine data profile`, digest {digest_bytes(body.encode())}\n{body}"


def write_expectations(profile: TableProfile, path: Path) -> None:
    """Write the file; raises `UsageError` rather than replacing one that a person wrote or changed."""
    if path.exists() and not _is_ours(path):
        raise UsageError(
            f"{path} was written or changed by hand, and is not replaced",
            hint="write elsewhere with --write FILE, compare, and take over what you like",
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render_expectations(profile), encoding="utf-8")
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}", hint="check the folder") from error


def _is_ours(path: Path) -> bool:
    text = path.read_text(encoding="utf-8", errors="replace")
    match = _MARK.match(text)
    return match is not None and match[1] == digest_bytes(text[match.end() :].encode())


def _is_before(moment: str, now: str) -> bool:
    return datetime.fromisoformat(moment) <= datetime.fromisoformat(now)


def _of_column(column: ColumnProfile, rows: int, at: str) -> Iterator[dict[str, Any]]:
    said: dict[str, Any] = {}
    if rows and not column.nulls:
        said["not_null"] = True
    elif rows and column.nulls < rows:
        said["max_null_fraction"] = min(1.0, round(column.nulls / rows * 1.5 + 0.01, 3))
    if _is_unique(column, rows):
        said["unique"] = True
    said |= _range_of(column) if column.type in {"i64", "f64"} else {}
    if column.type == "str" and column.distinct <= _FEW_VALUES and rows >= 20 * column.distinct:
        said["values"] = sorted(value for value, _ in column.top) if column.distinct <= len(column.top) else None
    if column.type == "str" and column.shape and column.distinct > _FEW_VALUES:
        said["pattern"] = pattern_of(column.shape)
    if column.type == "timestamp" and column.increasing:
        said["increasing"] = True
    if column.type == "timestamp" and column.maximum is not None and _is_before(str(column.maximum), at):
        said["past"] = True
    kept = {key: value for key, value in said.items() if value is not None}
    if kept:
        yield {"column": column.column, **kept}


def pattern_of(shape: str) -> str:
    """Give the regular expression of a shape.

    >>> pattern_of("A99-aa")
    '^[A-Z][0-9]{2}-[a-z]{2}$'
    """
    kinds = {"A": "[A-Z]", "a": "[a-z]", "9": "[0-9]"}
    parts = [(match[0][0], len(match[0])) for match in re.finditer(r"(.)\1*", shape, re.DOTALL)]
    texts = (
        kinds[kind] + (f"{{{length}}}" if length > 1 else "") if kind in kinds else re.escape(kind * length)
        for kind, length in parts
    )
    return f"^{''.join(texts).replace(chr(92) + '-', '-')}$"


def _range_of(column: ColumnProfile) -> dict[str, float | int]:
    """Widen the range by a tenth on each side; what was never negative stays so."""
    if column.minimum is None or column.maximum is None:
        return {}
    slack = (column.maximum - column.minimum) * _SLACK
    low, high = column.minimum - slack, column.maximum + slack
    low = max(0, low) if column.minimum >= 0 else low
    if column.type == "i64":
        return {"minimum": math.floor(low), "maximum": math.ceil(high)}
    short_low, short_high = float(f"{low:.4g}"), float(f"{high:.4g}")
    return {
        "minimum": short_low if short_low <= column.minimum else low,
        "maximum": short_high if short_high >= column.maximum else high,
    }


def _is_unique(column: ColumnProfile, rows: int) -> bool:
    return rows >= 20 and column.type in {"str", "i64"} and column.distinct == rows


def _names_rows(column: ColumnProfile, profile: TableProfile) -> bool:
    return _is_unique(column, profile.rows) or column.distinct <= 1


def _flow(item: dict[str, Any]) -> str:
    """Write one expectation as a flow mapping on one line."""
    import yaml  # noqa: PLC0415 - start-up time

    text: str = yaml.safe_dump(item, default_flow_style=True, sort_keys=False, width=10_000, allow_unicode=True)
    return text.strip()
