"""`engine run`: run a pipeline. Flags of the run are peeled off here; the rest is Hydra's, with all that Hydra can do."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.commands.arguments import Parser, print_json, project_of, say, show
from engine.errors import EngineError, ExitCode, UsageError

if TYPE_CHECKING:
    from engine.config import ComposedConfig
    from engine.project import Project
    from engine.records import RunRecord

EPILOG = """\
Overrides are Hydra's (train.params.num_leaves=63, split=random, +card.review_by=…), and so are -m/--multirun, --cfg job,
--info, --hydra-help and --shell-completion. Verdicts: promote 0, reject 3, inconclusive 4."""


def run(argv: Sequence[str]) -> int:
    """Run one pipeline, or with `-m` one for each combination; gives the worst exit code."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if arguments.force and not arguments.reason:
        raise UsageError("--force needs --reason: it is kept with the run", hint="--force NODE --reason 'why'")
    from engine.config import compose, needs_hydra, run_hydra  # noqa: PLC0415 - start-up time of --help

    project = project_of(arguments)
    if not needs_hydra(rest):
        return _run_one(project, compose(project, rest), arguments, list(argv))
    codes: list[int] = []
    run_hydra(project, rest, lambda config: codes.append(_run_one(project, config, arguments, list(argv))))
    return max(codes, default=int(ExitCode.OK))


def _parser() -> Parser:
    parser = Parser("run", "Run a pipeline: ingest, validate, compute features, train, evaluate, gate, promote, report.", epilog=EPILOG)
    add = parser.add_argument
    add("--json", action="store_true", help="print one JSON object about the run on stdout")
    add("--ndjson", action="store_true", help="print every event as a line of JSON on stdout")
    add("--log-format", choices=["text", "json"], default="text", help="how progress is told on stderr")
    add("--quiet", "-q", action="store_true", help="no progress, only the outcome")
    add("--from", dest="from_", metavar="NODE", help="run this node and all that need it; what comes before is taken from the cache")
    add("--to", metavar="NODE", help="stop after this node")
    add("--only", metavar="NODE", help="run just this node")
    add("--sample", metavar="P%", help="train on that share of the spine, as in 5%%; nothing is registered")
    add("--force", metavar="NODE", action="append", default=[], help="run this node although it is cached")
    add("--reason", metavar="WHY", help="why a node is forced")
    return parser


def _run_one(project: Project, config: ComposedConfig, arguments: argparse.Namespace, argv: list[str]) -> int:
    from engine.api import RunOptions, answer, declare_composed, plan, run as run_plan  # noqa: PLC0415
    from engine.clock import SystemClock  # noqa: PLC0415
    from engine.execute.progress import choose_progress  # noqa: PLC0415
    from engine.provenance import GitProbe  # noqa: PLC0415
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
    progress = choose_progress(
        quiet=arguments.quiet, ndjson=sys.stdout if arguments.ndjson else None, log_format=arguments.log_format
    )
    record, folder = run_plan(planned, options, progress, SystemClock(), git)
    if arguments.json:
        print_json(answer(record, folder))
    elif not arguments.ndjson:
        show(_outcome(record, str(folder.path)))
    return record.exit_code
