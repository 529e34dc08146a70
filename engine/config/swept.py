"""Swept overrides as plain values: what Hydra's grammar reads, for those who may not import Hydra."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from engine.errors import UsageError


@dataclass(frozen=True, slots=True)
class SweptOverride:
    """One override: `fixed` with its text, a `choice` of words, a `range` without its stop, or an `interval`.

    `whole` says that its numbers are whole ones, `log` that its scale is logarithmic.
    """

    key: str
    text: str
    kind: Literal["fixed", "choice", "range", "interval"]
    words: tuple[str, ...] = ()
    start: float = 0.0
    stop: float = 0.0
    step: float = 1.0
    whole: bool = False
    log: bool = False


def read_swept(texts: Sequence[str]) -> list[SweptOverride]:
    """Read overrides; raises `UsageError` for one that cannot be read."""
    from engine.config.hydra_internals import HydraException, OverridesParser  # noqa: PLC0415 - Hydra takes its time

    parser = OverridesParser.create()
    found = []
    for text in texts:
        try:
            (override,) = parser.parse_overrides([text])
        except HydraException as error:
            raise UsageError(f"{text}: this override cannot be read", hint=str(error).splitlines()[0]) from error
        key = str(override.get_key_element()).lstrip("+")
        if key.startswith(("hydra.", "hydra/")):
            continue
        found.append(_read(key, text, override))
    return found


def _read(key: str, text: str, override: object) -> SweptOverride:
    from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep  # noqa: PLC0415

    if not isinstance(override, Override):
        raise TypeError(type(override).__name__)
    if not override.is_sweep_override():
        return SweptOverride(key, text, "fixed")
    value = override.value()
    log = "log" in (getattr(value, "tags", None) or ())
    if isinstance(value, IntervalSweep):
        start, stop = value.start, value.end
        if start is None or stop is None:
            raise UsageError(f"{text}: an interval has two ends")
        whole = isinstance(start, int) and isinstance(stop, int)
        return SweptOverride(key, text, "interval", (), float(start), float(stop), 1.0, whole, log)
    if isinstance(value, RangeSweep) and value.start is not None and value.stop is not None:
        step = value.step or 1
        whole = all(isinstance(item, int) for item in (value.start, value.stop, step))
        return SweptOverride(key, text, "range", (), float(value.start), float(value.stop), float(step), whole, log)
    return SweptOverride(key, text, "choice", tuple(str(word) for word in override.sweep_string_iterator()))
