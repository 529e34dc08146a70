"""What `engine ci` prints and writes: cases, gates and comparisons of one small training. As in `records`: it only grows."""

from __future__ import annotations

from typing import Literal, TypeAlias

from engine.records import SCHEMA_VERSION, FeatureCaseResult, GateResult, Record, Verdict

Standing: TypeAlias = Literal["better", "same", "worse", "unknown"]


class Compared(Record, frozen=True, kw_only=True):
    """One metric here and in the baseline. `difference` is ours less theirs, with its interval; `paired` on the same rows.

    `worse` and `better` mean that the whole interval is on that side, beyond the margin.
    """

    metric: str
    ours: float | None
    theirs: float | None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    higher_is_better: bool = True
    paired: bool = False
    primary: bool = False
    standing: Standing = "unknown"
    note: str = ""


class BaselineMetric(Record, frozen=True, kw_only=True):
    """One metric of a baseline with its interval."""

    value: float | None
    low: float | None = None
    high: float | None = None
    level: float | None = None
    higher_is_better: bool = True


class CiBaseline(Record, frozen=True, kw_only=True):
    """`engine ci --write-baseline`: what later changes are compared with when no champion can be reached."""

    schema_version: int = SCHEMA_VERSION
    pipeline: str
    run_id: str
    sample: str | None
    model: str | None = None
    metrics: dict[str, BaselineMetric]


class CiReport(Record, frozen=True, kw_only=True):
    """What `engine ci --json` prints. `against` names what was compared with; `changed` are nodes that had to run, and why."""

    schema_version: int = SCHEMA_VERSION
    pipeline: str
    run_id: str
    sample: str | None
    status: str
    verdict: Verdict
    exit_code: int
    seconds: float
    reasons: tuple[str, ...] = ()
    against: str = ""
    cases: tuple[FeatureCaseResult, ...] = ()
    gates: tuple[GateResult, ...] = ()
    compared: tuple[Compared, ...] = ()
    changed: dict[str, str] = {}
    error: str | None = None
