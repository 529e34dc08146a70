"""`engine runs diff|compare|export|reproduce`: two runs, many runs, all runs as a table, one run again."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.commands.arguments import print_json, say, show
from engine.commands.tables import Cell, render_table
from engine.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from engine.experiments.differences import Looked
    from engine.experiments.listing import Listed
    from engine.locations import Stores

_Action = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]


def add_actions(action: _Action) -> None:
    """Add the four actions to `engine runs`."""
    from engine.commands.runs import add_choosing  # noqa: PLC0415 - which imports this module too

    diff = action(
        "diff", _diff, "what differs between two runs: config, data, features, code, environment, results, times"
    )
    diff.add_argument("left", metavar="A", help="a run's id, or `last`")
    diff.add_argument("right", metavar="B")
    diff.add_argument("--all", action="store_true", help="also what is the same")
    diff.add_argument("--no-intervals", action="store_true", help="do not measure the two row by row")
    compare = action("compare", _compare, "many runs side by side: what differs, and how good they are")
    compare.add_argument("runs", metavar="ID", nargs="*", help="these runs; without, those that the flags choose")
    add_choosing(compare, limit=20)
    compare.add_argument("--html", metavar="FILE", help="write a page with the table and parallel coordinates")
    export = action("export", _export, "runs as a table in a file: .parquet or .csv")
    export.add_argument("file", metavar="FILE")
    add_choosing(export, limit=0)
    again = action("reproduce", _reproduce, "do a run again and compare the digest of every node")
    again.add_argument("run_id", metavar="ID", help="a run's id, `last`, or the path of a run folder of another clone")
    again.add_argument("--threads", type=int, metavar="N", help="with so many threads (default: every core)")
    again.add_argument("--checkout", action="store_true", help="with the code of the commit that the run recorded")
    again.add_argument(
        "--environment", action="store_true", help="in an environment made from that code's requirements.lock"
    )
    again.add_argument("--keep", action="store_true", help="keep what it makes, also when it is identical")
    again.add_argument("--root", metavar="DIR", help=argparse.SUPPRESS)


def _stores(arguments: argparse.Namespace) -> Stores:
    from engine.commands.runs import stores_of  # noqa: PLC0415

    return stores_of(arguments)


def _diff(arguments: argparse.Namespace) -> int:
    from engine.commands.runs_words import tell_diff  # noqa: PLC0415
    from engine.experiments.differences import Paired, compare_runs, look_at  # noqa: PLC0415

    stores = _stores(arguments)
    left, right = look_at(stores, arguments.left), look_at(stores, arguments.right)
    same = (left.record.metrics, left.record.tuned) == (right.record.metrics, right.record.tuned)
    paired: Paired | None = None
    if not (arguments.no_intervals or same) and _has_predictions(stores, left) and _has_predictions(stores, right):
        from engine.experiments.paired import PairedMeasure  # noqa: PLC0415 - the tables cost half a second

        paired = PairedMeasure(stores.artefacts)
    diff = compare_runs(left, right, paired, everything=arguments.all)
    if arguments.json:
        print_json(diff)
    else:
        show(tell_diff(diff))
    return 0


def _has_predictions(stores: Stores, side: Looked) -> bool:
    """Say whether anything is left to measure row by row, before the tables are imported for it."""
    outputs = [node.output.digest for node in side.record.nodes if node.name in {"evaluate", "tune"} and node.output]
    return not side.gone and any(stores.artefacts.exists(item) for item in outputs)


def _compare(arguments: argparse.Namespace) -> int:
    stores = _stores(arguments)
    runs = _named(arguments, stores)
    if len(runs) < 2:
        raise UsageError("comparing needs two runs or more", hint="engine runs list")
    from engine.experiments.listing import Listing  # noqa: PLC0415

    differing = Listing(stores).differences(runs)
    named = [(*(f"metrics.{item}" for item in run.summary.metrics), *(f"tuned.{item}" for item in run.summary.tuned))
             for run in runs]  # fmt: skip
    names = list(dict.fromkeys(name for own in named for name in own))
    values = {name: [run.facts(name) for run in runs] for name in names}
    if arguments.html:
        _write_page(Path(arguments.html), runs, differing, values)
    if arguments.json:
        print_json([_as_json(run, index, values, differing) for index, run in enumerate(runs)])
        return 0
    rows: list[list[Cell]] = [[path, *(_cell(value) for value in column)] for path, column in differing.items()]
    rows += [["verdict", *(run.summary.verdict or "-" for run in runs)]]
    rows += [[name, *(_cell(value) for value in values[name])] for name in names]
    show(render_table(["", *(f"run {run.summary.run_id}" for run in runs)], rows))
    return 0


def _as_json(run: Listed, index: int, values: dict[str, list[Any]], differing: dict[str, list[Any]]) -> dict[str, Any]:
    item = run.summary
    return {
        "run_id": item.run_id,
        "pipeline": item.pipeline,
        "status": item.status,
        "verdict": item.verdict,
        "metrics": {name: column[index] for name, column in values.items()},
        "differences": {path: column[index] for path, column in differing.items()},
    }


def _write_page(
    path: Path, runs: Sequence[Listed], differing: dict[str, list[Any]], values: dict[str, list[Any]]
) -> None:
    from engine.report.comparison import Compared, render_comparison  # noqa: PLC0415

    compared = [
        Compared(run.summary.run_id, run.summary.pipeline, run.summary.status, run.summary.verdict) for run in runs
    ]
    try:
        path.write_text(render_comparison(compared, differing, values), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--html {path}: {error.strerror}") from error
    say(f"wrote {path}")


def _named(arguments: argparse.Namespace, stores: Stores) -> list[Listed]:
    from engine.commands.runs import chosen  # noqa: PLC0415
    from engine.experiments.listing import Listing, Wanted  # noqa: PLC0415

    if not arguments.runs:
        return chosen(arguments, stores)
    asked = ", ".join(f"'{run}'" for run in arguments.runs)
    found = {run.summary.run_id: run for run in Listing(stores).find(Wanted(f"run_id in ({asked})", limit=None))}
    missing = [run for run in arguments.runs if run not in found]
    if missing:
        raise NotFoundError(f"no run {missing[0]}", hint="engine runs list")
    return [found[run] for run in dict.fromkeys(arguments.runs)]


def _export(arguments: argparse.Namespace) -> int:
    from engine.commands.runs import chosen  # noqa: PLC0415
    from engine.experiments.exporting import export_runs  # noqa: PLC0415 - tables

    count = export_runs(chosen(arguments, _stores(arguments)), Path(arguments.file))
    if arguments.json:
        print_json({"file": arguments.file, "runs": count})
    else:
        show(f"wrote {count} runs to {arguments.file}")
    return 0


def _reproduce(arguments: argparse.Namespace) -> int:
    from engine.commands.runs_again import reproduce_run  # noqa: PLC0415

    return reproduce_run(arguments, _stores(arguments))


def _cell(value: Any) -> Cell:
    if isinstance(value, float):
        return f"{value:.5g}"
    text = "-" if value is None else str(value)
    return text if len(text) <= 24 else text[:21] + "..."
