"""`engine feedback`: give labels by prediction id from a file, or see how the logged answers turned out."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import msgspec

from engine.commands.arguments import Parser, choose_action, print_json, project_of, show
from engine.commands.tables import render_table
from engine.errors import DataError
from engine.records import FeedbackAnswer


def run(argv: Sequence[str]) -> int:
    """Dispatch the actions."""
    parser = Parser("feedback", "Labels that arrive after their predictions, late and revised.")
    actions = parser.actions("add|show")
    add = actions.add_parser(
        "add", help="add labels from a file", description="Add labels: prediction_id, label, perhaps at."
    )
    add.add_argument("model", help="the model's name, as in flights")
    add.add_argument("--input", required=True, metavar="FILE", help="CSV, Parquet or NDJSON; - reads standard input")
    add.add_argument("--format", choices=["csv", "parquet", "ndjson"], help="of the input (default: by its ending)")
    add.set_defaults(act=_add)
    seen = actions.add_parser(
        "show", help="how many answers have a label", description="Answers and labels, by version and arm."
    )
    seen.add_argument("model", help="the model's name, as in flights")
    seen.set_defaults(act=_show)
    for made in (add, seen):
        made.add_argument("--json", action="store_true", help="print JSON")
    return choose_action(parser, parser.parse_args(argv))


def _add(arguments: argparse.Namespace) -> int:
    from engine.clock import SystemClock, to_microseconds  # noqa: PLC0415 - start-up time of --help
    from engine.serve.files import format_of, read_rows  # noqa: PLC0415
    from engine.serve.labelling import add_labels  # noqa: PLC0415

    frame = read_rows(arguments.input, format_of(arguments.input, arguments.format))
    home = project_of(arguments).home
    count = add_labels(home / "feedback", arguments.model, frame, to_microseconds(SystemClock().now()))
    if arguments.json:
        print_json(FeedbackAnswer(model=arguments.model, accepted=count))
    else:
        show(f"{count:,} labels for {arguments.model}")
    return 0


def _show(arguments: argparse.Namespace) -> int:
    from engine.serve.labelling import summarise  # noqa: PLC0415 - start-up time of --help

    home = project_of(arguments).home
    rows = summarise(home / "predictions", home / "feedback", arguments.model)
    if arguments.json:
        print_json(rows)
        return 0
    if not rows:
        raise DataError(f"nothing was predicted by {arguments.model} here yet", hint="engine serve pipeline=…")
    headers = ["version", "arm", "answers", "labelled", "revised", "mean score", "mean label"]
    show(render_table(headers, [list(msgspec.structs.astuple(row)) for row in rows]))
    return 0
