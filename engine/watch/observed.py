"""What a monitor sees: one chunk of scored rows, the reference, and what came before. What it gives: findings.

Enters: rows with `event_time`, features, `prediction`, and where known `label` and `label_known_at`. Called by `observe`;
implemented by the components of the role `monitor`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import polars as pl

from engine.watch.compare import Comparison, Rules, compare
from engine.watch.profile import Profile
from engine.watch.reference import Reference
from engine.watch_records import Finding, ReadingStatus

PREDICTION, LABEL, TIME, KNOWN_AT, ROW_ID = "prediction", "label", "event_time", "label_known_at", "row_id"
PLAIN = (PREDICTION, LABEL, TIME, KNOWN_AT, ROW_ID)
"""Columns that are no features."""


@dataclass(frozen=True)
class Past:
    """The reference as rows: `chunks` in order of time for features, `held_out` ones that the model was not trained on."""

    chunks: Sequence[pl.DataFrame]
    held_out: Sequence[pl.DataFrame]


@dataclass(frozen=True)
class Observed:
    """One chunk. `rows` know of labels only what was known at `now`; `recent` are profiles of chunks before it."""

    name: str
    start: datetime
    end: datetime
    rows: pl.DataFrame
    profile: Profile
    reference: Reference
    past: Past
    rules: Rules
    task: str
    columns: tuple[str, ...]
    now: datetime
    recent: Sequence[Profile] = ()
    run_length: float = 200.0
    mode: str = "engine"
    facts: Mapping[str, Any] = field(default_factory=dict)
    shared: dict[str, Any] = field(default_factory=dict)

    @property
    def comparison(self) -> Comparison:
        """The comparison of all columns, made once a chunk and shared by the monitors that have the same rules."""
        known: dict[Rules, Comparison] = self.shared.setdefault("comparisons", {})
        if self.rules not in known:
            known[self.rules] = compare(self.reference, self.profile, self.rules)
        return known[self.rules]

    @property
    def prediction(self) -> Comparison | None:
        """The comparison of the score with held-out rows; `None` without scores on either side."""
        scores: tuple[Reference, Profile] | None = self.shared.get("scores")
        return None if scores is None else compare(*scores, self.rules)


@dataclass(frozen=True)
class Said:
    """What a monitor says of a chunk; it becomes a `Reading`."""

    status: ReadingStatus
    words: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    expected: float | None = None
    coverage: float | None = None
    findings: tuple[Finding, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


class Monitor(Protocol):
    """One kind of reading."""

    def read(self, observed: Observed) -> Said:
        """Read a chunk; missing data is `insufficient_data`, and nothing about data raises."""
        ...


def insufficient(words: str, coverage: float | None = None) -> Said:
    """Say that there is too little to say anything."""
    return Said("insufficient_data", words, coverage=coverage)
