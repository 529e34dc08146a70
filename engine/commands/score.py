"""`engine score`: the 28 tests of "The ML Test Score", from what this pipeline declares and what its runs left."""

from __future__ import annotations

from collections.abc import Sequence

from engine.commands.arguments import Parser, print_json, project_of, say, show, split_overrides, write_page
from engine.commands.tables import render_table
from engine.errors import ExitCode
from engine.score_records import ScoreReport

EPILOG = """\
1 point: it happens by itself, again and again; 0.5: it is there, but by hand or never yet; 0: it is not. The score is the
least of the four sections. Nothing is asked of people: all of it is computed from evidence."""


def run(argv: Sequence[str]) -> int:
    """Print the score; exit code 3 when it is below `--at-least`."""
    parser = Parser("score", "How ready for production a pipeline is, by the ML Test Score's 28 tests.", epilog=EPILOG)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--html", metavar="FILE", help="write a page")
    parser.add_argument("--at-least", type=float, metavar="POINTS", help="exit with 3 below this score")
    arguments, rest = parser.parse_known_args(argv)
    from engine.api import declare  # noqa: PLC0415 - start-up time of --help
    from engine.locations import Stores  # noqa: PLC0415
    from engine.score.facts import gather  # noqa: PLC0415
    from engine.score.rubric import score  # noqa: PLC0415

    project = project_of(arguments)
    declared = declare(project, split_overrides(rest))
    report = score(gather(declared, Stores(project, declared.settings)))
    if arguments.html:
        from engine.score.page import render_score  # noqa: PLC0415 - only when asked for

        write_page(arguments.html, render_score(report))
    if arguments.json:
        print_json(report)
    else:
        _tell(report)
    below = arguments.at_least is not None and report.score < arguments.at_least
    return ExitCode.REJECTED if below else ExitCode.OK


def _tell(report: ScoreReport) -> None:
    rows = [[test.section, test.number, f"{test.score:g}", test.title, test.found] for test in report.tests]
    show(render_table(["section", "#", "points", "test", "found"], rows))
    todo = [test for test in report.tests if test.add]
    if todo:
        show("\nTo add:")
        for test in todo:
            show(f"  {test.section} {test.number}: {test.add}")
    parts = ", ".join(f"{name} {points:g}" for name, points in report.sections.items())
    show(f"\n{report.pipeline}: {report.score:g} ({parts})")
    say(f"{report.score:g}: {report.band}")
