"""`engine plan`: what a run would do and why; no node is run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engine.commands.arguments import Parser, print_json, project_of, say, show, split_overrides
from engine.errors import UsageError

if TYPE_CHECKING:
    from engine.plan.explain import NodeForecast
    from engine.plan.model import ExecutionPlan


def run(argv: Sequence[str]) -> int:
    """Print the plan as a tree with, per node, cached or to run and why; `--json` and `--graph` for others."""
    parser = Parser("plan", "Show what a run would do and why. Nothing is run; sources are only identified.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--graph", metavar="FILE.svg", help="draw the plan")
    parser.add_argument("--sample", metavar="P%", help="plan for a sample of the spine, as in 5%%")
    arguments, rest = parser.parse_known_args(argv)
    from engine.api import declare, plan  # noqa: PLC0415 - start-up time of --help
    from engine.plan.explain import render_forecast  # noqa: PLC0415
    from engine.runs import last_plan, parse_sample  # noqa: PLC0415

    planned = plan(declare(project_of(arguments), split_overrides(rest)), parse_sample(arguments.sample))
    nodes = planned.forecast(*last_plan(planned.stores.runs_root, planned.plan.pipeline))
    if arguments.json:
        print_json({"pipeline": planned.plan.pipeline, "plan_digest": planned.plan.digest, "nodes": nodes})
    else:
        show(render_forecast(planned.plan.pipeline, nodes, colour=sys.stdout.isatty()))
    if arguments.graph:
        _draw(planned.plan, nodes, arguments.graph)
    return 0


def _draw(plan: ExecutionPlan, nodes: Sequence[NodeForecast], target: str) -> None:
    from engine.report.graph import draw_graph  # noqa: PLC0415 - only for --graph

    path = Path(target)
    if path.suffix != ".svg":
        raise UsageError(f"--graph {target}: only .svg is drawn", hint="name a file that ends in .svg")
    try:
        path.write_text(draw_graph(plan, forecast=nodes), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--graph {target}: {error.strerror}") from error
    say(f"drew {path}")
