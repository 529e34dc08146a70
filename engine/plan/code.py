"""What computes a node: the engine's own modules and the libraries that decide its result, as parts of its key.

A change of these files recomputes the nodes that they compute; early cutoff stops there when the bytes stay the same.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from engine.components import Catalogue, library_version
from engine.keys import digest, digest_file
from engine.plan.logical import LogicalNode

_ENGINE = Path(__file__).resolve().parent.parent

_AUDIT = (
    "nodes/ingest.py", "nodes/frames.py", "nodes/validation.py", "nodes/expectations.py", "nodes/comparisons.py",
    "features/*.py", "profiling/*.py",
)  # fmt: skip

_SCORING = ("nodes/frames.py", "nodes/matrix.py", "nodes/target.py", "nodes/calibrators.py")
_PROBE = (*_SCORING, "features/*.py")

# The files behind each kind of node, relative to the package.
MODULES: dict[str, tuple[str, ...]] = {
    "ingest": (
        *_AUDIT,
        "nodes/publish.py",
        "nodes/partitions.py",
        "nodes/reading.py",
        "nodes/declared.py",
        "nodes/audited.py",
    ),
    "checkout": _AUDIT,
    "features": ("nodes/features.py", "nodes/frames.py", "features/*.py"),
    "split": ("nodes/split.py", "nodes/frames.py"),
    "train": (
        "nodes/train.py",
        "nodes/prepared.py",
        "nodes/parted.py",
        "nodes/target.py",
        "nodes/calibrators.py",
        "nodes/frames.py",
        "nodes/matrix.py",
        "nodes/profile.py",
        "features/encoders.py",
        "training_rows.py",
    ),
    "tune": ("nodes/tune.py", *_SCORING, "evaluation/*.py", "features/*.py"),
    "evaluate": ("nodes/evaluate.py", *_SCORING, "evaluation/*.py", "features/*.py"),
    "fit": (
        "nodes/fit.py",
        "nodes/train.py",
        "nodes/prepared.py",
        *_SCORING,
        "nodes/profile.py",
        "features/*.py",
        "evaluation/*.py",
    ),
    "analysis": ("nodes/analysis.py", *_SCORING, "features/*.py", "evaluation/*.py"),
    "gate": ("nodes/gate.py", "nodes/frames.py", "nodes/target.py", "evaluation/*.py"),
    "probe.behaviour": (*_PROBE, "nodes/probe_behaviour.py", "nodes/perturbed.py", "nodes/features.py"),
    "probe.leakage": (*_PROBE, "nodes/probe_leakage.py", "nodes/features.py", "evaluation/*.py"),
    "probe.training": (*_PROBE, "nodes/probe_training.py"),
    "probe.latency": (*_PROBE, "nodes/probe_latency.py"),
    "probe.size": (*_PROBE, "nodes/probe_latency.py"),
    "probe.columns": (*_PROBE, "nodes/probe_columns.py"),
    "probe.parity": (*_PROBE, "nodes/probe_parity.py", "nodes/features.py", "online/*.py"),
    "package": ("nodes/package.py", *_SCORING, "nodes/profile.py", "features/*.py"),
    "promote": (),
}
MEASURING = frozenset({"probe.latency"})
"""Kinds that measure a machine at a moment: no second run gives the same, so the record's notes carry what was measured."""
MEASURED = "probe.json"
"""Under what name: the file that such a node leaves, and the note that has its content."""
LIBRARIES: dict[str, tuple[str, ...]] = {
    "ingest": ("polars",),
    "features": ("polars", "numpy"),
    "split": ("polars",),
    "train": ("polars", "numpy"),
    "tune": ("polars", "numpy"),
    "evaluate": ("polars", "numpy", "scipy"),
    "fit": ("polars", "numpy"),
    "analysis": ("polars", "numpy", "scipy"),
    "gate": ("polars", "numpy", "scipy"),
    "probe.behaviour": ("polars", "numpy"),
    "probe.leakage": ("polars", "numpy", "scipy"),
    "probe.training": ("polars", "numpy"),
    "probe.latency": ("polars", "numpy"),
    "probe.columns": ("polars",),
    "probe.parity": ("polars", "numpy"),
    "package": ("polars", "numpy"),
}


def code_of(node: LogicalNode, catalogue: Catalogue) -> dict[str, str]:
    """Map each part of what computes a node to its digest or version."""
    components = [catalogue.get(role, name) for role, name in node.components]
    libraries = dict.fromkeys(
        (*LIBRARIES.get(node.kind, ()), *(name for item in components for name in item.libraries))
    )
    return {
        "engine": engine_digest(MODULES[node.kind]),
        **{f"{item.role}:{item.name}": item.source_digest for item in components},
        **{f"library:{name}": library_version(name) for name in libraries},
    }


@cache
def engine_digest(patterns: tuple[str, ...]) -> str:
    """Digest the engine's files that match the patterns."""
    return digest({name: found for pattern in patterns for name, found in _digests(pattern).items()})


@cache
def _digests(pattern: str) -> dict[str, str]:
    """Map the engine's files that match a pattern to their digests; several kinds of nodes share most of them."""
    return {path.relative_to(_ENGINE).as_posix(): digest_file(path) for path in _ENGINE.glob(pattern)}
