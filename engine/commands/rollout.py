"""`engine rollout`: where a rollout stands and on which evidence; pause, resume, abort, judge or start one."""

from __future__ import annotations

import argparse
import getpass
from collections.abc import Callable, Sequence

from engine.clock import SystemClock
from engine.commands.arguments import Parser, choose_action, print_json, project_of, say, show, split_overrides
from engine.commands.tables import render_table
from engine.errors import UsageError
from engine.records import RolloutState
from engine.stores import rollouts
from engine.stores.database import open_database
from engine.stores.registry import Registry


def run(argv: Sequence[str]) -> int:
    """Dispatch the actions."""
    parser = Parser("rollout", "Rollouts: shadow, ramps and their comparison, as the ledger tells them.")
    parser.add_argument("--state", metavar="URL", help="the state database (default: the project's)")
    actions = parser.actions("show|pause|resume|abort|judge|start")

    def action(name: str, act: Callable[[argparse.Namespace], int], words: str) -> argparse.ArgumentParser:
        made = actions.add_parser(name, help=words, description=words)
        made.set_defaults(act=act)
        made.add_argument("--json", action="store_true", help="print JSON")
        if name == "start":
            made.add_argument("version", type=int, help="the registered version to roll out")
        else:
            made.add_argument("model", help="the model's name, as in flights")
        if name in {"pause", "resume", "abort"}:
            made.add_argument("--reason", required=True, help="why; kept in the ledger for good")
        return made

    action("show", _show, "where the model's rollout stands, and how it came there")
    action("pause", _pause, "send nothing to the challenger until resumed")
    action("resume", _resume, "go on where it was paused or held")
    action("abort", _abort, "end it; the champion stays")
    action("judge", _judge, "compare now, and write what follows, as servers do every `judge_every`")
    action("start", _start, "begin one as a pipeline's `rollout:` declares: engine rollout start 7 pipeline=flights")
    arguments, rest = parser.parse_known_args(argv)
    arguments.rest = split_overrides(rest)
    if arguments.rest and getattr(arguments, "action", None) != "start":
        raise UsageError(f"{arguments.rest[0]} is not understood here", hint="engine rollout --help")
    return choose_action(parser, arguments)


def _registry(arguments: argparse.Namespace) -> Registry:
    return Registry(open_database(project_of(arguments).locate(arguments.state, "state.db")))


def _show(arguments: argparse.Namespace) -> int:
    registry = _registry(arguments)
    state = rollouts.require(registry, arguments.model)
    if arguments.json:
        return _tell(arguments, state)
    _tell(arguments, state)
    rows = [[row.at[:19].replace("T", " "), row.evidence["status"], row.evidence["step"] + 1, row.actor, row.reason]
            for row in rollouts.rows_of(registry, state)]  # fmt: skip
    show(render_table(["when", "status", "step", "who", "why"], rows))
    return 0


def _pause(arguments: argparse.Namespace) -> int:
    return _change(arguments, "paused", "running")


def _resume(arguments: argparse.Namespace) -> int:
    return _change(arguments, "running", "paused", "held")


def _abort(arguments: argparse.Namespace) -> int:
    return _change(arguments, "aborted", *rollouts.ALIVE)


def _change(arguments: argparse.Namespace, status: str, *from_: str) -> int:
    registry = _registry(arguments)
    state = rollouts.require(registry, arguments.model, *from_)
    return _tell(
        arguments, rollouts.change(registry, state, rollouts.Decision(status, getpass.getuser(), arguments.reason))
    )


def _judge(arguments: argparse.Namespace) -> int:
    from engine.serve.judging import judge  # noqa: PLC0415 - imports data libraries

    registry, home = _registry(arguments), project_of(arguments).home
    rollouts.require(registry, arguments.model)
    state = judge(registry, home / "predictions", home / "feedback", arguments.model, SystemClock().now())
    return _tell(arguments, state or rollouts.require(registry, arguments.model))


def _start(arguments: argparse.Namespace) -> int:
    from engine.api import declare  # noqa: PLC0415 - start-up time of --help
    from engine.locations import Stores  # noqa: PLC0415

    project = project_of(arguments)
    declared = declare(project, arguments.rest)
    spec = declared.spec
    if spec.rollout is None:
        raise UsageError(f"the pipeline {spec.name} declares no `rollout:`", hint="see docs/rollout.md")
    registry = Stores(project, declared.settings).registry
    start = rollouts.Start(
        spec.registry.model or spec.name, spec.registry.alias, arguments.version, spec.rollout, getpass.getuser()
    )
    return _tell(arguments, rollouts.begin(registry, start))


def _tell(arguments: argparse.Namespace, state: RolloutState) -> int:
    if arguments.json:
        print_json(state)
        return 0
    steps = rollouts.spec_of(state).steps
    show(f"{state.model}:{state.challenger} beside {state.model}:{state.champion} @{state.alias}: {state.status},"
         f" step {state.step + 1} of {len(steps)}, {state.share:.2%} of entities")  # fmt: skip
    say(f"  {state.reason}")
    return 0
