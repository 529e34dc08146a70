"""`engine backtest`: replay history under several retraining policies; quality over time, retrainings, cost, regret."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.commands.arguments import Parser, print_json, project_of, say, show, split_overrides
from engine.commands.tables import render_table
from engine.errors import UsageError

if TYPE_CHECKING:
    from engine.backtest.running import Question
    from engine.backtest_records import BacktestReport, BacktestResult, Estimate

EPILOG = """\
Policies: never, always, daily, weekly, monthly, drift, performance, declared (the pipeline's own triggers). `always` retrains at
every decision, and is what regret is measured against. State one of your own as YAML:
  --policy 'old: {kind: staleness, older_than: 30d}'
  --policy 'both: {a: {kind: drift, alone: false}, b: {kind: new_labels, rows: 5000, alone: false}, c: {kind: all, triggers: [a, b]}}'

Examples:
  engine backtest pipeline=flights
  engine backtest pipeline=flights --from 2013-04-01 --to 2014-01-01 --every 7d --policies never,monthly,drift
  engine backtest pipeline=flights --metric log_loss --gates none --json

Overrides are Hydra's, on top of `retrain.overrides`. Decisions are made by the code of `engine tick` from what was known at the
time. Nodes are cached: run it again, after a kill too, and it goes on. Exit codes as of `engine run`."""


def run(argv: Sequence[str]) -> int:
    """Replay, and say which policy is worth having."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    overrides, question = split_overrides(rest), _question(arguments)
    from engine.backtest.progress import choose_bar  # noqa: PLC0415 - start-up time of --help
    from engine.backtest.running import backtest, declare_backtest  # noqa: PLC0415

    declared = declare_backtest(project_of(arguments), overrides)
    bar = choose_bar(quiet=arguments.quiet)
    try:
        report = backtest(declared, question, bar)
    finally:
        bar.close()
    if arguments.plot is not None and report.report is not None:
        shutil.copyfile(report.report, arguments.plot)
    if arguments.json:
        print_json(report)
    else:
        _show(report)
    return report.exit_code


def _parser() -> Parser:
    parser = Parser(
        "backtest", "Replay a pipeline's history under several retraining policies, and compare them.", epilog=EPILOG
    )
    add = parser.add_argument
    add("--from", dest="start", metavar="TIME", help="the first decision (default: after a quarter of the history)")
    add("--to", dest="end", metavar="TIME", help="where the last period ends (default: the end of the history)")
    add("--every", default="7d", metavar="DURATION", help="how often policies decide (default: 7d)")
    add(
        "--policies",
        metavar="NAME,…",
        help="which to compare (default: never, weekly, monthly, drift, performance, declared)",
    )
    add(
        "--policy",
        metavar="YAML",
        action="append",
        default=[],
        help="one more, stated as `name: trigger`; may be repeated",
    )
    add("--metric", metavar="NAME", help="what quality is (default: evaluate.primary)")
    add(
        "--gates",
        choices=["scores", "all", "none"],
        default="scores",
        help="which gates decide promotions: those that judge scores (default), all with their probes (slow), or none",
    )
    add("--workers", type=int, metavar="N", help="how many nodes run side by side (default: one a core)")
    add("--folder", type=Path, metavar="DIR", help="where to write (default: runs/backtest/<pipeline>)")
    add("--plot", "--html", type=Path, metavar="FILE", help="write the page with the charts here as well")
    add("--quiet", "-q", action="store_true", help="no progress, only the outcome")
    add("--json", action="store_true", help="print one JSON object")
    return parser


def _question(arguments: argparse.Namespace) -> Question:
    from engine.backtest.moments import Asked  # noqa: PLC0415 - start-up time of --help
    from engine.backtest.running import Question  # noqa: PLC0415
    from engine.durations import microseconds  # noqa: PLC0415

    try:
        microseconds(arguments.every)
    except ValueError:
        raise UsageError(f"--every {arguments.every}: not a duration", hint="as in 7d or 12h") from None
    if arguments.workers is not None and arguments.workers < 1:
        raise UsageError("--workers is at least 1")
    names = tuple(name.strip() for name in (arguments.policies or "").split(",") if name.strip())
    stated: dict[str, Any] = {}
    for text in arguments.policy:
        stated |= _stated(text)
    time = Asked(_moment(arguments.start, "--from"), _moment(arguments.end, "--to"), arguments.every)
    return Question(time, names, stated, arguments.metric, arguments.gates, arguments.workers, arguments.folder)


def _stated(text: str) -> dict[str, Any]:
    import yaml  # noqa: PLC0415 - start-up time

    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"--policy {text}: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise UsageError(
            f"--policy {text}: not `name: trigger`", hint="--policy 'old: {kind: staleness, older_than: 30d}'"
        )
    return found


def _moment(text: str | None, flag: str) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{flag} {text}: not a moment", hint="as in 2013-04-01 or 2013-04-01T06:00:00Z") from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _show(report: BacktestReport) -> None:
    if report.result is None:
        say(f"error: {report.error}")
    else:
        from engine.report.backtest import headline  # noqa: PLC0415 - start-up time of --help

        show(_table(report.result))
        show(headline(report.result))
        for note in _remarks(report.result):
            show(note)
    ran, cached = report.nodes.ran, report.nodes.cached
    show(
        f"{ran} nodes ran, {cached} cached, {report.seconds:.1f} s"
        + (f"; report: {report.report}" if report.report else "")
    )


def _table(result: BacktestResult) -> str:
    rows: list[list[str | int | float | None]] = [
        [
            policy.name,
            _interval(policy.quality),
            _interval(policy.regret, signed=True),
            policy.retrainings,
            policy.promotions,
            policy.refused,
            f"{policy.cpu_seconds:.1f}",
            f"{policy.cpu_share:.0%}" if policy.cpu_share is not None else None,
        ]
        for policy in result.policies
    ]
    head = ["policy", result.metric, "regret", "retrained", "promoted", "refused", "CPU s", "of always"]
    return render_table(head, rows)


def _interval(estimate: Estimate, *, signed: bool = False) -> str | None:
    if estimate.value is None:
        return None
    sign = "+" if signed else ""
    inside = f" [{estimate.low:{sign}.4f}, {estimate.high:{sign}.4f}]" if estimate.low is not None else ""
    return f"{estimate.value:{sign}.4f}{inside}"


def _remarks(result: BacktestResult) -> list[str]:
    span = f"{result.start[:10]} to {result.end[:10]}, a decision every {result.every}, {result.rows:,} labelled rows"
    lines = [f"  {span}; regret: how much worse than always, on the same rows ({result.level:.0%} intervals)"]
    lines += [f"  {note}" for note in result.notes]
    if result.gates_left_out:
        lines.append(f"  gates not replayed: {', '.join(result.gates_left_out)}")
    return lines
