"""`engine features parity`: logged requests computed again, and every bit that differs from what was served."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.commands.arguments import Parser, print_json, project_of, say, show
from engine.commands.served import Wanted, wanted_model
from engine.commands.tables import render_table
from engine.errors import ExitCode, UsageError

_EPILOG = """Each request is computed again from the snapshot that the state held when it answered, and from the events that
had been pushed by then. Exit code 3 when a bit differs, 4 when nothing could be compared."""


def run(argv: Sequence[str]) -> int:
    """Compare; a table of what differs, and how far the state was behind."""
    parser = Parser(
        "features parity", "Compare what was served with what the program gives, bit for bit.", epilog=_EPILOG
    )
    parser.add_argument("--share", type=float, default=1.0, help="the share of keys to look at, by a hash (default: 1)")
    parser.add_argument(
        "--rows", type=int, default=10_000, help="at most so many requests, the latest (default: 10000)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments, rest = parser.parse_known_args(argv)
    if not 0 < arguments.share <= 1 or arguments.rows < 1:
        raise UsageError("--share is above 0 and at most 1, --rows at least 1")
    report = measure(wanted_model(project_of(arguments), rest), rest, arguments.share, arguments.rows)
    if arguments.json:
        print_json(report)
    else:
        _tell(report)
    if report.mismatches or report.missing or report.extra:
        return ExitCode.REJECTED
    return ExitCode.OK if report.compared else ExitCode.INCONCLUSIVE


def measure(wanted: Wanted, words: Sequence[str], share: float, most: int) -> Any:
    """Gather the log, the snapshots and the journal of a model, and compare."""
    from pathlib import Path  # noqa: PLC0415 - start-up time of --help

    from engine.api import declare  # noqa: PLC0415
    from engine.filling import published  # noqa: PLC0415
    from engine.online.materialise import Published  # noqa: PLC0415
    from engine.parity import Logged, Replayer, measure_parity, read_journal  # noqa: PLC0415
    from engine.serve.package import open_served  # noqa: PLC0415
    from engine.serve.prediction_log import read_predictions  # noqa: PLC0415
    from engine.stores.artefacts import LocalArtefactStore  # noqa: PLC0415
    from engine.stores.database import open_database  # noqa: PLC0415
    from engine.stores.registry import Registry  # noqa: PLC0415
    from engine.stores.snapshots import open_snapshots  # noqa: PLC0415

    project, stores = wanted.project, wanted.stores
    version = wanted.find(Registry(open_database(project.locate(stores.state, "state.db"))))
    store = LocalArtefactStore(Path(project.locate(stores.artefacts, "artefacts")))
    served = open_served(store, version, project.root)
    declared = any(word.startswith("pipeline=") for word in words)
    places = published(declare(project, list(words)).spec) if declared else {}
    replayer = Replayer(
        served,
        open_snapshots(project.locate(stores.snapshots, "snapshots")),
        {name: places.get(name, Published("data", "main")) for name in served.program.feature_sources},
        read_journal(project.home / "events" / wanted.model),
    )
    rows = read_predictions(project.home / "predictions", version.name, version.digest)
    return measure_parity(Logged(served, rows, share, most), replayer)


def _tell(report: Any) -> None:
    if not report.predictions:
        say(f"{report.model}: no prediction is logged")
        return
    rows: list[list[str | int | float | None]] = [
        [item.feature, item.compared, item.mismatches, item.missing, item.extra, round(item.smape, 6), item.lag_median]
        for item in report.features
    ]
    show(render_table(["input", "compared", "mismatches", "missing", "extra", "smape", "lag (s)"], rows))
    for item in report.differences:
        say(f"{item.prediction_id}: {item.feature} was {item.served}, and is {item.recomputed}")
    for reason, count in report.reasons.items():
        say(f"{count} requests could not be computed again: {reason}")
    differing = report.mismatches + report.missing + report.extra
    say(
        f"{report.model}: {differing} of {report.compared} values differ, {report.sampled} of {report.predictions} requests"
    )
