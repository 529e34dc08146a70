"""What `engine score` prints: the 28 tests of "The ML Test Score", each with what was found and what to add.

Breck, Cai, Nielsen, Salib, Sculley: The ML Test Score: A Rubric for ML Production Readiness (2017). As in `records`.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from engine.records import SCHEMA_VERSION, Record

ScoreSection: TypeAlias = Literal["data", "model", "infrastructure", "monitoring"]


class ScoredTest(Record, frozen=True, kw_only=True):
    """One test: 1 when it runs by itself again and again, 0.5 when it is there but not automatic or not yet run, else 0.

    `found` is the evidence, `add` what to write in YAML, or do, for more; empty when there is nothing to add.
    """

    section: ScoreSection
    number: int
    title: str
    score: float
    found: str
    add: str = ""


class ScoreReport(Record, frozen=True, kw_only=True):
    """`score` is the least of the four sections' sums, as the paper says; `band` is its meaning there."""

    schema_version: int = SCHEMA_VERSION
    pipeline: str
    score: float
    band: str
    sections: dict[str, float]
    tests: tuple[ScoredTest, ...]
    run_id: str | None = None
