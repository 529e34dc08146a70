"""`engine run`: run a pipeline. Flags of the run are peeled off here; the rest is Hydra's, with all that Hydra can do."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from engine.commands.arguments import Parser, print_json, project_of, show
from engine.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from engine.config import ComposedConfig
    from engine.project import Project
    from engine.records import RunRecord

EPILOG = """\
Overrides are Hydra's (train.params.num_leaves=63, split=random, +card.review_by=…), and so are -m/--multirun, --cfg job,
--info, --hydra-help and --shell-completion. Verdicts: promote 0, reject 3, inconclusive 4."""


def run(argv: Sequence[str]) -> int:
    """Run one pipeline, or with `-m` a sweep of trials; gives the worst exit code."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if arguments.force and not arguments.reason:
        raise UsageError("--force needs --reason: it is kept with the run", hint="--force NODE --reason 'why'")
    from engine.config import compose, needs_hydra, run_hydra  # noqa: PLC0415 - start-up time of --help

    project = project_of(arguments)
    if not (project.home / "artefacts").exists():
        _start_ahead()
    if not needs_hydra(rest, project):
        return _run_one(project, compose(project, rest), arguments, list(argv))
    from engine.commands.sweeping import SweepCommand  # noqa: PLC0415

    codes: list[int] = []
    sweep = SweepCommand(project, arguments, list(argv))
    try:
        run_hydra(project, rest, lambda config: codes.append(_run_one(project, config, arguments, list(argv))), sweep)
        codes.append(sweep.conclude())
    finally:
        sweep.close()
    return max(codes, default=int(ExitCode.OK))


def _parser() -> Parser:
    parser = Parser(
        "run",
        "Run a pipeline: ingest, validate, compute features, train, evaluate, gate, promote, report.",
        epilog=EPILOG,
    )
    add = parser.add_argument
    add("--json", action="store_true", help="print one JSON object about the run on stdout")
    add("--ndjson", action="store_true", help="print every event as a line of JSON on stdout")
    add("--log-format", choices=["text", "json"], default="text", help="how progress is told on stderr")
    add("--quiet", "-q", action="store_true", help="no progress, only the outcome")
    add(
        "--from",
        dest="from_",
        metavar="NODE",
        help="run this node and all that need it; what comes before is taken from the cache",
    )
    add("--to", metavar="NODE", help="stop after this node")
    add("--only", metavar="NODE", help="run just this node")
    add("--sample", metavar="P%", help="train on that share of the spine, as in 5%%; nothing is registered")
    add("--force", metavar="NODE", action="append", default=[], help="run this node although it is cached")
    add("--reason", metavar="WHY", help="why a node is forced")
    return parser


def _start_ahead() -> None:
    """Have a child import data libraries while this process composes: in a project without results, it will be needed."""
    from engine.execute.pool import POOL  # noqa: PLC0415
    from engine.execute.seats import share_of_cores  # noqa: PLC0415 - start-up time of --help

    with suppress(OSError):
        POOL.start_ahead(share_of_cores(1))


def _run_one(project: Project, config: ComposedConfig, arguments: argparse.Namespace, argv: list[str]) -> int:
    from engine.api import declare_composed, plan  # noqa: PLC0415 - start-up time of --help
    from engine.clock import SystemClock  # noqa: PLC0415
    from engine.execute.progress import choose_progress  # noqa: PLC0415
    from engine.provenance import GitProbe  # noqa: PLC0415
    from engine.running import Around, RunOptions, answer, execute_run  # noqa: PLC0415
    from engine.runs import parse_sample  # noqa: PLC0415

    git = GitProbe(project.root).start()
    planned = plan(declare_composed(project, config), parse_sample(arguments.sample))
    options = RunOptions(
        from_=arguments.from_,
        to=arguments.to,
        only=arguments.only,
        force=dict.fromkeys(arguments.force, arguments.reason or ""),
        sample=arguments.sample,
        command=("engine", "run", *argv),
    )
    display = choose_progress(
        quiet=arguments.quiet, ndjson=sys.stdout if arguments.ndjson else None, log_format=arguments.log_format
    )
    try:
        record, folder = execute_run(planned, options, Around(display, SystemClock(), git))
    finally:
        display.close()
    if arguments.json:
        print_json(answer(record, folder))
    elif not arguments.ndjson:
        show(_outcome(record, str(folder.path)))
    return record.exit_code


def _outcome(record: RunRecord, folder: str) -> str:
    """Say in a few lines how it went and what to look at."""
    ran, cached = (sum(node.state == state for node in record.nodes) for state in ("ran", "cached"))
    verdict = f", verdict {record.verdict}" if record.verdict else ""
    model = f"; {record.model} {'is champion' if record.promoted else 'is registered'}" if record.model else ""
    lines = [
        f"run {record.run_id}: {record.status}{verdict}{model}; {ran} ran, {cached} cached, {record.seconds:.1f} s"
    ]
    lines += [
        f"  {metric.name:<20} {metric.value:.4f}  [{metric.low:.4f}, {metric.high:.4f}]"
        for metric in record.metrics
        if metric.value is not None and metric.low is not None and metric.high is not None
    ]
    lines += [f"  gate {gate.name}: {gate.status}: {gate.reason}" for gate in record.gates if gate.status != "pass"]
    if record.error:
        lines.append(f"  error: {record.error}")
    lines.append(f"  report: {record.report}" if record.report else f"  folder: {folder}")
    return "\n".join(lines)
