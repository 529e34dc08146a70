"""What a report is made of: the run's record and plan, the evaluation document, and what is known of the data.

The `report` node fills it from documents that other nodes wrote; `render_report` reads it. All but `run` and `plan`
may be missing, and the page then says so: a failed run has a report too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from engine.analysis_records import AnalysisDocument
from engine.plan.model import ExecutionPlan
from engine.records import RunRecord


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What validation found for one expectation of a source. `samples` are some of the `failed` rows, by column."""

    rule: str
    status: str
    severity: str = "block"
    failed: int | None = None
    checked: int | None = None
    observed: str = ""
    samples: tuple[Mapping[str, Any], ...] = ()


class SourceData(msgspec.Struct, frozen=True, kw_only=True):
    """One source as this run read it; `first` and `last` are RFC 3339 event times."""

    name: str
    repository: str = ""
    commit: str = ""
    rows: int | None = None
    first: str | None = None
    last: str | None = None
    findings: tuple[Finding, ...] = ()


class SplitPart(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of one part of the split. `positives` is absent for a regression, where `label_mean` says what there is."""

    name: str
    rows: int
    positives: int | None = None
    label_mean: float | None = None
    first: str | None = None
    last: str | None = None


class DataUsed(msgspec.Struct, frozen=True, kw_only=True):
    """Sources, split, and what became of labels: `usable` spine rows, and those dropped by reason."""

    sources: tuple[SourceData, ...] = ()
    split: tuple[SplitPart, ...] = ()
    usable_labels: int | None = None
    dropped_labels: Mapping[str, int] = {}


class ReportContent(msgspec.Struct, frozen=True, kw_only=True):
    """All that `render_report` needs. `evaluation` is the evaluation document as JSON, `reproduce` what to type.

    `analyses` are by name; `importance` is the model's own, by column; `previous` is the pipeline's run before this one.
    """

    run: RunRecord
    plan: ExecutionPlan
    evaluation: Mapping[str, Any] | None = None
    analyses: Mapping[str, AnalysisDocument] = {}
    importance: Mapping[str, float] = {}
    data: DataUsed = DataUsed()
    champion_name: str | None = None
    baseline_name: str | None = None
    reproduce: tuple[str, ...] = ()
    previous: RunRecord | None = None
    top_features: int = 20
    max_slices: int = 40


def read_split(summary: Mapping[str, Any]) -> tuple[SplitPart, ...]:
    """Read what the split node left (`summary.json`); parts that say no rows are left out.

    >>> read_split({"test": {"rows": 10, "label_mean": 0.2}})[0].name
    'test'
    """
    parts: list[SplitPart] = []
    for name, part in summary.items():
        if isinstance(part, Mapping) and isinstance(part.get("rows"), int):
            known = {key: part[key] for key in ("rows", "positives", "label_mean", "first", "last") if key in part}
            parts.append(msgspec.convert({"name": name, **known}, SplitPart))
    return tuple(parts)
