"""Audit: what is expected of a source, counted over its rows, with the first rows that break each expectation.

Enters: rows as they would be published, the declaration, and what surrounds it (sources that it refers to, the last good
snapshot, the clock). Leaves: a report whose blocking findings keep the rows from `main`, and which rows to set aside. Every
count is an aggregate of one `select`, so an audit is one pass over the columns. Called by `ingest` and `engine data`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
import polars as pl

from engine.features.sources import Ingested
from engine.nodes.comparisons import Outcome, compare, judge_age
from engine.nodes.expectations import Rule, Surroundings, rules_of
from engine.spec import SourceSpec

_SAMPLES = 10


class ValidationFinding(msgspec.Struct, frozen=True, kw_only=True):
    """One expectation and what came of it: `pass` or `fail`, and `severity` says what a failure means.

    `failed` of `checked` rows; `samples` are some of them, by column. `released` says who let the data pass nevertheless.
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
    released: str = ""

    def __str__(self) -> str:
        """Say it in one line."""
        example = ""
        if self.samples:
            example = ", e.g. " + ", ".join(f"{name}={value}" for name, value in self.samples[0].items())
        return f"{self.rule}: {self.observed}{example}{f' ({self.doc})' if self.doc else ''}"


class ValidationReport(msgspec.Struct, frozen=True, kw_only=True):
    """All findings of one source, the declared expectations and the built-in ones; `set_aside` rows are not published."""

    source: str
    rows: int
    findings: tuple[ValidationFinding, ...]
    set_aside: int = 0

    @property
    def blocking(self) -> tuple[ValidationFinding, ...]:
        """The findings that keep the rows from being published."""
        return self._failed("block")

    @property
    def quarantining(self) -> tuple[ValidationFinding, ...]:
        """The findings that set rows aside."""
        return self._failed("quarantine")

    @property
    def released(self) -> bool:
        """Say whether a person let this data pass."""
        return any(item.released for item in self.findings)

    def _failed(self, severity: str) -> tuple[ValidationFinding, ...]:
        return tuple(item for item in self.findings if item.status == "fail" and item.severity == severity)


@dataclass(frozen=True, slots=True)
class Audit:
    """A report, and a mask of the rows that are set aside (`None`: none is)."""

    report: ValidationReport
    aside: pl.Series | None


def validate(
    frame: pl.DataFrame, spec: SourceSpec, name: str, references: Mapping[str, pl.DataFrame]
) -> ValidationReport:
    """Check every expectation that needs nothing but rows. `references` holds the sources that `references:` names."""
    return audit(frame, spec, name, Surroundings(references)).report


def audit(frame: pl.DataFrame, spec: SourceSpec, name: str, around: Surroundings) -> Audit:
    """Check every expectation; pure but for reading the last good snapshot when an expectation compares with it."""
    rules = rules_of(frame, spec, around)
    marks = frame.select(rule.broken.fill_null(value=False).alias(f"{index}") for index, rule in enumerate(rules))
    counts = marks.sum().row(0) if frame.height and rules else (0,) * len(rules)
    findings = [
        _judge(rule, int(count or 0), frame, marks[f"{index}"], spec)
        for index, (rule, count) in enumerate(zip(rules, counts, strict=True))
    ]
    broken = [
        f"{index}"
        for index, (rule, finding) in enumerate(zip(rules, findings, strict=True))
        if rule.severity == "quarantine" and finding.status == "fail"
    ]
    aside = marks.select(pl.any_horizontal(broken)).to_series() if broken else None
    report = ValidationReport(
        source=name,
        rows=frame.height,
        findings=(*findings, *_compared(frame, spec, around)),
        set_aside=int(aside.sum()) if aside is not None else 0,
    )
    return Audit(report, aside)


def tell_losses(report: ValidationReport, ingested: Ingested, columns: Mapping[str, str]) -> ValidationReport:
    """Add what was lost on the way in: text that is not of its declared type blocks; NaN, infinities and copies are told."""
    told = [
        (f"{name} is {columns.get(name, 'as derived')}", "block", count, name)
        for name, count in ingested.not_castable.items()
    ]
    told += [(f"{name} is finite", "warn", count, name) for name, count in ingested.not_finite.items()]
    told += [(f"{name} can be quantised", "warn", count, name) for name, count in ingested.not_quantisable.items()]
    lost = tuple(
        ValidationFinding(
            rule=rule,
            status="fail",
            severity=severity,
            failed=count,
            checked=ingested.rows_read,
            observed=f"{count:,} of {ingested.rows_read:,} values became null",
            column=name,
            samples=ingested.lost.get(name, ()) if severity == "block" else (),
        )
        for rule, severity, count, name in told
    )
    copies = (_tell_copies(ingested),) if ingested.repeated else ()
    return msgspec.structs.replace(report, findings=(*lost, *copies, *report.findings))


def _tell_copies(ingested: Ingested) -> ValidationFinding:
    return ValidationFinding(
        rule="rows come once",
        status="fail",
        severity="warn",
        failed=ingested.repeated,
        checked=ingested.rows_read,
        observed=f"{ingested.repeated:,} of {ingested.rows_read:,} rows are copies of another one, and were dropped",
    )


def judge_again(report: ValidationReport, spec: SourceSpec, newest: datetime | None, now: datetime) -> ValidationReport:
    """Ask anew how old the newest row is; everything else that was found of the same rows still holds."""
    outcomes: dict[tuple[str, str], Outcome] = {
        (outcome.rule, item.severity): outcome
        for item in spec.expect
        if item.freshness is not None
        for outcome in [judge_age(item.freshness, newest, now)]
    }

    def judged(item: ValidationFinding) -> ValidationFinding:
        outcome = outcomes.get((item.rule, item.severity))
        if outcome is None:
            return item
        status = "fail" if outcome.broken else "pass"
        return msgspec.structs.replace(item, status=status, failed=int(outcome.broken), observed=outcome.observed)

    return msgspec.structs.replace(report, findings=tuple(map(judged, report.findings)))


def release_findings(report: ValidationReport, words: str) -> ValidationReport:
    """Let data pass that a person took responsibility for: what failed is told as a warning, with who said so."""
    findings = tuple(
        msgspec.structs.replace(item, severity="warn", released=words)
        if item.status == "fail" and item.severity in {"block", "quarantine"}
        else item
        for item in report.findings
    )
    return msgspec.structs.replace(report, findings=findings, set_aside=0)


def _compared(frame: pl.DataFrame, spec: SourceSpec, around: Surroundings) -> list[ValidationFinding]:
    return [
        ValidationFinding(
            rule=outcome.rule,
            status="fail" if outcome.broken else "pass",
            severity=item.severity,
            failed=int(outcome.broken),
            checked=1,
            observed=outcome.observed,
            column=item.column,
            doc=item.doc,
        )
        for item in spec.expect
        for outcome in compare(item, frame, spec, around)
    ]


def _judge(rule: Rule, failed: int, frame: pl.DataFrame, mask: pl.Series, spec: SourceSpec) -> ValidationFinding:
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


def _sample(rule: Rule, frame: pl.DataFrame, mask: pl.Series, spec: SourceSpec) -> tuple[Mapping[str, Any], ...]:
    """Give the first rows that break a rule: what names them, and the columns that the rule is about."""
    naming = [name for name in (spec.id, *spec.key, spec.time) if name]
    columns = [name for name in dict.fromkeys((*naming, *rule.about)) if name in frame.columns]
    rows = frame.filter(mask).head(_SAMPLES).select(pl.col(columns).cast(pl.String))
    return tuple(rows.to_dicts())
