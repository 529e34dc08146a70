"""Audit: what is expected of a source, counted over its rows, with the first rows that break each expectation.

Enters: rows as they would be published, the declaration, and the sources that it refers to. Leaves: a report whose blocking
findings keep the rows from `main`. Every count is an aggregate of one `select`, so an audit is one pass over the columns; a
validation library (pandera checks a frame's schema only, unless asked to collect it) would read them once a check, and its
report would have to be translated. As in SQL, an expression that is null has not failed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import polars as pl

from engine.features.expression import check, columns_of, parse
from engine.features.lowering import evaluate, lower
from engine.features.sources import Ingested
from engine.spec import Expectation, SourceSpec

_SAMPLES = 10
_TYPES: Mapping[type[pl.DataType], str] = {pl.Boolean: "bool", pl.Int64: "i64", pl.Float64: "f64", pl.String: "str"}


class ValidationFinding(msgspec.Struct, frozen=True, kw_only=True):
    """One expectation and what came of it: `pass` or `fail`, and `severity` says what a failure means.

    `failed` of `checked` rows; `samples` are some of them, by column.
    """

    rule: str
    status: str
    severity: str
    failed: int
    checked: int
    observed: str
    column: str | None = None
    doc: str = ""
    samples: tuple[Mapping[str, Any], ...] = ()

    def __str__(self) -> str:
        """Say it in one line."""
        example = ""
        if self.samples:
            example = ", e.g. " + ", ".join(f"{name}={value}" for name, value in self.samples[0].items())
        return f"{self.rule}: {self.observed}{example}{f' ({self.doc})' if self.doc else ''}"


class ValidationReport(msgspec.Struct, frozen=True, kw_only=True):
    """All findings of one source, the declared expectations and the built-in ones."""

    source: str
    rows: int
    findings: tuple[ValidationFinding, ...]

    @property
    def blocking(self) -> tuple[ValidationFinding, ...]:
        """The findings that keep the rows from being published."""
        return tuple(item for item in self.findings if item.status == "fail" and item.severity == "block")


@dataclass(frozen=True, slots=True)
class _Rule:
    """One check: a mask of the rows that break it, how many may, and the columns that it looks at beside `column`."""

    rule: str
    broken: pl.Expr
    severity: str = "block"
    allowed: float = 0.0
    column: str | None = None
    doc: str = ""
    about: tuple[str, ...] = ()


def validate(
    frame: pl.DataFrame, spec: SourceSpec, name: str, references: Mapping[str, pl.DataFrame]
) -> ValidationReport:
    """Check every expectation. `references` holds the sources that `references:` names; pure."""
    rules = [*_built_in(spec), *(rule for item in spec.expect for rule in _declared(item, frame, references))]
    marks = frame.select(rule.broken.fill_null(value=False).alias(f"{index}") for index, rule in enumerate(rules))
    counts = marks.sum().row(0) if frame.height else (0,) * len(rules)
    findings = [
        _judge(rule, int(count or 0), frame, marks[f"{index}"], spec)
        for index, (rule, count) in enumerate(zip(rules, counts, strict=True))
    ]
    sizes = [_judge_size(item, frame.height) for item in spec.expect if item.min_rows is not None]
    return ValidationReport(source=name, rows=frame.height, findings=(*findings, *sizes))


def tell_losses(report: ValidationReport, ingested: Ingested, columns: Mapping[str, str]) -> ValidationReport:
    """Add what became null on the way in: text that is not of its declared type blocks, NaN and infinities are told."""
    told = [
        (f"{name} is {columns.get(name, 'as derived')}", "block", count)
        for name, count in ingested.not_castable.items()
    ]
    told += [(f"{name} is finite", "warn", count) for name, count in ingested.not_finite.items()]
    told += [(f"{name} can be quantised", "warn", count) for name, count in ingested.not_quantisable.items()]
    lost = tuple(
        ValidationFinding(
            rule=rule,
            status="fail",
            severity=severity,
            failed=count,
            checked=ingested.rows_read,
            observed=f"{count:,} of {ingested.rows_read:,} values became null",
        )
        for rule, severity, count in told
    )
    return msgspec.structs.replace(report, findings=(*lost, *report.findings))


def _built_in(spec: SourceSpec) -> list[_Rule]:
    """What always holds: rows have keys and times, and an id names one row of each version."""
    rules = [_Rule(f"{key} is the key", pl.col(key).is_null(), "warn", column=key) for key in spec.key]
    if spec.time is not None:
        rules.append(_Rule(f"{spec.time} is the time", pl.col(spec.time).is_null(), "warn", column=spec.time))
    if spec.id is not None:
        version = [name for name in (spec.id, spec.available.column, spec.time) if name]
        twice = pl.struct(version).is_duplicated() & pl.col(spec.id).is_not_null()
        rules.append(_Rule(f"{spec.id} names one row of each version", twice, column=spec.id))
    return rules


def _declared(item: Expectation, frame: pl.DataFrame, references: Mapping[str, pl.DataFrame]) -> list[_Rule]:
    """Turn one expectation into its rules: one for each limit that it sets."""
    rules: list[_Rule] = []
    if item.expr is not None:
        about = tuple(sorted(columns_of(parse(item.expr))))
        broken = ~_expression(item.expr, frame)
        rules.append(_Rule(item.expr, broken, item.severity, column=item.column, doc=item.doc, about=about))
    if item.column is not None:
        found = _column_rules(item, item.column, references)
        rules += [_Rule(rule, broken, item.severity, allowed, item.column, item.doc) for rule, broken, allowed in found]
    return rules


def _column_rules(
    item: Expectation, name: str, references: Mapping[str, pl.DataFrame]
) -> list[tuple[str, pl.Expr, float]]:
    column = pl.col(name)
    rules: list[tuple[str, pl.Expr, float]] = []
    if item.not_null:
        rules.append((f"{name} is not null", column.is_null(), 0.0))
    if item.max_null_fraction is not None:
        rules.append(
            (f"{name} is null in at most {item.max_null_fraction:.2%}", column.is_null(), item.max_null_fraction)
        )
    if item.unique:
        rules.append((f"{name} is unique", column.is_duplicated() & column.is_not_null(), 0.0))
    if item.minimum is not None:
        rules.append((f"{name} >= {item.minimum:g}", column < item.minimum, 0.0))
    if item.maximum is not None:
        rules.append((f"{name} <= {item.maximum:g}", column > item.maximum, 0.0))
    if item.values is not None:
        rules.append((f"{name} is one of {', '.join(item.values)}", ~column.cast(pl.String).is_in(item.values), 0.0))
    if item.pattern is not None:
        rules.append((f"{name} matches {item.pattern}", ~column.cast(pl.String).str.contains(item.pattern), 0.0))
    if item.references is not None:
        source, target = item.references.split(".")
        held = references[source][target].unique()
        missing = ~column.is_in(held.implode()) & column.is_not_null()
        rules.append((f"{name} is found in {item.references}", missing, 1.0 - item.min_match_fraction))
    return rules


def _expression(text: str, frame: pl.DataFrame) -> pl.Expr:
    """Evaluate a SQL condition by the same rules as a feature; gives its values as a literal column."""
    types = {name: _TYPES.get(type(dtype), "timestamp") for name, dtype in frame.schema.items()}
    tree = parse(text)
    check(tree, types)
    return pl.lit(evaluate(lower({"holds": tree}, types), frame)["holds"])


def _judge(rule: _Rule, failed: int, frame: pl.DataFrame, mask: pl.Series, spec: SourceSpec) -> ValidationFinding:
    share = failed / frame.height if frame.height else 0.0
    broken = share > rule.allowed
    return ValidationFinding(
        rule=rule.rule,
        status="fail" if broken else "pass",
        severity=rule.severity,
        failed=failed,
        checked=frame.height,
        observed=f"{failed:,} of {frame.height:,} rows ({share:.3%})",
        column=rule.column,
        doc=rule.doc,
        samples=_sample(rule, frame, mask, spec) if broken else (),
    )


def _judge_size(item: Expectation, rows: int) -> ValidationFinding:
    wanted = item.min_rows or 0
    broken = rows < wanted
    return ValidationFinding(
        rule=f"at least {wanted:,} rows",
        status="fail" if broken else "pass",
        severity=item.severity,
        failed=int(broken),
        checked=1,
        observed=f"{rows:,} rows",
        doc=item.doc,
    )


def _sample(rule: _Rule, frame: pl.DataFrame, mask: pl.Series, spec: SourceSpec) -> tuple[Mapping[str, Any], ...]:
    """Give the first rows that break a rule: what names them, and the columns that the rule is about."""
    naming = [name for name in (spec.id, *spec.key, spec.time) if name]
    columns = [name for name in dict.fromkeys((*naming, rule.column, *rule.about)) if name in frame.columns]
    rows = frame.filter(mask).head(_SAMPLES).select(pl.col(columns).cast(pl.String))
    return tuple(rows.to_dicts())
