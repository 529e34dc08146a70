"""`engine tick`: look at every pipeline's triggers once, decide, launch what is due. What cron, systemd and Kubernetes call."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from engine.commands.arguments import Parser, print_json, project_of, say, show
from engine.errors import UsageError

if TYPE_CHECKING:
    from engine.loop.tick import Launch
    from engine.loop_records import TickedPipeline, TickReport
    from engine.project import Project

EPILOG = """\
A tick is short and safe to run twice at once: each occasion makes one run, whoever sees it first. Runs go on in processes of
their own; --wait does them here, one after the other. Every decision is kept with why and why not: engine triggers explain.
Exit codes: 0 every pipeline ticked, else the worst: 2 a declaration is wrong, 6 locked, 7 something is not there."""


def run(argv: Sequence[str]) -> int:
    """Tick once; with `--work`, do one request that a tick asked for; with `--install`, say how to be called."""
    arguments = _parser().parse_args(argv)
    project = project_of(arguments)
    if arguments.install:
        from engine.loop.installing import install  # noqa: PLC0415 - start-up time

        show(install(project.root, arguments.install, arguments.every, write=arguments.yes))
        return 0
    if arguments.work:
        return _work(project, arguments)
    from engine.clock import SystemClock  # noqa: PLC0415 - start-up time of --help
    from engine.loop.launching import launch_child, launch_here  # noqa: PLC0415
    from engine.loop.tick import Around, exit_code_of, tick  # noqa: PLC0415

    at = _moment(arguments.at) if arguments.at else None
    if at is not None and not (arguments.dry_run or arguments.wait):
        raise UsageError(
            "--at replays a moment: it goes with --dry-run or --wait", hint="engine tick --at T --dry-run --explain"
        )
    launch: Launch = launch_here(project) if arguments.wait else launch_child(project)
    around = Around(
        now=at or SystemClock().now(),
        launch=launch,
        dry_run=arguments.dry_run,
        simulated=at is not None,
        only=tuple(arguments.pipelines),
    )
    report = tick(project, around)
    for _ in range(
        _ROUNDS if arguments.wait and not arguments.dry_run else 0
    ):  # what was observed may make something due
        if not report.launched and not report.adopted:
            break
        report = _joined(report, tick(project, around))
    if arguments.json:
        print_json(report)
    else:
        _tell(report, explain=arguments.explain)
    return exit_code_of(report)


_ROUNDS = 4


def _parser() -> Parser:
    parser = Parser("tick", "Look at every pipeline's triggers once, decide, and launch what is due.", epilog=EPILOG)
    add = parser.add_argument
    add(
        "pipelines", nargs="*", metavar="PIPELINE", help="only these (default: all of conf/pipeline that have triggers)"
    )
    add("--dry-run", action="store_true", help="say what would happen; write and launch nothing")
    add("--explain", action="store_true", help="tell every trigger's and every check's reasons")
    add("--at", metavar="TIME", help="as if it were that moment (RFC 3339): nothing later is seen")
    add("--wait", action="store_true", help="do the runs in this process and wait for them")
    add("--json", action="store_true", help="print one JSON object")
    add(
        "--install",
        choices=["cron", "systemd", "kubernetes", "github"],
        help="print how to have it called; --yes installs it",
    )
    add("--every", type=int, default=5, metavar="MINUTES", help="with --install: how often (default: 5)")
    add("--yes", action="store_true", help="with --install cron or systemd: install it")
    add("--work", metavar="REQUEST", help=argparse.SUPPRESS)
    return parser


def _moment(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--at {text}: not a moment", hint="write it as 2013-11-01T00:00:00Z") from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _work(project: Project, arguments: argparse.Namespace) -> int:
    from engine.loop.launching import do_here  # noqa: PLC0415 - start-up time
    from engine.loop.locating import state_of  # noqa: PLC0415

    done = do_here(project, state_of(project, arguments.work), arguments.work)
    if done is None:
        say("somebody else has this request, or it is over")
    return 0


def _joined(first: TickReport, second: TickReport) -> TickReport:
    """Tell two rounds of one tick as one: of each pipeline what was done last, unless that is nothing."""
    import msgspec  # noqa: PLC0415 - start-up time

    before = {item.pipeline: item for item in first.pipelines}
    shown = tuple(before.get(item.pipeline, item) if item.action == "nothing" else item for item in second.pipelines)
    return msgspec.structs.replace(
        second,
        pipelines=shown,
        launched=first.launched + second.launched,
        adopted=first.adopted + second.adopted,
        seconds=first.seconds + second.seconds,
    )


def _tell(report: TickReport, *, explain: bool) -> None:
    if not report.pipelines:
        show("no pipeline in conf/pipeline has triggers")
    for item in report.pipelines:
        if explain or item.action != "nothing":
            show("\n".join(_lines(item, explain=explain)))
    if not explain and all(item.action == "nothing" for item in report.pipelines) and report.pipelines:
        show(f"nothing due in {len(report.pipelines)} pipelines")
    for key in report.adopted:
        show(f"adopted request {key[:12]}: whoever had it is gone")


def _lines(item: TickedPipeline, *, explain: bool) -> list[str]:
    lines = [f"{item.pipeline}: {item.action}: {item.why}"]
    if item.error:
        lines += [f"  {line}" for line in item.error.splitlines()[1:]]
    if explain:
        lines += [f"  {'fires' if one.fired else 'quiet'}  {one.trigger}: {one.why}" for one in item.opinions]
        lines += [f"  {'pass ' if check.passed else 'STOP '}  {check.name}: {check.why}" for check in item.checks]
    return lines
