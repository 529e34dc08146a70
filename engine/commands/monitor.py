"""`engine monitor`: read what a model saw and said, chunk by chunk; record readings; raise, list, acknowledge alerts."""

from __future__ import annotations

import argparse
import getpass
from collections.abc import Sequence
from pathlib import Path

from engine.clock import SystemClock, isoformat
from engine.commands.arguments import Parser, print_json, project_of, say, show, split_overrides
from engine.commands.tables import render_table
from engine.errors import ExitCode, UsageError
from engine.locations import Stores
from engine.stores.database import open_database
from engine.watch_records import Alert, AlertState, MonitorReport, Reading

_EPILOG = """\
Examples:
  engine monitor pipeline=flights
  engine monitor pipeline=flights --at 2013-12-01 --since 2013-10-01 --json
  engine monitor pipeline=flights watch.chunk.by=month --report monitor.html
  engine monitor pipeline=flights --rows scored.parquet --reference held_out.parquet
  engine monitor data --reference january.parquet --rows february.parquet --rows march.parquet
  engine monitor alerts ls
  engine monitor alerts ack 3f2a --reason "weather, known"

Exit codes: 0 quiet (or acknowledged), 3 an alert of severity warning is open, 5 a critical one, 4 too little data."""


def run(argv: Sequence[str]) -> int:
    """Monitor, or act on alerts."""
    if argv and argv[0] == "alerts":
        return _alerts(argv[1:])
    if argv and argv[0] == "data":
        from engine.commands.monitor_data import run as read_data  # noqa: PLC0415 - start-up time

        return read_data(argv[1:])
    parser = Parser(
        "monitor", "Read every chunk with every monitor of a pipeline, and say what is wrong.", epilog=_EPILOG
    )
    parser.add_argument(
        "--at", metavar="TIME", help="the moment that is now (default: the clock's, or the end of the rows)"
    )
    parser.add_argument("--since", metavar="TIME", help="read chunks that end after this (default: all)")
    parser.add_argument("--only", metavar="MONITOR", action="append", help="this monitor only; may be repeated")
    parser.add_argument("--rows", metavar="FILE", type=Path, help="scored rows to watch (Parquet, CSV, JSON lines)")
    parser.add_argument("--reference", metavar="FILE", type=Path, help="scored rows to compare them with")
    parser.add_argument("--report", metavar="FILE", type=Path, help="write the HTML report here")
    parser.add_argument("--dry-run", action="store_true", help="record nothing and tell nobody")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments, rest = parser.parse_known_args(argv)
    report = _monitor(arguments, split_overrides(rest))
    if arguments.json:
        print_json(report)
    else:
        _show(report)
    return report.exit_code


def _monitor(arguments: argparse.Namespace, overrides: Sequence[str]) -> MonitorReport:
    from engine.api import declare  # noqa: PLC0415 - start-up time
    from engine.watch.observations import moment  # noqa: PLC0415 - as above
    from engine.watch.running import Asked, monitor  # noqa: PLC0415 - as above

    declared = declare(project_of(arguments), overrides)
    unknown = [name for name in arguments.only or () if name not in declared.spec.monitors]
    if unknown:
        known = ", ".join(declared.spec.monitors) or "none; say `monitors: default` in the pipeline"
        raise UsageError(f"no monitor {unknown[0]} in {declared.spec.name}", hint=f"there are: {known}")
    asked = Asked(
        at=moment(arguments.at, "--at"),
        since=moment(arguments.since, "--since"),
        only=tuple(arguments.only or ()),
        rows=arguments.rows,
        reference=arguments.reference,
        report=arguments.report,
        record=not arguments.dry_run,
    )
    return monitor(declared, Stores(declared.project, declared.settings), asked, SystemClock(), say)


def _show(report: MonitorReport) -> None:
    chunks = list(dict.fromkeys(reading.chunk for reading in report.readings))
    rows = [_row(reading) for reading in report.readings if reading.status != "insufficient_data" or len(chunks) == 1]
    show(
        render_table(["chunk", "monitor", "slice", "status", "rows", "words"], rows) if rows else "nothing to read yet"
    )
    for alert in report.alerts:
        show(f"\n{alert.state} {alert.severity} {alert.id}: {alert.title}")
        for rank, cause in enumerate(alert.causes[:5], 1):
            share = f" (explains {cause.explains:.0%} of the score's movement)" if cause.explains is not None else ""
            show(f"  {rank}. {cause.words or cause.name}{share}")
    if report.report:
        say(f"report: {report.report}")
    if report.undelivered:
        say(f"{report.undelivered} messages could not be delivered yet; the next run tries again")


def _row(reading: Reading) -> list[str | int | float | None]:
    return [reading.chunk, reading.monitor, reading.slice or None, reading.status, reading.rows, reading.words[:110]]


def _alerts(argv: Sequence[str]) -> int:
    parser = Parser("monitor alerts", "List, acknowledge and resolve alerts.")
    parser.add_argument("act", choices=("ls", "show", "ack", "resolve"))
    parser.add_argument("id", nargs="?", help="an alert's id, or the start of it")
    parser.add_argument("--state", metavar="URL", help="the state database (default: the project's)")
    parser.add_argument("--pipeline", help="of this pipeline only")
    parser.add_argument("--all", action="store_true", help="resolved ones too")
    parser.add_argument("--reason", default="", help="why; kept with the alert")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args(argv)
    from engine.watch.readings import Readings  # noqa: PLC0415 - start-up time

    readings = Readings(open_database(project_of(arguments).locate(arguments.state, "state.db")))
    if arguments.act == "ls":
        states: tuple[AlertState, ...] = ("open", "acknowledged", *(("resolved",) if arguments.all else ()))
        return _list(readings.alerts(arguments.pipeline, states), as_json=arguments.json)
    if arguments.id is None:
        raise UsageError(
            f"engine monitor alerts {arguments.act}: name an alert", hint="`engine monitor alerts ls` lists them"
        )
    alert = readings.find_alert(arguments.id)
    if arguments.act != "show":
        state: AlertState = "acknowledged" if arguments.act == "ack" else "resolved"
        at = isoformat(SystemClock().now())
        alert = readings.move(alert, state, getpass.getuser(), arguments.reason, at)
    if arguments.json:
        print_json(alert)
    elif arguments.act == "show":
        show(alert.runbook)
    else:
        show(f"{alert.id} is {alert.state}")
    return ExitCode.OK


def _list(alerts: Sequence[Alert], *, as_json: bool) -> int:
    if as_json:
        print_json(list(alerts))
        return ExitCode.OK
    rows: list[list[str | int | float | None]] = [
        [item.id, item.state, item.severity, item.since, item.chunks, item.owner or None, item.title[:100]]
        for item in alerts
    ]
    show(render_table(["id", "state", "severity", "since", "chunks", "owner", "title"], rows) if rows else "no alerts")
    return ExitCode.OK
