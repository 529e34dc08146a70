"""`engine analyse`: run a pipeline's analyses: weak slices, importance, ablation, learning and decay curves, nested validation."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.commands.arguments import Parser, print_json, project_of, say, show, split_overrides
from engine.commands.tables import render_table
from engine.errors import UsageError

if TYPE_CHECKING:
    from engine.analysis_records import AnalysisAnswer, AnalysisDocument
    from engine.api import Planned
    from engine.records import NodeResult, RunRecord

EPILOG = """\
Analyses stand under `analysis:` (docs/analysis.md); `analysis=default` takes the usual ones. What they need trained is cached
like any node, and shared between them. Nothing is evaluated for gates, registered or promoted."""


def run(argv: Sequence[str]) -> int:
    """Run all declared analyses, or those of `--only`, as a run with a report."""
    arguments, rest = _parser().parse_known_args(argv)
    from engine.api import declare, plan  # noqa: PLC0415 - start-up time of --help
    from engine.clock import SystemClock  # noqa: PLC0415
    from engine.execute.progress import choose_progress  # noqa: PLC0415
    from engine.plan.analyses import add_analyses  # noqa: PLC0415
    from engine.provenance import GitProbe  # noqa: PLC0415
    from engine.running import Around, RunOptions, execute_run  # noqa: PLC0415
    from engine.runs import parse_sample  # noqa: PLC0415

    project = project_of(arguments)
    declared = declare(project, split_overrides(rest))
    names = _chosen(tuple(declared.spec.analysis), arguments.only)
    if not arguments.only and not arguments.all:
        from engine.commands.analyse_short import shorten  # noqa: PLC0415 - start-up time of --help
        from engine.locations import Stores  # noqa: PLC0415

        declared, words = shorten(declared, names, Stores(project, declared.settings))
        for line in () if arguments.quiet else words:
            say(line)
    declared = replace(declared, logical=add_analyses(declared.logical, names))
    planned = plan(declared, parse_sample(arguments.sample))
    options = RunOptions(nodes=_needed(planned, names), sample=arguments.sample, command=("engine", "analyse", *argv))
    display = choose_progress(
        quiet=arguments.quiet, ndjson=sys.stdout if arguments.ndjson else None, log_format=arguments.log_format
    )
    try:
        around = Around(display, SystemClock(), GitProbe(project.root).start())
        record, _ = execute_run(planned, options, around)
    finally:
        display.close()
    answer = _answer(planned, record, names)
    if arguments.json:
        print_json(answer)
    elif not arguments.ndjson:
        _tell(answer)
    return record.exit_code


def _parser() -> Parser:
    parser = Parser(
        "analyse", "Look at a pipeline's model: where it is weak, what it relies on, how it ages.", epilog=EPILOG
    )
    add = parser.add_argument
    add("--only", metavar="NAME", action="append", default=[], help="only this analysis; may be given several times")
    add("--all", action="store_true", help="leave out every feature in an ablation, not only those that matter most")
    add("--sample", metavar="P%", help="look at a model trained on that share of the spine")
    add("--json", action="store_true", help="print one JSON object on stdout")
    add("--ndjson", action="store_true", help="print every event as a line of JSON on stdout")
    add("--log-format", choices=["text", "json"], default="text", help="how progress is told on stderr")
    add("--quiet", "-q", action="store_true", help="no progress, only the findings")
    return parser


def _chosen(declared: tuple[str, ...], only: Sequence[str]) -> list[str]:
    if not declared:
        hint = "declare some, as in `analysis: {decay: {kind: decay, step: 30d}}`, or say analysis=default"
        raise UsageError("the pipeline declares no analysis", hint=hint)
    unknown = [name for name in only if name not in declared]
    if unknown:
        raise UsageError(f"--only {unknown[0]}: no such analysis", hint=f"declared: {', '.join(declared)}")
    return [name for name in declared if not only or name in only]


def _needed(planned: Planned, names: Sequence[str]) -> frozenset[str]:
    """Give the analyses' nodes and all that they need."""
    from engine.dag import ancestors  # noqa: PLC0415 - start-up time of --help

    return frozenset(ancestors(planned.plan.edges, [f"analysis.{name}" for name in names]))


def _answer(planned: Planned, record: RunRecord, names: Sequence[str]) -> AnalysisAnswer:
    from engine.analysis_records import AnalysisAnswer  # noqa: PLC0415 - start-up time of --help
    from engine.recording import Documents  # noqa: PLC0415

    results = {node.name: node for node in record.nodes}
    documents = Documents(planned.stores.artefacts, results).analyses()
    errors = {name: _why(record, results[f"analysis.{name}"]) for name in names if name not in documents}
    states = [node.state for node in record.nodes]
    return AnalysisAnswer(
        run_id=record.run_id,
        pipeline=record.pipeline,
        status=record.status,
        seconds=record.seconds,
        ran=states.count("ran"),
        cached=states.count("cached"),
        report=record.report,
        analyses={name: documents[name] for name in names if name in documents},
        errors=errors,
        exit_code=record.exit_code,
    )


def _why(record: RunRecord, result: NodeResult) -> str:
    """Say why an analysis was not done: its own error, or that of what it needed."""
    if result.error:
        return result.error
    return f"{result.reason or result.state}: {record.error}" if record.error else result.reason or result.state


def _tell(answer: AnalysisAnswer) -> None:
    for name, document in answer.analyses.items():
        show(f"{name}: {document.summary}")
        _tell_charts(document)
        for note in document.notes:
            show(f"  {note}")
        show("")
    for name, words in answer.errors.items():
        show(f"{name}: not done: {words}")
    show(
        f"run {answer.run_id}: {answer.ran} ran, {answer.cached} cached, {answer.seconds:.1f} s; report: {answer.report}"
    )


def _tell_charts(document: AnalysisDocument) -> None:
    for chart in document.charts:
        for series in chart.series:
            rows = [
                [point.name or f"{point.x:g}", point.value, point.low, point.high, point.note]
                for point in series.points
            ]
            show(render_table([f"{chart.title}: {series.name}", "value", "low", "high", ""], rows))
