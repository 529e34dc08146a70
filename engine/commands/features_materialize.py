"""`engine features materialize`: fill the online state of a pipeline's program from its snapshots, and keep it up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.commands.arguments import Parser, print_json, project_of, say, show, split_overrides
from engine.commands.tables import render_table
from engine.errors import ExitCode

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
    if report.durability:
        say(f"beware: {report.durability}")
    return ExitCode.OK


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
