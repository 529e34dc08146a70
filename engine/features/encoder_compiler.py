"""Compile one encoded feature: what may be encoded in which way, and with which parameters.

Called by `feature_compiler`. Leaves an `Encoded`, or the problems that there were.
"""

from __future__ import annotations

from engine.features.expansion import Single
from engine.features.scope import Scope
from engine.features.source_compiler import KEY_TYPES
from engine.features.steps import Encoded
from engine.spec.features import EncodedFeature

TAKES = {
    "vocab": KEY_TYPES,
    "frequency": KEY_TYPES,
    "standardise": ("bool", "i64", "f64"),
    "bins": ("i64", "f64", "timestamp"),
}
"""Which types each encoder reads."""
GIVES = {"vocab": "i64", "frequency": "f64", "standardise": "f64", "bins": "i64"}
_DEFAULT_BINS = 10
_ADVICE = {
    "vocab": "bin it with `with: bins`, or standardise it with `with: standardise`",
    "frequency": "bin it first with an `expr` such as FLOOR(x), cast to bigint",
    "standardise": "number its values with `with: vocab`",
    "bins": "number its values with `with: vocab`",
}


def compile_encoded(scope: Scope, single: Single, spec: EncodedFeature) -> Encoded | None:
    """One step, or None with the reason recorded."""
    path, before = f"{single.path}.encode", len(scope.problems.found)
    if spec.encode not in scope.types:
        reason = scope.explain_column(spec.encode)
        if reason is not None:
            scope.problems.add(path, reason, value=spec.encode)
        else:
            scope.problems.unknown(path, "request field or feature", spec.encode, tuple(scope.types))
        return None
    if scope.types[spec.encode] not in TAKES[spec.encoder]:
        scope.problems.add(
            path,
            f"`{spec.encode}` is {scope.types[spec.encode]}; `{spec.encoder}` takes {', '.join(TAKES[spec.encoder])}",
            value=spec.encode,
            hint=_ADVICE[spec.encoder],
        )
    _check_parameters(scope, single, spec)
    if len(scope.problems.found) > before:
        return None
    return Encoded(
        name=single.name,
        type=GIVES[spec.encoder],
        column=spec.encode,
        encoder=spec.encoder,
        min_count=1 if spec.min_count is None else spec.min_count,
        bins=(spec.bins or _DEFAULT_BINS) if spec.encoder == "bins" else None,
        unknown=_unknown(spec),
    )


def _check_parameters(scope: Scope, single: Single, spec: EncodedFeature) -> None:
    if spec.min_count is not None and spec.encoder not in {"vocab", "frequency"}:
        scope.problems.add(f"{single.path}.min_count", f"`{spec.encoder}` counts no values: remove `min_count`")
    if spec.bins is not None and spec.encoder != "bins":
        scope.problems.add(f"{single.path}.bins", f"`{spec.encoder}` makes no bins", hint="say `with: bins`")
    if GIVES[spec.encoder] == "i64" and isinstance(spec.unknown, float):
        scope.problems.add(f"{single.path}.unknown", f"`{spec.encoder}` gives whole numbers", value=str(spec.unknown))


def _unknown(spec: EncodedFeature) -> int | float | None:
    if GIVES[spec.encoder] == "i64":
        return -1 if spec.unknown is None else spec.unknown
    if spec.unknown is None:
        return None if spec.encoder == "standardise" else -1.0
    return float(spec.unknown)
