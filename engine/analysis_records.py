"""What analyses leave, for programs and for the report: numbers with intervals, and how to draw them.

As in `records`: these only grow. A chart is data; any component's is drawn by the report, and none brings code of its own.
"""

from __future__ import annotations

from typing import Any, Literal

from engine.records import Record

ANALYSIS_VERSION = 1


class AnalysisPoint(Record, frozen=True, kw_only=True):
    """One number with its interval, by name or at `x`; `note` says what it means or why it is absent."""

    name: str = ""
    x: float | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    note: str = ""


class AnalysisSeries(Record, frozen=True, kw_only=True):
    """Points of one colour."""

    name: str
    points: tuple[AnalysisPoint, ...] = ()


class AnalysisChart(Record, frozen=True, kw_only=True):
    """One picture, by kind.

    `intervals`: a line a name; `bars`: from zero; `curve`: over `x`, with its interval as a band; `matrix`: a series a row, a
    point a column, each a share and a count. `reference`: a dashed line.
    """

    kind: Literal["intervals", "bars", "curve", "matrix"]
    title: str
    x: str = ""
    y: str = ""
    series: tuple[AnalysisSeries, ...] = ()
    reference: float | None = None


class AnalysisTable(Record, frozen=True, kw_only=True):
    """Words and numbers beside the charts; the first column names the row."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | float | int | None, ...], ...] = ()


class AnalysisDocument(Record, frozen=True, kw_only=True):
    """`analysis.json`. `summary` is the finding in one sentence, `notes` how far it can be trusted, `facts` for programs.

    `part` is what was scored, `n` of how many rows, `metric` in which units.
    """

    schema_version: int = ANALYSIS_VERSION
    name: str = ""
    kind: str = ""
    summary: str
    part: str = ""
    n: int = 0
    metric: str = ""
    level: float | None = None
    notes: tuple[str, ...] = ()
    charts: tuple[AnalysisChart, ...] = ()
    tables: tuple[AnalysisTable, ...] = ()
    facts: dict[str, Any] = {}


class AnalysisAnswer(Record, frozen=True, kw_only=True):
    """`engine analyse --json`: the run that looked, and what each analysis found. `errors` by the name of one that failed."""

    run_id: str
    pipeline: str
    status: str
    seconds: float
    ran: int
    cached: int
    report: str | None = None
    analyses: dict[str, AnalysisDocument] = {}
    errors: dict[str, str] = {}
    exit_code: int = 0
