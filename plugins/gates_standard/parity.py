"""Judging a replay: no bit may differ between what training used and what serving computes."""

from __future__ import annotations

from engine.contracts import Evidence

from .behaviour import answer_of, not_measured
from .judging import Findings
from .probing import ParityParams

_REQUIRED = "0 differing bits between training and serving"
_SHOWN = 5


def judge_parity(params: ParityParams, evidence: Evidence, gate: str) -> Findings:  # noqa: ARG001 - as every judgement
    """Fail for one differing value, and when nothing was compared; a replay that left no answer is inconclusive."""
    found = answer_of(evidence, "parity", gate)
    if found is None:
        return not_measured("parity", _REQUIRED)
    differing = found["mismatches"] + found["missing"] + found["extra"]
    numbers = {key: found[key] for key in ("compared", "mismatches", "missing", "extra", "rows", "events")}
    if not found["compared"]:
        return Findings("fail", "nothing was compared", _REQUIRED, "no row, so nothing is shown", numbers)
    observed = f"{differing} of {found['compared']} values differ ({found['rows']} rows from {found['events']} events)"
    if not differing:
        return Findings("pass", observed, _REQUIRED, "serving computes what training used", numbers)
    bad = [name for name, item in found["features"].items() if item["mismatches"] + item["missing"] + item["extra"]]
    more = f" and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
    first = next(iter(found["examples"]), None)
    example = (
        f"; row {first['row']}: {first['feature']} was {first['trained']}, serving gives {first['served']}"
        if first
        else ""
    )
    return Findings("fail", observed, _REQUIRED, f"features: {', '.join(bad[:_SHOWN])}{more}{example}", numbers)
