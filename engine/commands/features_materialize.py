"""`engine features materialize`: fill the online state of a pipeline's program from its snapshots, and keep it up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from engine.commands.arguments import Parser, print_json, project_of, say, show, split_overrides
from engine.commands.tables import render_table
from engine.errors import ExitCode

if TYPE_CHECKING:
    from engine.api import Declared

_EPILOG = """Only what changed since the last time is read: objects of the snapshot that differ, and of those the rows.
It can be stopped and killed at any point; the next call goes on. The state of another program stays beside it until
--rebuild or `--drop-others`, so a new champion's state is filled while the present one is served."""


def run(argv: Sequence[str]) -> int:
    """Fill; tell how many events came, by source."""
    parser = Parser("features materialize", "Fill the online state from the snapshots.", epilog=_EPILOG)
    parser.add_argument("--rebuild", action="store_true", help="begin with an empty state; pushed events go too")
    parser.add_argument("--drop-others", action="store_true", help="then remove the states of other programs")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
    arguments, rest = parser.parse_known_args(argv)
    from engine.api import declare  # noqa: PLC0415 - start-up time of --help
    from engine.filling import fill_state  # noqa: PLC0415 - imports polars

    declared = declare(project_of(arguments), split_overrides(rest))
    progress = _unheard if arguments.quiet or arguments.json else _Lines()
    report = fill_state(declared, progress, rebuild=arguments.rebuild, drop_others=arguments.drop_others)
    report = msgspec.structs.replace(report, logs_deleted=_bound_logs(declared, report.model))
    if arguments.json:
        print_json(report)
        return ExitCode.OK
    rows: list[list[str | int | float | None]] = [
        [item.source, item.commit[:12], item.added, item.removed, item.repeated, item.events] for item in report.sources
    ]
    show(render_table(["source", "commit", "added", "removed", "known", "events held"], rows))
    say(f"{report.model}: program {report.program[:12]} in {report.place}, {report.seconds:.1f} s")
    if report.forgotten:
        say(f"{report.forgotten} events were forgotten: nothing within online.retention reaches them")
    if report.logs_deleted:
        say(f"{report.logs_deleted} files of logs went: online.keep_logs and online.logs_mb keep no more")
    if report.durability:
        say(f"beware: {report.durability}")
    return ExitCode.OK


def _bound_logs(declared: Declared, model: str) -> int:
    """Let go of what the declaration keeps no longer of the model's predictions and pushed events; gives how many files went."""
    from engine.clock import SystemClock  # noqa: PLC0415 - start-up time of --help
    from engine.data.old_logs import OldLogs  # noqa: PLC0415
    from engine.durations import microseconds  # noqa: PLC0415
    from engine.serve.segments import is_abandoned  # noqa: PLC0415

    asked, now = declared.settings.online, SystemClock().now().timestamp()
    logs = OldLogs(declared.project.home, is_abandoned, model)
    gone = 0
    if asked.keep_logs is not None:
        gone += logs.delete(logs.find(now, microseconds(asked.keep_logs) / 1e6))
    if asked.logs_mb is not None:
        gone += logs.delete(logs.beyond(now, asked.logs_mb * 1_000_000))
    return gone


def _unheard(message: str, rows: int | None, done: float | None) -> None:
    """Nobody listens."""


class _Lines:
    """A line on stderr for every tenth of a source."""

    def __init__(self) -> None:
        self._last: Any = None

    def __call__(self, message: str, rows: int | None, done: float | None) -> None:
        step = message.split(":", maxsplit=1)[0], int((done or 0) * 10)
        if step != self._last:
            self._last = step
            say(f"{message}: {rows or 0} events, {done or 0:.0%}")
