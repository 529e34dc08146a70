"""`engine gc`: find what no run, model, tag or branch needs, in the artefact store and in the snapshots; delete with `--yes`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from engine.clock import SystemClock
from engine.commands.arguments import Parser, print_json, project_of, show, snapshots_of
from engine.commands.tables import render_table
from engine.errors import UsageError
from engine.report.numbers import format_bytes

_SHOWN = 20


def run(argv: Sequence[str]) -> int:
    """Report the garbage of the whole project, and delete it when told to."""
    parser = Parser(
        "gc",
        "Find artefacts and objects of snapshots that nothing needs. Only with --yes is anything deleted. Runs keep the data\n"
        "that they read, models what they were trained on, tags and branches all that they lead to.",
        epilog="It is safe beside running engines: what they used since they began is spared. Run folders are not touched.",
    )
    add_flags(parser)
    parser.add_argument(
        "--keep-runs", type=int, default=20, metavar="N", help="the latest runs whose results stay (default: 20)"
    )
    parser.add_argument(
        "--keep-logs",
        type=float,
        metavar="DAYS",
        help="let predictions and pushed events go that were logged before that (default: keep all)",
    )
    arguments = parser.parse_args(argv)
    return collect(arguments, only_data=False)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add what both `engine gc` and `engine data gc` understand."""
    add = parser.add_argument
    add("--yes", action="store_true", help="delete; without it this is a dry run")
    add("--older-than", type=float, default=24.0, metavar="HOURS", help="spare what is younger (default: 24)")
    add(
        "--keep-history",
        type=float,
        metavar="DAYS",
        help="let data go that only commits older than this hold, unless a run, model or tag pins it (default: keep all)",
    )
    add("--runs-dir", metavar="DIR", default="runs", help="the folder of run folders (default: runs)")
    add("--artefacts", metavar="DIR", help="the artefact store (default: the project's)")
    add("--snapshots", metavar="URL", help="the snapshot store (default: the project's)")
    add("--state", metavar="URL", help="the state database (default: the project's)")
    add("--json", action="store_true", help="print one JSON object")


def collect(arguments: argparse.Namespace, *, only_data: bool) -> int:
    """Look for garbage as the flags say, and report it."""
    from engine.data.garbage import Collector, Retention  # noqa: PLC0415 - start-up time of --help
    from engine.data.old_logs import OldLogs  # noqa: PLC0415
    from engine.serve.segments import is_abandoned  # noqa: PLC0415
    from engine.stores.artefacts import LocalArtefactStore  # noqa: PLC0415
    from engine.stores.database import open_database  # noqa: PLC0415
    from engine.stores.registry import Registry  # noqa: PLC0415
    from engine.stores.snapshots import open_snapshots  # noqa: PLC0415

    keep_runs, history, logs = getattr(arguments, "keep_runs", 0), arguments.keep_history, _logs_kept(arguments)
    if keep_runs < 0 or arguments.older_than < 0 or (history or 0) < 0 or (logs or 0) < 0:
        raise UsageError("--keep-runs, --older-than, --keep-history and --keep-logs are not negative")
    project = project_of(arguments)
    collector = Collector(
        artefacts=LocalArtefactStore(Path(project.locate(arguments.artefacts, "artefacts"))),
        registry=Registry(open_database(project.locate(arguments.state, "state.db"))),
        runs_root=project.root / arguments.runs_dir,
        snapshots=open_snapshots(snapshots_of(arguments)),
        clock=SystemClock(),
        only_data=only_data,
        logs=None if logs is None else OldLogs(project.home, is_abandoned),
    )
    retention = Retention(keep_runs, arguments.older_than * 3600, _seconds(history), _seconds(logs))
    report = collector.collect(retention, delete=arguments.yes)
    if arguments.json:
        print_json(report)
        return 0
    rows = [
        [
            item.repository or item.store,
            item.name[:12] if item.store != "logs" else item.name,
            format_bytes(item.bytes),
            f"{item.idle_seconds / 3600:.1f} h",
        ]
        for item in report.garbage[:_SHOWN]
    ]
    if rows:
        show(render_table(["where", "what", "size", "unused for"], rows))
    if report.found > _SHOWN:
        show(f"and {report.found - _SHOWN} more")
    for reason, count in report.kept.items():
        show(f"kept: {count} {reason}")
    if report.dry_run:
        hint = "; nothing was deleted, --yes does it" if report.found else ""
        show(f"{report.found} things that nothing needs, {format_bytes(report.bytes)}{hint}")
    else:
        show(f"deleted {report.deleted} things, {format_bytes(report.bytes)}")
    return 0


def _logs_kept(arguments: argparse.Namespace) -> float | None:
    found: float | None = getattr(arguments, "keep_logs", None)
    return found


def _seconds(days: float | None) -> float | None:
    return None if days is None else days * 86_400.0
