"""`engine runs`: past runs listed, shown, compared, tagged, exported, and done again.

The actions of looking back are here and in `runs_compare`; each reads the index, and a run's folder for the rest.
"""

from __future__ import annotations

import argparse
import getpass
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.commands.arguments import Parser, choose_action, print_json, project_of, show
from engine.commands.tables import Cell, render_table
from engine.errors import NotFoundError, UsageError
from engine.records import RunRecord
from engine.runs import open_folder

if TYPE_CHECKING:
    from engine.experiments.listing import Listed
    from engine.locations import Stores

_MOST_COLUMNS = 12
_Action = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]


def run(argv: Sequence[str]) -> int:
    """Dispatch the actions."""
    parser = Parser("runs", "Past runs: list, show, compare, tag, export, and do again.")
    parser.add_argument("--runs-dir", metavar="DIR", default="runs", help="the folder of run folders (default: runs)")
    parser.add_argument("--state", metavar="URL", help="the state database (default: the project's)")
    parser.add_argument("--artefacts", metavar="DIR", help="the artefact store (default: the project's)")
    parser.add_argument("--snapshots", metavar="URL", help="the snapshot store (default: the project's)")
    actions = parser.actions("list|show|diff|compare|best|tag|note|export|reproduce|sync")

    def action(name: str, act: Callable[[argparse.Namespace], int], words: str) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = actions.add_parser(name, help=words, description=words)
        made.set_defaults(act=act)
        made.add_argument("--json", action="store_true", help="print JSON")
        return made

    _add_looking(action)
    _add_marking(action)
    from engine.commands import runs_compare  # noqa: PLC0415 - keeps this file to what lists and marks

    runs_compare.add_actions(action)
    return choose_action(parser, parser.parse_args(argv))


def stores_of(arguments: argparse.Namespace) -> Stores:
    """Give the stores that the flags name, or the project's."""
    from engine.locations import Stores  # noqa: PLC0415 - start-up time of --help
    from engine.spec import SettingsSpec, StoresSpec  # noqa: PLC0415

    places = StoresSpec(
        snapshots=arguments.snapshots,
        artefacts=arguments.artefacts,
        state=arguments.state,
        runs=str(arguments.runs_dir),
    )
    return Stores(project_of(arguments), SettingsSpec(stores=places))


def _add_looking(action: _Action) -> None:
    listing = action("list", _list, "the latest runs, newest first")
    add_choosing(listing, limit=20)
    listing.add_argument("--only-differences", action="store_true", help="show the config paths in which they differ")
    showing = action("show", _show, "one run, whole")
    showing.add_argument("run_id", metavar="ID", help="a run's id, or `last`")
    best = action("best", _best, "the run with the best value of a metric")
    best.add_argument(
        "metric", metavar="METRIC", nargs="?", help="as in roc_auc or tuned.log_loss (default: the first)"
    )
    best.add_argument("--where", metavar="EXPR", help="among these runs")
    best.add_argument("--pipeline", metavar="NAME", help="only this pipeline's")
    best.add_argument("--lowest", action="store_true", help="the lowest value is best")


def add_choosing(parser: argparse.ArgumentParser, limit: int) -> None:
    """Add the flags that choose runs."""
    parser.add_argument(
        "--where", "--filter", metavar="EXPR", help='as in "metrics.roc_auc > 0.7 and train.rounds in (20, 30)"'
    )
    parser.add_argument("--sort", metavar="NAME", help="as in metrics.roc_auc, or 'metrics.roc_auc desc' for falling")
    parser.add_argument("--pipeline", metavar="NAME", help="only this pipeline's")
    parser.add_argument("--status", choices=["running", "succeeded", "failed", "interrupted", "pruned"])
    parser.add_argument("--sweep", type=int, metavar="N", help="only this sweep's trials")
    parser.add_argument(
        "--limit", type=int, default=limit, metavar="N", help=f"at most so many (default: {limit}; 0: all)"
    )


def chosen(arguments: argparse.Namespace, stores: Stores) -> list[Listed]:
    """Give the runs that the flags choose."""
    from engine.experiments.listing import Listing, Wanted  # noqa: PLC0415

    conditions = [f"({arguments.where})"] if arguments.where else []
    conditions += [f"{name} = '{value}'" for name in ("pipeline", "status", "sweep")
                   if (value := getattr(arguments, name, None)) is not None]  # fmt: skip
    where = " and ".join(conditions) or None
    return Listing(stores).find(Wanted(where, arguments.sort, arguments.limit or None))


def _list(arguments: argparse.Namespace) -> int:
    stores = stores_of(arguments)
    runs = chosen(arguments, stores)
    differing = _differences(stores, runs) if arguments.only_differences else {}
    if arguments.json:
        print_json(
            [
                _as_json(run, {path: values[index] for path, values in differing.items()})
                for index, run in enumerate(runs)
            ]
        )
        return 0
    if not runs:
        show("no run matches" if arguments.where or arguments.sweep is not None else "no runs yet")
    elif arguments.only_differences:
        show(_different(runs, differing))
    else:
        headers = [
            "run",
            "pipeline",
            "started",
            "seconds",
            "status",
            "verdict",
            "model",
            "primary",
            "tuned",
            "sweep",
            "tags",
        ]
        show(render_table(headers, [_row(run) for run in runs]))
    return 0


