"""`engine doctor`: check this machine and project."""

from __future__ import annotations

from collections.abc import Sequence

from engine.commands.arguments import Parser, print_json, project_of, show
from engine.errors import ExitCode


def run(argv: Sequence[str]) -> int:
    """Print each check with what to do about it; 7 when one fails."""
    parser = Parser("doctor", "Check this machine and project, with what to do about each finding.")
    parser.add_argument("--json", action="store_true", help="print one JSON array")
    arguments = parser.parse_args(argv)
    from engine.doctor import diagnose  # noqa: PLC0415 - start-up time of --help

    checks = diagnose(project_of(arguments))
    if arguments.json:
        print_json(checks)
    else:
        for check in checks:
            show(
                f"{check.status:<5} {check.name}: {check.message}"
                + (f"\n      next: {check.next_step}" if check.next_step else "")
            )
    return ExitCode.UNAVAILABLE if any(check.status == "fail" for check in checks) else ExitCode.OK
