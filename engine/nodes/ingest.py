"""Ingest: write, audit, publish. Rows go to a fresh branch, are validated, and reach `main` by a merge, or never.

Enters: a source's declaration and pin. Leaves: `source.json` (what the snapshot holds, by content) and `validation.json`;
the notes carry the commit. Rows that break a blocking expectation stay on a quarantined branch, which the error names.
What was audited before, byte for byte and under the same declaration, is not read again.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import msgspec
import polars as pl

from engine.clock import SystemClock
from engine.contracts import Work
from engine.errors import DataError
from engine.keys import Json
from engine.nodes.audited import AuditRecord, read_audit
from engine.nodes.branches import sweep_abandoned
from engine.nodes.declared import REFERENCE, Declared, read_declared
from engine.nodes.expectations import LastGood, Surroundings
from engine.nodes.frames import collect, read_source, scan_objects, write_document
from engine.nodes.partitions import in_order
from engine.nodes.publish import (
    Change,
    Draft,
    Publication,
    Written,
    changes_of,
    describe_partitions,
    publish,
    quarantine,
    write_partitions,
)
from engine.nodes.reading import Incoming, read_all, read_changes
from engine.nodes.validation import Audit, ValidationReport, audit, judge_again, release_findings, tell_losses
from engine.spec import SourceSpec
from engine.stores.snapshots import open_snapshots

_SHOWN = 8


def ingest(work: Work) -> Mapping[str, Json]:
    """Bring one source into the snapshot store; raises `DataError` naming the quarantined branch when the audit fails."""
    declared = read_declared(work)
    target = _target(work, declared)
    repository, objects = declared.spec.repository, list(target.present.values())
    known = read_audit(target.store, repository, target.head, declared.name, objects)
    if known is not None and known.identity and known.identity == declared.identity:
        return _again(target, known)
    usable = known if known is not None and known.declaration == declared.declaration else None
    reading = read_changes(declared.reader, usable) if declared.spec.incremental else read_all(declared.reader)
    work.progress("validating", reading.frame.height, None)
    found = audit(reading.frame, declared.spec, declared.name, _surroundings(target, known, reading.kept))
    report = tell_losses(found.report, reading.losses, declared.spec.columns)
    return _Ingestion(target, declared, reading, known).settle(replace(found, report=report))


def checkout(work: Work) -> Mapping[str, Json]:
    """Use a source as it was at a pinned commit; raises `DataError` when that commit does not hold it."""
    declared = read_declared(work)
    name, spec, pin = declared.name, declared.spec, declared.reader.pin.identity
    commit, store = str(pin["commit"]) if isinstance(pin, Mapping) else "", open_snapshots(work.place.snapshots)
    objects = store.list(spec.repository, commit, f"{name}/")
    if not objects:
        raise DataError(f"source `{name}`: commit {commit[:12]} of {spec.repository} does not hold it")
    target = Publication(work, spec, name, store, commit, {})
    known = read_audit(store, spec.repository, commit, name, objects)
    if known is not None and known.declaration == declared.declaration:
        report = release_findings(known.report, known.released) if known.released else known.report
        return _finish(target, msgspec.structs.replace(known, report=report), commit)
    frame = collect(scan_objects(store, (spec.repository, commit), [item.path for item in objects]), f"source `{name}`")
    report = audit(frame, spec, name, Surroundings(_references(target))).report
    partitions = describe_partitions(in_order(frame, spec), spec)
    draft = Draft(name, "", "", _schema(frame), partitions, {}, report, key_of(spec))
    return _finish(target, draft.record(objects), commit)


@dataclass(frozen=True, slots=True)
class _Ingestion:
    """Rows that were read, on their way into the store; `known` is the audit of what the branch holds."""

    target: Publication
    declared: Declared
    reading: Incoming
    known: AuditRecord | None

    def settle(self, found: Audit) -> Mapping[str, Json]:
        """Publish what passed and quarantine what failed; raises `DataError` when nothing is published."""
        scratch = self.target.work.out.with_name(f"{self.target.work.out.name}.parts")
        try:
            return self._settle(found, scratch)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _settle(self, found: Audit, scratch: Path) -> Mapping[str, Json]:
        scratch.mkdir()
        whole = write_partitions(self.target, in_order(self.reading.frame, self.declared.spec), scratch / "whole")
        change, report = changes_of(self.target, whole, self.reading.kept), found.report
        if self.known is not None and self.known.released and not change:
            report, found = release_findings(report, self.known.released), Audit(found.report, None)
        aside = found.aside
        passed = self.reading.frame.filter(~aside) if aside is not None else self.reading.frame
        if report.blocking or not (passed.height or self.reading.kept):
            branch = self._quarantine(self.target, change, whole, report) if change else None
            raise _refusal(self.target, report, branch)
        if aside is None:
            return self._publish(change, self._draft(whole, report))
        written = write_partitions(self.target, in_order(passed, self.declared.spec), scratch / "passed")
        notes = self._publish(changes_of(self.target, written, self.reading.kept), self._draft(written, report))
        target = _at(self.target, str(notes["commit"]))
        branch = self._quarantine(target, changes_of(target, whole, self.reading.kept), whole, report)
        target.work.progress(f"set {report.set_aside:,} rows aside on branch {branch}", None, None)
        return {**notes, "quarantine": branch, "set_aside": report.set_aside}

    def _publish(self, change: Change, draft: Draft) -> Mapping[str, Json]:
        if not change:
            record = draft.record(change.same)
            return _finish(self.target, record, self.target.head)
        record, merged = publish(self.target, change, draft)
        return _finish(self.target, record, merged.id)

    def _quarantine(self, target: Publication, change: Change, whole: Written, report: ValidationReport) -> str:
        severity = "block" if target is self.target else "quarantine"
        return quarantine(target, change, self._draft(whole, report), severity)

    def _draft(self, written: Written, report: ValidationReport) -> Draft:
        """Say what the snapshot will hold: partitions written, and those that stay as they are."""
        before = self.known.partitions if self.known is not None else {}
        kept = {label: before[label] for label in self.reading.kept}
        return Draft(
            name=self.declared.name,
            identity=self.declared.identity,
            declaration=self.declared.declaration,
            schema=_schema(in_order(self.reading.frame.clear(), self.declared.spec)),
            partitions=dict(sorted((kept | dict(written.partitions)).items())),
            parts=self.reading.parts,
            report=report,
            key=key_of(self.declared.spec),
            released=self.known.released if self.known is not None and report.released else "",
        )


def _target(work: Work, declared: Declared) -> Publication:
    """Open the store, and clean up after ingestions that died."""
    store, spec = open_snapshots(work.place.snapshots), declared.spec
    store.ensure_repository(spec.repository)
    sweep_abandoned(store, spec.repository)
    head = store.resolve(spec.repository, spec.branch)
    return _at(Publication(work, spec, declared.name, store, head, {}), head)


def _at(target: Publication, commit: str) -> Publication:
    objects = target.store.list(target.spec.repository, commit, target.prefix)
    return replace(target, head=commit, present={item.path: item for item in objects})


def _again(target: Publication, known: AuditRecord) -> Mapping[str, Json]:
    """Use an audit of the very same bytes; only how old they are is asked anew."""
    last = known.described["last"]
    newest = datetime.fromisoformat(last) if last else None
    report = judge_again(known.report, target.spec, newest, SystemClock().now())
    if known.released:
        report = release_findings(report, known.released)
    if report.blocking:
        raise _refusal(target, report, None)
    return _finish(target, msgspec.structs.replace(known, report=report), target.head)


def _surroundings(target: Publication, known: AuditRecord | None, kept: Sequence[str]) -> Surroundings:
    """Gather what an audit compares with; nothing is read before an expectation asks for it."""
    spec, store = target.spec, target.store

    def scan(paths: Sequence[str]) -> pl.LazyFrame:
        return scan_objects(store, (spec.repository, target.head), paths)

    before = list(target.present)
    lasts = [known.partitions[label].last for label in kept] if known is not None else []
    return Surroundings(
        references=_references(target),
        last_good=LastGood(known.described["rows"] if known else None, lambda: scan(before)) if before else None,
        now=SystemClock().now(),
        kept=(lambda: scan([target.path_of(label) for label in kept])) if kept else None,
        kept_rows=sum(known.partitions[label].rows for label in kept) if known is not None else 0,
        kept_last=max((datetime.fromisoformat(last) for last in lasts if last), default=None),
    )


def _references(target: Publication) -> dict[str, pl.DataFrame]:
    """Read the columns that expectations refer to."""
    wanted: dict[str, set[str]] = {}
    for item in target.spec.expect:
        if item.references is not None:
            source, column = item.references.split(".")
            wanted.setdefault(source, set()).add(column)
    inputs = {role.removeprefix(REFERENCE): artefact for role, artefact in target.work.inputs.items()}
    return {name: read_source(target.work, inputs[name], sorted(columns)) for name, columns in wanted.items()}


def key_of(spec: SourceSpec) -> tuple[str, ...]:
    """Name the columns that name one row: those of a version, or the key of a static source."""
    if spec.id is None:
        return spec.key if spec.static else ()
    return tuple(name for name in (spec.id, spec.available.column, spec.time) if name)


def _schema(frame: pl.DataFrame) -> dict[str, str]:
    return {column: str(dtype) for column, dtype in frame.schema.items()}


def _finish(target: Publication, record: AuditRecord, commit: str) -> dict[str, Json]:
    write_document(target.work.out / "source.json", record.described)
    write_document(target.work.out / "validation.json", msgspec.to_builtins(record.report))
    rows = record.described["rows"]
    return {"commit": commit, "repository": target.spec.repository, "rows": rows, "source": target.name}


def _refusal(target: Publication, report: ValidationReport, branch: str | None) -> DataError:
    """Say what failed and where the data is kept."""
    spec, failed = target.spec, report.blocking or report.quarantining
    listed = "\n".join(f"    {finding}" for finding in failed[:_SHOWN])
    more = f"\n    and {len(failed) - _SHOWN} more" if len(failed) > _SHOWN else ""
    what = f"failed {len(failed)} blocking expectation(s)" if report.blocking else "has no row that passes"
    where = (
        f"quarantined on branch {branch}"
        if branch
        else f"{spec.repository}@{spec.branch} holds the same rows since before"
    )
    hint = "fix the data or the expectation, then run again"
    return DataError(
        f"source `{target.name}` {what}, and this run does not use it:\n{listed}{more}\n  {where}",
        hint=f"{hint}; `engine data quarantine show {branch}` tells more" if branch else hint,
    )