def _differences(stores: Stores, runs: Sequence[Listed]) -> dict[str, list[Any]]:
    from engine.experiments.listing import Listing  # noqa: PLC0415

    return Listing(stores).differences(runs)


def _as_json(run: Listed, differing: dict[str, Any]) -> dict[str, Any]:
    import msgspec  # noqa: PLC0415

    found: dict[str, Any] = msgspec.to_builtins(run.summary)
    return {**found, "folder_gone": run.gone, **({"differences": differing} if differing else {})}


def _row(run: Listed) -> list[Cell]:
    item = run.summary
    trial = f"{item.sweep}/{item.trial}" if item.sweep is not None else ""
    status = f"{item.status} (folder gone)" if run.gone else item.status
    tags = " ".join(f"{name}={value}" if value else name for name, value in item.tags.items())
    return [item.run_id, item.pipeline, item.started_at[:19].replace("T", " "), round(item.seconds, 2), status,
            item.verdict, item.model, _first(item.metrics), _first(item.tuned), trial, tags]  # fmt: skip


def _first(metrics: dict[str, float | None]) -> str | None:
    known = [name for name in _names_in_order(metrics) if metrics[name] is not None]
    return f"{known[0]} {metrics[known[0]]:.4f}" if known else None


def _names_in_order(metrics: Mapping[str, float | None]) -> list[str]:
    """Give metrics in the order in which they are told."""
    from engine.evaluation.names import METRIC_NAMES  # noqa: PLC0415

    return list(dict.fromkeys(name for name in (*METRIC_NAMES, *metrics) if name in metrics))


def _different(runs: Sequence[Listed], differing: dict[str, list[Any]]) -> str:
    """Tell what differs; what was measured on test rows and what on validation rows never share a column."""
    paths = list(differing)[:_MOST_COLUMNS]
    measured: dict[str, list[Cell]] = {
        "primary": [_first(run.summary.metrics) for run in runs],
        "tuned": [_first(run.summary.tuned) for run in runs],
    }
    columns = {name: cells for name, cells in measured.items() if any(cells)}
    columns |= {path: [_cell(value) for value in differing[path]] for path in paths}
    rows = [[run.summary.run_id, *(cells[place] for cells in columns.values())] for place, run in enumerate(runs)]
    table = render_table(["run", *columns], rows)
    if not paths:
        return f"{table}\nthey do not differ in their config"
    hidden = len(differing) - len(paths)
    return table + (f"\nand {hidden} more paths; --json has them all" if hidden > 0 else "")


def _cell(value: Any) -> str:
    text = "-" if value is None else str(value)
    return text if len(text) <= 24 else text[:21] + "..."


def _best(arguments: argparse.Namespace) -> int:
    from engine.evaluation.names import higher_is_better  # noqa: PLC0415

    stores = stores_of(arguments)
    metric = arguments.metric or _usual_metric(stores)
    lowest = arguments.lowest or not higher_is_better(metric)
    arguments.sort, arguments.limit = f"{metric} {'asc' if lowest else 'desc'}", 1
    arguments.status, arguments.sweep = "succeeded", None
    found = chosen(arguments, stores)
    if not found:
        raise NotFoundError("no run that succeeded matches", hint="engine runs list shows what there is")
    run, value = found[0], found[0].facts(metric)
    if not isinstance(value, int | float):
        known = sorted({*run.summary.metrics, *(f"tuned.{name}" for name in run.summary.tuned)})
        raise UsageError(
            f"no run has the metric {metric}", hint=f"run {run.summary.run_id} has: {', '.join(known) or 'none'}"
        )
    if arguments.json:
        print_json({"metric": metric, "value": value, "run": _as_json(run, {})})
    else:
        words = " ".join(f"{key}={item}" for key, item in run.summary.params.items())
        show(f"run {run.summary.run_id}: {metric} {value:.5f} ({'lowest' if lowest else 'highest'})\n  {words}")
    return 0


def _usual_metric(stores: Stores) -> str:
    """Give the first metric of the latest run that has one."""
    from engine.experiments.listing import Listing, Wanted  # noqa: PLC0415

    for wanted in (Wanted(limit=50), Wanted("status = succeeded", limit=50)):  # the second reads the whole index
        for run in Listing(stores).find(wanted):
            if run.summary.status == "succeeded" and (known := run.summary.metrics or run.summary.tuned):
                return ("" if run.summary.metrics else "tuned.") + _names_in_order(known)[0]
    raise NotFoundError("no run that succeeded has a metric", hint="engine runs list shows what there is")


