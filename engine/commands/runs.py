"""`engine runs`: list and show past runs, from their folders."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from engine.commands.arguments import Parser, choose_action, print_json, project_of, show
from engine.commands.tables import render_table
from engine.errors import IntegrityError
from engine.records import RunRecord
from engine.runs import list_folders, open_folder


def run(argv: Sequence[str]) -> int:
    """Dispatch `list` and `show`."""
    parser = Parser("runs", "List and show past runs.")
    parser.add_argument("--runs-dir", metavar="DIR", default="runs", help="the folder of run folders (default: runs)")
    actions = parser.actions("list|show")
    listing = actions.add_parser("list", help="the latest runs, newest first")
    listing.add_argument("--pipeline", metavar="NAME", help="only this pipeline's")
    listing.add_argument("--status", choices=["running", "succeeded", "failed", "interrupted"])
    listing.add_argument("--limit", type=int, default=20, metavar="N")
    listing.add_argument("--json", action="store_true", help="print one JSON array")
    listing.set_defaults(act=_list)
    showing = actions.add_parser("show", help="one run, whole")
    showing.add_argument("run_id", metavar="ID", help="a run's id, or `last`")
    showing.add_argument("--json", action="store_true", help="print run.json")
    showing.set_defaults(act=_show)
    arguments = parser.parse_args(argv)
    return choose_action(parser, arguments)


def _list(arguments: argparse.Namespace) -> int:
    records: list[RunRecord] = []
    for folder in reversed(list_folders(_root(arguments))):
        if len(records) >= arguments.limit:
            break
        try:
            record = folder.read_record()
        except IntegrityError as error:
            show(f"{folder.run_id}: {error}")
            continue
        if arguments.pipeline in {None, record.pipeline} and arguments.status in {None, record.status}:
            records.append(record)
    if arguments.json:
        print_json(records)
        return 0
    headers = ["run", "pipeline", "started", "seconds", "status", "verdict", "model", "primary", "ran", "cached"]
    show(render_table(headers, [_row(record) for record in records]) if records else "no runs yet")
    return 0


def _row(record: RunRecord) -> list[str | int | float | None]:
    ran, cached = (sum(node.state == state for node in record.nodes) for state in ("ran", "cached"))
    first = record.metrics[0] if record.metrics else None
    metric = f"{first.name} {first.value:.4f}" if first and first.value is not None else None
    started = record.started_at[:19].replace("T", " ")
    return [record.run_id, record.pipeline, started, round(record.seconds, 2), record.status, record.verdict, record.model,
            metric, ran, cached]  # fmt: skip


def _show(arguments: argparse.Namespace) -> int:
    folder = open_folder(_root(arguments), arguments.run_id)
    record = folder.read_record()
    if arguments.json:
        print_json(record)
        return 0
    show(describe_run(record, folder.path))
    return 0


def describe_run(record: RunRecord, path: Path) -> str:
    """Tell a run in words and tables: outcome, metrics, gates, nodes, where the rest lies."""
    lines = [
        f"run {record.run_id} of {record.pipeline}: {record.status}"
        + (f", verdict {record.verdict}" if record.verdict else "")
        + (f", model {record.model}" if record.model else ""),
        f"started {record.started_at}, {record.seconds:.2f} s, exit code {record.exit_code}",
    ]
    if record.error:
        lines.append(f"error: {record.error}")
    if record.overrides:
        lines.append(f"overrides: {' '.join(record.overrides)}")
    if record.metrics:
        lines += [
            "",
            render_table(
                ["metric", "value", "low", "high"], [[m.name, m.value, m.low, m.high] for m in record.metrics]
            ),
        ]
    if record.gates:
        rows = [[gate.name, gate.status, gate.observed, gate.required] for gate in record.gates]
        lines += ["", render_table(["gate", "status", "observed", "required"], rows)]
    nodes = [
        [node.name, node.state, round(node.seconds, 2), node.output.digest[:12] if node.output else None]
        for node in record.nodes
    ]
    lines += ["", render_table(["node", "state", "seconds", "digest"], nodes)]
    lines += ["", *(f"{pin.source}: {pin.repository}@{pin.commit[:12]}, {pin.rows} rows" for pin in record.snapshots)]
    return "\n".join([*lines, f"folder: {path}", *([f"report: {record.report}"] if record.report else [])])


def _root(arguments: argparse.Namespace) -> Path:
    return project_of(arguments).root / str(arguments.runs_dir)
