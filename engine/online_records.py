"""What the commands of the online state print, by published schemas. Called by `engine features materialize` and `parity`."""

from __future__ import annotations

from engine.records import SCHEMA_VERSION, Record


class MaterializedSource(Record, frozen=True, kw_only=True):
    """One source: `commit` it now holds, `previous` before; `events` are held in all. The others count rows of this time.

    `repeated` were there already; `unknowable` have no time or are never available; `expired` nothing could reach.
    """

    source: str
    commit: str
    previous: str | None
    objects: int
    added: int
    repeated: int
    removed: int
    unknowable: int
    expired: int
    events: int
    seconds: float


class MaterializeReport(Record, frozen=True, kw_only=True):
    """What `engine features materialize --json` prints; `durability` says what an acknowledged event is not safe from."""

    schema_version: int = SCHEMA_VERSION
    pipeline: str
    model: str
    program: str
    place: str
    rebuilt: bool
    sources: tuple[MaterializedSource, ...]
    forgotten: int
    logs_deleted: int = 0
    durability: str | None
    seconds: float


class FeatureParity(Record, frozen=True, kw_only=True):
    """One input of the model: `mismatches` differ in some bit, `missing` were null when served, `extra` are null now.

    `smape` is the symmetric mean absolute percentage error over pairs of numbers, from 0 to 2; `lag_median` and `lag_max`
    are how many seconds the state's latest event was behind the request, over the sources that the feature reads.
    """

    feature: str
    compared: int
    mismatches: int
    missing: int
    extra: int
    smape: float
    lag_median: float | None
    lag_max: float | None


class ParityDifference(Record, frozen=True, kw_only=True):
    """One value that was served and the one that the program gives; doubles in hexadecimal."""

    prediction_id: str
    feature: str
    served: str
    recomputed: str


class ParityReport(Record, frozen=True, kw_only=True):
    """What `engine features parity --json` prints, and what the parity monitor reads: served values against recomputed ones.

    `ok` means that something was compared and no bit differs. `predictions` were logged, `sampled` of them taken; `skipped`
    could not be recomputed, and `reasons` say why.
    """

    schema_version: int = SCHEMA_VERSION
    model: str
    ok: bool
    predictions: int
    sampled: int
    skipped: int
    compared: int
    mismatches: int
    missing: int
    extra: int
    smape: float
    features: tuple[FeatureParity, ...]
    differences: tuple[ParityDifference, ...]
    reasons: dict[str, int]
    seconds: float
