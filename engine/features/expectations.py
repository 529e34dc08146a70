"""Check what a source's declaration expects of its rows: columns that exist, of types that a limit can be said of.

Called by `source_compiler` with the columns that the source will have. The audit itself is `engine.nodes.validation`.
"""

from __future__ import annotations

from collections.abc import Mapping

from engine.features.problems import Problems
from engine.spec.sources import Expectation, SourceSpec

_ANY = ("bool", "i64", "f64", "str", "timestamp")
# What an expectation may say of a column, with the types that it can be said of; and what it may say of the whole source.
COLUMN_LIMITS: Mapping[str, tuple[str, ...]] = {
    "not_null": _ANY,
    "max_null_fraction": _ANY,
    "unique": _ANY,
    "minimum": ("i64", "f64"),
    "maximum": ("i64", "f64"),
    "values": ("bool", "i64", "f64", "str"),
    "pattern": ("i64", "str"),
    "increasing": ("i64", "f64", "timestamp"),
    "past": ("timestamp",),
    "distribution": _ANY,
    "references": _ANY,
}
WHOLE_LIMITS = ("expr", "freshness", "min_rows", "max_row_loss", "max_row_gain")
# Limits that no single row breaks, so that none can be set aside.
OF_WHOLE = ("max_null_fraction", "freshness", "distribution", "min_rows", "max_row_loss", "max_row_gain")


def check_expectations(path: str, spec: SourceSpec, columns: Mapping[str, str], problems: Problems) -> None:
    """Add a problem for each expectation that cannot be checked."""
    if spec.incremental and (spec.partition == "none" or spec.time is None):
        hint = "say `partition: day`, `month` or `year`, and name the `time`"
        problems.add(f"{path}.incremental", "what is read in parts is written in partitions of time", hint=hint)
    for index, expectation in enumerate(spec.expect):
        place = f"{path}.expect.{index}"
        if expectation.column is not None and expectation.column not in columns:
            problems.unknown(f"{place}.column", "column", expectation.column, tuple(columns))
            continue
        if expectation.expr is not None:
            problems.typed(f"{place}.expr", expectation.expr, columns, want="bool")
        if expectation.freshness is not None and (spec.time is None or expectation.column not in {None, spec.time}):
            hint = "leave `column` out; a static source has no age"
            problems.add(f"{place}.freshness", "is about the event time of the source", hint=hint)
        _check_limits(place, expectation, columns, problems)
        _check_severity(place, expectation, problems)


def said(expectation: Expectation) -> tuple[str, ...]:
    """Name the limits that an expectation sets."""
    return tuple(name for name in (*COLUMN_LIMITS, *WHOLE_LIMITS) if getattr(expectation, name) is not None)


def _check_limits(place: str, expectation: Expectation, columns: Mapping[str, str], problems: Problems) -> None:
    limits = said(expectation)
    if not limits:
        problems.add(place, "expects nothing", hint=f"say one of: {', '.join((*COLUMN_LIMITS, *WHOLE_LIMITS))}")
    for name in (limit for limit in limits if limit in COLUMN_LIMITS):
        if expectation.column is None:
            problems.add(f"{place}.{name}", "is about a column", hint="name it, as in `column: price`")
        elif columns[expectation.column] not in COLUMN_LIMITS[name]:
            found, allowed = columns[expectation.column], ", ".join(COLUMN_LIMITS[name])
            problems.add(f"{place}.{name}", f"`{expectation.column}` is {found}; allowed here: {allowed}")
    limit = expectation.distribution
    if limit is not None and limit.measure == "ks" and columns.get(expectation.column or "") in {"str", "bool"}:
        problems.add(f"{place}.distribution.measure", "`ks` is for numbers and times", hint="use `psi`")


def _check_severity(place: str, expectation: Expectation, problems: Problems) -> None:
    whole = [name for name in said(expectation) if name in OF_WHOLE]
    if expectation.references is not None and expectation.min_match_fraction < 1:
        whole.append("min_match_fraction")
    if expectation.severity == "quarantine" and whole:
        hint = "use `block` or `warn`, or an expectation about rows"
        problems.add(f"{place}.severity", f"`{whole[0]}` is about the whole: no row can be set aside for it", hint=hint)
