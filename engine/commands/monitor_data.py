"""`engine monitor data`: compare large files, or a source's snapshot, part by part, by their kept profiles. Needs no model."""

from __future__ import annotations

import argparse
import fnmatch
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.clock import SystemClock, isoformat
from engine.commands.arguments import Parser, print_json, project_of, say, show, split_overrides
from engine.commands.tables import render_table
from engine.errors import ExitCode, UsageError
from engine.watch_records import MonitorReport, Reading, ReadingStatus

if TYPE_CHECKING:
    from engine.watch.profiles import Piece

_EPILOG = """\
Rows are streamed, a profile a file (or an object of the snapshot) over Dask; profiles are kept beside the snapshots and made
once. One reference file is cut into --chunks parts; several are a chunk each.

Examples:
  engine monitor data --reference 2013-0*.parquet --rows 2013-10.parquet
  engine monitor data pipeline=flights --source weather --first 6

Exit codes: 0 nothing changed, 3 something did, 4 too little data."""


def run(argv: Sequence[str]) -> int:
    """Profile what is not profiled yet, compare, tell."""
    parser = Parser(
        "monitor data", "Compare large data, part by part, with a reference: profiles, not rows.", epilog=_EPILOG
    )
    parser.add_argument("--reference", metavar="FILE", type=Path, nargs="+", default=[], help="what is usual")
    parser.add_argument(
        "--rows", metavar="FILE", type=Path, nargs="+", action="extend", default=[], help="what to compare"
    )
    parser.add_argument(
        "--source", metavar="SOURCE", help="a source of the pipeline: its objects, in order of their paths"
    )
    parser.add_argument("--ref", help="of the snapshot: a branch, a tag, a commit (default: the source's branch)")
    parser.add_argument("--first", metavar="N", type=int, help="how many objects are the reference (default: half)")
    parser.add_argument(
        "--chunks", metavar="K", type=int, default=10, help="parts of a single reference file (default: 10)"
    )
    parser.add_argument("--column", metavar="GLOB", action="append", help="these columns only; may be repeated")
    parser.add_argument("--workers", metavar="N", type=int, default=1, help="files profiled at a time (default: 1)")
    parser.add_argument("--dask", metavar="ADDRESS", help="profile on the workers of this scheduler")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments, rest = parser.parse_known_args(argv)
    if arguments.chunks < 1 or arguments.workers < 1:
        raise UsageError("--chunks and --workers are at least 1")
    report = _report(arguments, split_overrides(rest))
    if arguments.json:
        print_json(report)
    else:
        _show(report)
    return report.exit_code


def _report(arguments: argparse.Namespace, overrides: Sequence[str]) -> MonitorReport:
    from engine.execute.mapping import map_over  # noqa: PLC0415 - start-up time of --help
    from engine.watch.compare import compare  # noqa: PLC0415
    from engine.watch.profiles import Shelf, open_profiles, open_reference  # noqa: PLC0415

    project = project_of(arguments)
    name, before, now = _of_source(arguments, overrides) if arguments.source else _of_files(arguments)
    shelf = Shelf(project.home / "profiles")
    columns = _columns(before[0], arguments.column)
    say(f"reference: {len(before)} parts, {len(columns)} columns")
    reference = open_reference(before, columns, shelf, name)
    run_over = partial(map_over, address=arguments.dask, workers=arguments.workers)
    profiles = open_profiles(now, reference.frozen, shelf, run_over)
    at = isoformat(SystemClock().now())
    readings = tuple(_reading(name, compare(reference, found), found.name, at) for found in profiles)
    states = {reading.status for reading in readings}
    status: ReadingStatus = "alarm" if "alarm" in states else "ok" if "ok" in states else "insufficient_data"
    codes = {"alarm": ExitCode.REJECTED, "ok": ExitCode.OK, "insufficient_data": ExitCode.INCONCLUSIVE}
    return MonitorReport(
        pipeline=name, model="", at=at, status=status, chunks=len(readings), readings=readings, exit_code=codes[status]
    )


def _of_files(arguments: argparse.Namespace) -> tuple[str, list[Piece], list[Piece]]:
    from engine.watch.profiles import cut_file, whole_file  # noqa: PLC0415 - start-up time of --help

    if not arguments.reference or not arguments.rows:
        raise UsageError(
            "name --reference and --rows, or a --source of a pipeline", hint="`engine monitor data --help`"
        )
    now = [whole_file(path) for path in arguments.rows]
    before = [whole_file(path) for path in arguments.reference]
    if len(before) == 1:
        before = cut_file(arguments.reference[0], arguments.chunks)
    if not before:
        raise UsageError(f"{arguments.reference[0]} has no rows", hint="a reference says what is usual")
    return Path(before[0].location).name, before, now


def _of_source(arguments: argparse.Namespace, overrides: Sequence[str]) -> tuple[str, list[Piece], list[Piece]]:
    from engine.api import declare  # noqa: PLC0415 - start-up time of --help
    from engine.locations import Stores  # noqa: PLC0415
    from engine.watch.profiles import Piece  # noqa: PLC0415

    declared = declare(project_of(arguments), overrides)
    source = declared.spec.sources.get(arguments.source)
    if source is None:
        raise UsageError(
            f"no source {arguments.source} in {declared.spec.name}",
            hint=f"there are: {', '.join(declared.spec.sources)}",
        )
    stores = Stores(declared.project, declared.settings).open_snapshots()
    commit = stores.resolve(source.repository, arguments.ref or source.ref or source.branch)
    scan = stores.scan(source.repository, commit, f"{arguments.source}/")
    pieces = [
        Piece(stat.path, location, stat.digest, None, scan.options)
        for stat, location in zip(scan.objects, scan.locations, strict=True)
        if stat.path.endswith(".parquet")
    ]
    first = arguments.first or len(pieces) // 2
    if not 0 < first < len(pieces):
        words = f"{arguments.source} has {len(pieces)} objects at {commit[:12]}: none is left to compare"
        raise UsageError(words, hint="--first says how many are the reference; a source is cut by its `partition:`")
    return arguments.source, pieces[:first], pieces[first:]


def _columns(piece: Piece, wanted: Sequence[str] | None) -> list[str]:
    names = piece.scan().collect_schema().names()
    kept = [name for name in names if not wanted or any(fnmatch.fnmatchcase(name, glob) for glob in wanted)]
    if not kept:
        raise UsageError(f"no column is {' or '.join(wanted or ())}", hint=f"there are: {', '.join(names[:20])}")
    return kept


def _reading(name: str, comparison: Any, chunk: str, at: str) -> Reading:
    from engine.watch.findings import dependence_of, finding_of, rank_finding  # noqa: PLC0415 - start-up time of --help

    found = [finding_of(item) for item in comparison.columns]
    pairs = dependence_of(comparison)
    found = sorted([*found, *([pairs] if pairs else [])], key=rank_finding)
    alarms = [item for item in found if item.status in {"alarm", "broken"}]
    words = comparison.words or "; ".join(item.words or item.name for item in alarms[:3]) or "nothing changed"
    return Reading(
        pipeline=name, monitor="data", kind="drift", chunk=chunk, start="", end="", rows=comparison.rows, status=comparison.status,
        value=float(len(alarms)), words=words, findings=tuple(found), at=at,
    )  # fmt: skip


def _show(report: MonitorReport) -> None:
    rows: list[list[str | int | float | None]] = [
        [item.chunk, item.status, item.rows, int(item.value or 0), item.words[:120]] for item in report.readings
    ]
    show(render_table(["part", "status", "rows", "changed", "words"], rows))