def _show(arguments: argparse.Namespace) -> int:
    stores = stores_of(arguments)
    folder = open_folder(stores.runs_root, arguments.run_id)
    record = folder.read_record()
    if arguments.json:
        print_json(record)
        return 0
    show(describe_run(record, folder.path))
    for note in stores.index.notes(record.run_id):
        show(f"note by {note.actor} at {note.at}: {note.note}")
    return 0


def describe_run(record: RunRecord, path: Path) -> str:
    """Tell a run in words and tables: outcome, metrics, gates, nodes, where the rest lies."""
    lines = [
        f"run {record.run_id} of {record.pipeline}: {record.status}"
        + (f", verdict {record.verdict}" if record.verdict else "")
        + (f", model {record.model}" if record.model else ""),
        f"started {record.started_at}, {record.seconds:.2f} s, exit code {record.exit_code}",
    ]
    if record.sweep is not None:
        lines.append(f"trial {record.trial} of sweep {record.sweep}")
    if record.error:
        lines.append(f"error: {record.error}")
    if record.overrides:
        lines.append(f"overrides: {' '.join(record.overrides)}")
    if record.metrics:
        rows: list[list[Cell]] = [[m.name, m.value, m.low, m.high] for m in record.metrics]
        lines += ["", render_table(["metric", "value", "low", "high"], rows)]
    for metric in record.tuned:
        value = "none" if metric.value is None else f"{metric.value:.5f}"
        proof = f"{metric.rows} {metric.part} rows, {metric.shared_rows} of which gates see"
        lines.append(f"tuned by {metric.name}: {value} ({proof})")
    if record.gates:
        gates: list[list[Cell]] = [[gate.name, gate.status, gate.observed, gate.required] for gate in record.gates]
        lines += ["", render_table(["gate", "status", "observed", "required"], gates)]
    nodes: list[list[Cell]] = [
        [node.name, node.state, round(node.seconds, 2), node.output.digest[:12] if node.output else None]
        for node in record.nodes
    ]
    lines += ["", render_table(["node", "state", "seconds", "digest"], nodes)]
    lines += ["", *(f"{pin.source}: {pin.repository}@{pin.commit[:12]}, {pin.rows} rows" for pin in record.snapshots)]
    return "\n".join([*lines, f"folder: {path}", *([f"report: {record.report}"] if record.report else [])])


def _add_marking(action: _Action) -> None:
    tagging = action("tag", _tag, "give a run a tag, as in `engine runs tag 7 team=risk keep`; --remove takes it away")
    tagging.add_argument("run_id", metavar="ID")
    tagging.add_argument("tags", metavar="NAME[=VALUE]", nargs="+")
    tagging.add_argument("--remove", action="store_true", help="take these tags away")
    syncing = action("sync", _sync, "send trackers what they have not been told yet")
    syncing.add_argument("run_id", metavar="ID", nargs="?", help="only this run's")
    noting = action("note", _note, "add words to a run; they stay with it, with who and when")
    noting.add_argument("run_id", metavar="ID")
    noting.add_argument("words", metavar="WORDS", nargs="+")


def _sync(arguments: argparse.Namespace) -> int:
    from engine.trackers.sending import deliver  # noqa: PLC0415 - start-up time

    stores = stores_of(arguments)
    done = deliver(stores, arguments.run_id)
    left = stores.outbox.due()
    if arguments.json:
        print_json({"deliveries": done, "waiting": len(left)})
        return 0
    for item in done:
        show(
            f"run {item.run_id}: {item.tracker} ({item.kind}): {f'sent, {item.id}' if item.sent else f'not sent: {item.error}'}"
        )
    show(f"{len(left)} wait to be sent" if left else "nothing waits to be sent")
    return 0


def _tag(arguments: argparse.Namespace) -> int:
    index = stores_of(arguments).index
    for text in arguments.tags:
        name, _, value = text.partition("=")
        if not name:
            raise UsageError(f"{text}: a tag has a name", hint="engine runs tag 7 team=risk")
        index.set_tag(arguments.run_id, name, None if arguments.remove else value)
    tags = index.find_run(arguments.run_id).tags
    if arguments.json:
        print_json({"run_id": arguments.run_id, "tags": tags})
    else:
        show(
            f"run {arguments.run_id}: "
            + (", ".join(f"{name}={value}" if value else name for name, value in tags.items()) or "no tags")
        )
    return 0


def _note(arguments: argparse.Namespace) -> int:
    from engine.clock import SystemClock, isoformat  # noqa: PLC0415
    from engine.stores.runs_index import RunNote  # noqa: PLC0415

    index = stores_of(arguments).index
    note = RunNote(at=isoformat(SystemClock().now()), actor=getpass.getuser(), note=" ".join(arguments.words))
    index.add_note(arguments.run_id, note)
    if arguments.json:
        print_json(index.notes(arguments.run_id))
    else:
        show(f"run {arguments.run_id}: noted")
    return 0
