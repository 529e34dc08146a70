"""One check of a change: feature cases, a small training that registers nothing, and the comparison. Called by `engine ci`.

Enters: a declaration, the share of rows to train on, and what to compare with. Leaves: a `CiReport`, whatever happened.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from engine.api import Declared, Planned, plan
from engine.ci.compare import add_up, baseline_of, compare_with_baseline, compare_with_champion
from engine.ci_records import BaselineMetric, CiBaseline, CiReport, Compared
from engine.errors import ExitCode, UsageError
from engine.recording import Documents
from engine.records import FeatureCaseResult, RunRecord, Verdict
from engine.running import Around, RunOptions, execute_run
from engine.runs import parse_sample

_CODES: dict[Verdict, ExitCode] = {
    "promote": ExitCode.OK, "reject": ExitCode.REJECTED, "inconclusive": ExitCode.INCONCLUSIVE,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class CiOptions:
    """What is asked beyond the declaration. `margin` is how much worse the primary metric may surely be."""

    sample: str | None
    baseline: Path | None = None
    margin: float = 0.0
    command: tuple[str, ...] = ()


def check_change(declared: Declared, options: CiOptions, around: Around) -> tuple[CiReport, RunRecord]:
    """Train in small and compare; a run that failed is a report too, with the run's own exit code."""
    baseline = read_baseline(options.baseline) if options.baseline else None
    cases = _run_cases(declared)
    planned = plan(declared, parse_sample(options.sample))
    # Whole runs are marked as samples too: a check of a change registers nothing.
    run_options = RunOptions(sample=options.sample or "100%", command=options.command)
    record, _ = execute_run(planned, run_options, around)
    compared, against = _compare(planned, record, baseline, options.margin)
    return _report(record, options, cases, (compared, against)), record


def _run_cases(declared: Declared) -> tuple[FeatureCaseResult, ...]:
    if not declared.spec.tests:
        return ()
    from engine.features.case_runner import run_cases  # noqa: PLC0415 - imports polars

    return tuple(run_cases(declared.spec.tests, declared.logical.compiled))


def _report(
    record: RunRecord,
    options: CiOptions,
    cases: tuple[FeatureCaseResult, ...],
    compared: tuple[list[Compared], str],
) -> CiReport:
    verdict, reasons = add_up(cases, record.gates, compared[0])
    code = int(_CODES[verdict])
    if record.status != "succeeded":
        verdict, reasons, code = (
            "reject",
            (f"the run {record.status}", *reasons),
            record.exit_code or int(ExitCode.INTERNAL),
        )
    return CiReport(
        pipeline=record.pipeline,
        run_id=record.run_id,
        sample=options.sample,
        status=record.status,
        verdict=verdict,
        exit_code=code,
        seconds=record.seconds,
        reasons=reasons,
        against=compared[1],
        cases=cases,
        gates=record.gates,
        compared=tuple(compared[0]),
        changed={node.name: node.reason or node.state for node in record.nodes if node.state in {"ran", "failed"}},
        error=record.error,
    )


def _compare(
    planned: Planned, record: RunRecord, baseline: CiBaseline | None, margin: float
) -> tuple[list[Compared], str]:
    """Compare with the file that was given, else the champion on the same rows, else what the champion had when it won."""
    if record.status != "succeeded":
        return [], "the run did not end"
    if baseline is not None:
        label = baseline.model or f"run {baseline.run_id}"
        return compare_with_baseline(record.metrics, baseline, margin), f"the baseline of {label}"
    champion = planned.inputs.champion
    if champion is None:
        return [], "no champion is registered, and no --baseline was given"
    spec = planned.declared.spec
    name = f"{spec.registry.model or spec.name}:{champion.version}"
    results = {node.name: node for node in record.nodes}
    evaluation: Any = Documents(planned.stores.artefacts, results).read("evaluate", "evaluation.json") or {}
    if "champion" in evaluation.get("models", {}):
        return compare_with_champion(evaluation, margin), f"the champion {name}, on the same rows"
    why = "; ".join(evaluation.get("refusals", ())) or "it was not scored"
    recorded = _recorded(planned, champion.version)
    return compare_with_baseline(record.metrics, recorded, margin), f"what {name} had when it was registered ({why})"


def _recorded(planned: Planned, version: int) -> CiBaseline:
    spec = planned.declared.spec
    name = spec.registry.model or spec.name
    found = next(item for item in planned.stores.registry.versions(name) if item.version == version)
    metrics = {metric: BaselineMetric(value=value) for metric, value in found.metrics.items()}
    return CiBaseline(pipeline=spec.name, run_id=found.run_id, sample=None, model=f"{name}:{version}", metrics=metrics)


def read_baseline(path: Path) -> CiBaseline:
    """Read what `--write-baseline` wrote; raises `UsageError`."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=CiBaseline)
    except OSError as error:
        hint = "make one with `engine ci … --write-baseline FILE`"
        raise UsageError(f"--baseline {path}: {error.strerror}", hint=hint) from error
    except msgspec.MsgspecError as error:
        raise UsageError(
            f"--baseline {path}: not a baseline: {error}", hint="make it anew with --write-baseline"
        ) from error


def write_baseline(path: Path, record: RunRecord, sample: str | None) -> None:
    """Write the run's metrics for later changes to be compared with."""
    made = baseline_of(record.pipeline, record.run_id, sample, record.metrics)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(made), indent=2) + b"\n")
