"""`engine predict`: score a file with a registered model, each row at its event time, by the code that answers requests."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from engine.commands.arguments import Parser, print_json, project_of, say
from engine.commands.served import Wanted, wanted_model
from engine.errors import UsageError

EPILOG = """\
  engine predict pipeline=flights --input flights.csv --output scores.parquet
  cat rows.ndjson | engine predict model=flights@champion --input - --format ndjson --output - --output-format csv

Columns: the request's fields; `event_time` (now when absent); `prediction_id` (made when absent). Others are kept."""


def run(argv: Sequence[str]) -> int:
    """Score one file."""
    parser = Parser("predict", "Score a CSV, Parquet or NDJSON file with a registered model.", epilog=EPILOG)
    add = parser.add_argument
    add("--input", required=True, metavar="FILE", help="the rows; - reads standard input")
    add("--output", required=True, metavar="FILE", help="where the scores go; - writes standard output")
    add("--format", choices=["csv", "parquet", "ndjson"], help="of the input (default: by its ending)")
    add("--output-format", choices=["csv", "parquet", "ndjson"], help="of the output (default: by its ending)")
    add("--state", metavar="URL", help="the state database (default: the project's)")
    add("--artefacts", metavar="DIR", help="the artefact store (default: the project's)")
    add("--online", metavar="URL", help="the online state (default: the project's)")
    add("--quiet", "-q", action="store_true", help="no progress")
    add("--json", action="store_true", help="print one JSON object about it on stdout")
    arguments, rest = parser.parse_known_args(argv)
    if arguments.json and arguments.output == "-":
        raise UsageError("--json and --output - both write to standard output: choose one")
    return _predict(arguments, wanted_model(project_of(arguments), rest))


def _predict(arguments: argparse.Namespace, wanted: Wanted) -> int:
    from engine.clock import SystemClock, stopwatch, to_microseconds  # noqa: PLC0415 - start-up time of --help
    from engine.records import PredictAnswer  # noqa: PLC0415
    from engine.serve.files import format_of, read_rows, score_frame, write_rows  # noqa: PLC0415
    from engine.serve.opening import open_scorer  # noqa: PLC0415
    from engine.stores.database import open_database  # noqa: PLC0415
    from engine.stores.registry import Registry  # noqa: PLC0415

    watch, project = stopwatch(), wanted.project
    reads, writes = format_of(arguments.input, arguments.format), format_of(arguments.output, arguments.output_format)
    registry = Registry(open_database(project.locate(arguments.state or wanted.stores.state, "state.db")))
    artefacts = Path(project.locate(arguments.artefacts or wanted.stores.artefacts, "artefacts"))
    online = project.locate(arguments.online or wanted.online, "online")
    for words in wanted.warnings:
        say(f"note: {words}")
    scorer = open_scorer(wanted.find(registry), project.root, artefacts, online, wanted.plugins)
    frame = read_rows(arguments.input, reads)
    now = to_microseconds(SystemClock().now())
    scored, outcome = score_frame(frame, scorer, now, _silent if arguments.quiet else _progress())
    write_rows(scored, arguments.output, writes)
    seconds = stopwatch() - watch
    if arguments.json:
        print_json(PredictAnswer(model=scorer.served.label, rows=outcome.rows, without_score=outcome.without_score,
                                 program=scorer.served.program.digest, output=arguments.output, seconds=seconds))  # fmt: skip
    elif not arguments.quiet:
        lost = f", {outcome.without_score:,} without a score" if outcome.without_score else ""
        say(f"{outcome.rows:,} rows scored by {scorer.served.label} in {seconds:.1f} s{lost}: {arguments.output}")
    return 0


def _silent(done: int, total: int) -> None:
    """Nobody watches."""


def _progress() -> Callable[[int, int], None]:
    """A line that is written over on a terminal; elsewhere a line every tenth."""
    said = -1

    def tell(done: int, total: int) -> None:
        nonlocal said
        tenth = 10 * done // max(total, 1)
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{done:,} of {total:,} rows" + ("\n" if done == total else ""))
            sys.stderr.flush()
        elif tenth != said:
            said = tenth
            say(f"{done:,} of {total:,} rows")

    return tell
