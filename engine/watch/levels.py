"""How a chunk's chance of any alarm is shared out among its monitors and their slices. Called by `observe`.

`watch.level` is that chance over all monitors of a chunk in which nothing changed, so each tests at a part of it (Bonferroni,
weighted: Spjøtvoll 1972). Drift and quality read one comparison and have one part; parity, staleness and service test nothing.
A monitor that names its own `level` has that. With slices, half of a monitor's part is for the chunk as a whole, the other half
is divided among the slices.
"""

from __future__ import annotations

from collections.abc import Mapping

from engine.spec.monitoring import MonitorSpec

WEIGHTS: Mapping[str, float] = {
    "drift": 0.40, "prediction": 0.12, "multivariate": 0.12, "calibration": 0.10, "performance": 0.12, "estimated": 0.06, "concept": 0.08,
}  # fmt: skip
_BESIDE = {"quality": "drift"}
UNTESTED = frozenset({"parity", "staleness", "service"})
_OTHER = 0.10  # a kind of one's own


def level_for(name: str, monitors: Mapping[str, MonitorSpec], level: float) -> float:
    """Give the level of one monitor by its name; several of one kind share out the kind's part."""
    spec = monitors[name]
    if spec.level is not None:
        return spec.level
    weights: dict[str, float] = {}
    for other in monitors.values():
        if other.kind not in UNTESTED and other.level is None:
            kind = _BESIDE.get(other.kind, other.kind)
            weights[kind] = WEIGHTS.get(kind, _OTHER)
    kind = _BESIDE.get(spec.kind, spec.kind)
    alike = max(sum(1 for other in monitors.values() if other.kind == spec.kind and other.level is None), 1)
    return level * weights.get(kind, 1.0) / max(sum(weights.values()), 1e-9) / alike


def level_of_slice(level: float, slices: int) -> float:
    """Give the level of each of so many slices; with 0, that of the whole when there are slices too."""
    return level / 2 / max(slices, 1)
