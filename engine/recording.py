"""From what the nodes left to what is written down: the run record, its evidence, and the content of the report.

Reads documents (JSON) that nodes wrote, never frames. A node that failed leaves its part empty; a failed run has a record
and a report like any other.
"""

from __future__ import annotations

import json
import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from engine.analysis_records import AnalysisDocument
from engine.contracts import ArtefactStore
from engine.errors import EngineError, ExitCode
from engine.plan.model import ExecutionPlan
from engine.records import GateResult, Metric, NodeResult, RunRecord, SnapshotPin, Verdict
from engine.report.content import DataUsed, Finding, ReportContent, SourceData, read_split

_VERDICT_CODES: dict[Verdict, ExitCode] = {
    "promote": ExitCode.OK,
    "reject": ExitCode.REJECTED,
    "inconclusive": ExitCode.INCONCLUSIVE,
}


@dataclass(frozen=True, slots=True)
class Documents:
    """The JSON documents of a run's nodes, read when asked for; `None` for a node that left nothing."""

    store: ArtefactStore
    results: Mapping[str, NodeResult]

    def read(self, node: str, name: str) -> Any:
        """Read one document of a node's output."""
        result = self.results.get(node)
        if result is None or result.output is None:
            return None
        try:
            return json.loads(self.store.read(result.output.digest, name))
        except (EngineError, ValueError):
            return None

    def analyses(self) -> dict[str, AnalysisDocument]:
        """Read what the run's analyses found, by name."""
        found = {}
        for name in self.results:
            if name.startswith("analysis."):
                document = self.read(name, "analysis.json")
                if document is not None:
                    found[name.removeprefix("analysis.")] = msgspec.convert(document, AnalysisDocument)
        return found

    def notes(self, node: str) -> Mapping[str, Any]:
        """Give a node's notes."""
        result = self.results.get(node)
        return result.output.notes if result is not None and result.output is not None else {}


@dataclass(frozen=True, slots=True)
class Shown:
    """What the report shows beyond the run itself: whom it was compared with, the run before it, and how much of long lists."""

    champion: str | None
    previous: RunRecord | None
    top_features: int
    max_slices: int


def complete_record(
    started: RunRecord, plan: ExecutionPlan, results: Sequence[NodeResult], documents: Documents
) -> RunRecord:
    """Give the record with everything that is known once the nodes have ended; times are the caller's."""
    failed = [result for result in results if result.state == "failed"]
    cancelled = any(result.state == "cancelled" for result in results)
    promotion = documents.notes("promote")
    gates = documents.read("gate", "gates.json") or {}
    verdict: Verdict | None = gates.get("verdict")
    evaluation = documents.read("evaluate", "evaluation.json")
    status = "interrupted" if cancelled else "failed" if failed else "succeeded"
    return msgspec.structs.replace(
        started,
        status=status,
        verdict=verdict,
        exit_code=int(_exit_code(status, failed, verdict)),
        error=failed[0].error if failed else None,
        nodes=tuple(results),
        snapshots=_snapshots(plan, documents),
        metrics=_metrics(evaluation, "challenger"),
        baseline_metrics=_metrics(evaluation, "baseline"),
        gates=tuple(msgspec.convert(item, GateResult) for item in gates.get("results", ())),
        model=promotion.get("model"),
        model_digest=promotion.get("model_digest"),
        promoted=bool(promotion.get("promoted")),
        peak_bytes=max((result.peak_bytes for result in results if result.peak_bytes), default=_own_peak()),
    )


def report_content(record: RunRecord, plan: ExecutionPlan, documents: Documents, shown: Shown) -> ReportContent:
    """Gather what the HTML report shows."""
    evaluation = documents.read("evaluate", "evaluation.json")
    labels = documents.read("features", "labels.json") or {}
    return ReportContent(
        run=record,
        plan=plan,
        evaluation=evaluation,
        analyses=documents.analyses(),
        importance=documents.read("train", "importance.json") or {},
        data=DataUsed(
            sources=tuple(_source(pin, documents) for pin in record.snapshots),
            split=read_split(documents.read("split", "summary.json") or {}),
            usable_labels=labels.get("usable"),
            dropped_labels={name: count for name, count in labels.items() if name not in {"usable", "rows"}},
        ),
        champion_name=shown.champion,
        baseline_name=_component(plan, "baseline"),
        reproduce=reproduce_commands(record),
        previous=shown.previous,
        top_features=shown.top_features,
        max_slices=shown.max_slices,
    )


def reproduce_commands(record: RunRecord) -> tuple[str, ...]:
    """Say what to type to get this run again."""
    checkout = (f"git checkout {record.git.commit}",) if record.git.commit else ()
    overrides = " ".join(_quote(item) for item in record.overrides)
    pins = " ".join(f"sources.{pin.source}.ref={pin.commit}" for pin in record.snapshots)
    verb = "analyse" if record.command[:2] == ("engine", "analyse") else "run"
    return (*checkout, f"engine {verb} {overrides}", *((f"engine {verb} {overrides} {pins}",) if pins else ()))


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'" if any(mark in text for mark in " ${}[]()'\"*?|&;<>") else text


def _exit_code(status: str, failed: Sequence[NodeResult], verdict: Verdict | None) -> int:
    if status == "interrupted":
        return ExitCode.INTERRUPTED
    if failed:
        return failed[0].exit_code or ExitCode.INTERNAL
    return _VERDICT_CODES[verdict] if verdict is not None else ExitCode.OK


def _snapshots(plan: ExecutionPlan, documents: Documents) -> tuple[SnapshotPin, ...]:
    found = []
    for node in plan.nodes:
        result = documents.results.get(node.name)
        if node.kind in {"ingest", "checkout"} and result is not None and result.output is not None:
            notes = result.output.notes
            found.append(
                SnapshotPin(
                    source=str(node.settings["source"]),
                    repository=notes["repository"],
                    commit=notes["commit"],
                    digest=result.output.digest,
                    rows=notes.get("rows"),
                    quarantine=notes.get("quarantine"),
                    set_aside=notes.get("set_aside", 0),
                )
            )
    return tuple(found)


def _metrics(evaluation: Mapping[str, Any] | None, model: str) -> tuple[Metric, ...]:
    """Give a model's metrics, the primary one first."""
    measured = ((evaluation or {}).get("models", {}).get(model) or {}).get("metrics", {})
    primary = (evaluation or {}).get("primary")
    return tuple(
        msgspec.convert(measured[name], Metric) for name in sorted(measured, key=lambda name: (name != primary, name))
    )


def _source(pin: SnapshotPin, documents: Documents) -> SourceData:
    described = documents.read(f"ingest.{pin.source}", "source.json") or {}
    validation = documents.read(f"ingest.{pin.source}", "validation.json") or {}
    return SourceData(
        name=pin.source,
        repository=pin.repository,
        commit=pin.commit,
        rows=pin.rows,
        first=described.get("first"),
        last=described.get("last"),
        findings=tuple(_finding(item) for item in validation.get("findings", ())),
    )


def _finding(item: Mapping[str, Any]) -> Finding:
    known = {field.name for field in msgspec.structs.fields(Finding)}
    return msgspec.convert({key: value for key, value in item.items() if key in known}, Finding)


def _component(plan: ExecutionPlan, name: str) -> str | None:
    return next((str(node.settings.get("component")) for node in plan.nodes if node.name == name), None)


def _own_peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
