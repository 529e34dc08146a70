"""`engine ci`: a small training on a change, compared with the champion's baseline; Markdown, JUnit XML and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from engine.commands.arguments import Parser, print_json, project_of, say, show, split_overrides
from engine.errors import UsageError

EPILOG = """\
Exit codes: 0 passed; 3 a feature case or a blocking gate fails, or the primary metric is surely worse; 4 inconclusive,
which a small training often is: docs/ci.md shows jobs that let it pass with a warning."""


def run(argv: Sequence[str]) -> int:
    """Check one pipeline; gives the code that the CI job ends with."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if arguments.margin < 0:
        raise UsageError("--margin is at least 0")
    from engine.api import declare  # noqa: PLC0415 - start-up time of --help
    from engine.ci.check import CiOptions, check_change, write_baseline  # noqa: PLC0415
    from engine.ci.render import render_junit, render_markdown  # noqa: PLC0415
    from engine.clock import SystemClock  # noqa: PLC0415
    from engine.execute.progress import choose_progress  # noqa: PLC0415
    from engine.provenance import GitProbe  # noqa: PLC0415
    from engine.running import Around  # noqa: PLC0415

    project = project_of(arguments)
    declared = declare(project, split_overrides(rest))
    baseline = Path(arguments.baseline) if arguments.baseline else None
    sample = None if arguments.sample == "100%" else arguments.sample
    options = CiOptions(sample, baseline, arguments.margin, ("engine", "ci", *argv))
    display = choose_progress(quiet=arguments.quiet, ndjson=None, log_format="text")
    try:
        report, record = check_change(declared, options, Around(display, SystemClock(), GitProbe(project.root).start()))
    finally:
        display.close()
    markdown = render_markdown(report)
    for path, content in ((arguments.markdown, markdown), (arguments.junit, render_junit(report))):
        if path:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(content, encoding="utf-8")
    if arguments.write_baseline and record.status == "succeeded":
        write_baseline(Path(arguments.write_baseline), record, arguments.sample)
    if arguments.json:
        print_json(report)
        say(f"{report.pipeline}: {report.verdict}" + "".join(f"\n  {reason}" for reason in report.reasons))
    else:
        show(markdown.rstrip())
        sys.stdout.flush()
    return report.exit_code


def _parser() -> Parser:
    parser = Parser(
        "ci", "Check a change: feature cases, a small training, its gates, and the champion's baseline.", epilog=EPILOG
    )
    add = parser.add_argument
    add("--sample", metavar="P%", default="20%", help="the share of rows to train on (default: 20%%; 100%% for all)")
    add("--baseline", metavar="FILE", help="compare with this file instead of the champion")
    add("--write-baseline", metavar="FILE", help="write the metrics of this training for later comparisons")
    add("--margin", type=float, default=0.0, help="how much worse the primary metric may be (default: 0)")
    add("--markdown", metavar="FILE", help="write the report for a merge request there")
    add("--junit", metavar="FILE", help="write JUnit XML there")
    add("--json", action="store_true", help="print one JSON object on stdout")
    add("--quiet", "-q", action="store_true", help="no progress")
    return parser
