"""`engine triggers`: what would make pipelines run again, why they did or did not, and a person's word about it."""

from __future__ import annotations

import argparse
import getpass
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

import msgspec

from engine.commands.arguments import Parser, choose_action, print_json, project_of, say, show
from engine.commands.tables import render_table
from engine.errors import ConflictError, EngineError, ExitCode, UsageError

if TYPE_CHECKING:
    from engine.loop.declarations import Declaration
    from engine.loop_records import LoopAction, TriggerMemory, TriggerState
    from engine.stores.loop_state import LoopState

Answer = TypeVar("Answer")


def run(argv: Sequence[str]) -> int:
    """Do one of the actions."""
    parser = Parser("triggers", "List triggers, explain decisions, fire one by hand, pause and resume.")
    actions = parser.actions("{ls,explain,report,fire,pause,resume,reset,requests,verify}")

    def add(name: str, words: str, act: object, *, pipeline: bool = True, json: bool = True) -> argparse.ArgumentParser:
        made = actions.add_parser(name, help=words, description=words)
        made.set_defaults(act=act)
        if pipeline:
            made.add_argument("pipeline", metavar="PIPELINE", help="its name under conf/pipeline")
        if json:
            made.add_argument("--json", action="store_true", help="print JSON")
        return made

    add("ls", "list the triggers of every pipeline, with their next moment", _list, pipeline=False)
    explain = add("explain", "tell the latest decisions about a pipeline, with every reason for and against", _explain)
    explain.add_argument("--last", type=int, default=10, metavar="N", help="how many (default: 10)")
    add("report", "what went wrong, how long it took to find and to mend, and what it took", _report)
    fire = add("fire", "ask for a run now; the policy still decides when", _fire, json=False)
    fire.add_argument("trigger", nargs="?", help="the trigger in whose name (default: by hand)")
    for name, words in (("pause", "launch nothing any more"), ("resume", "launch again")):
        made = add(name, words, _pause if name == "pause" else _resume, json=False)
        made.add_argument("trigger", nargs="?", help="only this trigger (default: the whole pipeline)")
        if name == "pause":
            made.add_argument("--reason", required=True, help="why; it is kept in the ledger")
    fire.add_argument("--reason", required=True, help="why; it is kept in the ledger")
    reset = add("reset", "forgive failures and rejections, so that what waits is launched again", _reset, json=False)
    reset.add_argument("--reason", required=True, help="why; it is kept in the ledger")
    reset.add_argument("--forget", action="store_true", help="forget every trigger's memory too: all start from now")
    add("requests", "list the runs that were asked for and are not over", _requests, pipeline=False)
    add("verify", "recompute the ledger's chains", _verify, pipeline=False)
    return choose_action(parser, parser.parse_args(argv))


def _list(arguments: argparse.Namespace) -> int:
    from engine.clock import SystemClock  # noqa: PLC0415 - start-up time of --help
    from engine.loop.locating import states_of  # noqa: PLC0415
    from engine.loop.telling import states_of_triggers  # noqa: PLC0415

    found: list[TriggerState] = []
    states, problems = states_of(project_of(arguments))
    for declaration, state in states:
        try:
            found += states_of_triggers(declaration, state, SystemClock().now())
        except EngineError as error:  # what is remembered of one pipeline hides no other
            problems.append(error)
    code = _tell(problems)
    if arguments.json:
        print_json(found)
        return code
    rows = [
        [item.pipeline, item.trigger, item.kind, "paused" if item.paused else "", item.next or "", item.why]
        for item in found
    ]
    table = render_table(["pipeline", "trigger", "kind", "", "next", "last said"], rows)
    show(table if rows else "no pipeline has triggers")
    return code


def _explain(arguments: argparse.Namespace) -> int:
    from engine.loop.locating import pipeline_of  # noqa: PLC0415 - start-up time of --help

    declaration, state = pipeline_of(project_of(arguments), arguments.pipeline)
    entries = state.history(declaration.pipeline, arguments.last)
    if arguments.json:
        print_json(list(entries))
        return ExitCode.OK
    for entry in entries:
        made = entry.decision
        quiet = f" (after {made.quiet} quiet evaluations)" if made.quiet else ""
        show(f"{made.at}  {made.action}: {made.why}{quiet}")
        for one in made.opinions:
            show(f"    {'fires' if one.fired else 'quiet'}  {one.trigger}: {one.why}")
        for check in made.checks:
            show(f"    {'pass ' if check.passed else 'STOP '}  {check.name}: {check.why}")
    if not entries:
        show("nothing was decided yet; `engine tick --dry-run --explain` says what would be")
    return ExitCode.OK


def _report(arguments: argparse.Namespace) -> int:
    from engine.commands.loop_words import report_words  # noqa: PLC0415 - start-up time of --help
    from engine.loop.locating import pipeline_of, stores_of  # noqa: PLC0415
    from engine.loop.reporting import moves_of, summarise  # noqa: PLC0415

    project = project_of(arguments)
    declaration, state = pipeline_of(project, arguments.pipeline)
    declared, registry = declaration.declared, stores_of(project, declaration).registry
    moves = moves_of(registry.history(declared.model), declared.alias)
    summary = summarise(declaration.pipeline, state.history(declaration.pipeline, 1_000_000), moves)
    if arguments.json:
        print_json(summary)
    else:
        show(report_words(summary))
    return ExitCode.OK


def _fire(arguments: argparse.Namespace) -> int:
    from engine.clock import SystemClock, isoformat  # noqa: PLC0415 - start-up time of --help
    from engine.loop_records import WaitingReasons  # noqa: PLC0415

    name = arguments.trigger or "by_hand"
    now = isoformat(SystemClock().now())

    def change(memory: TriggerMemory) -> TriggerMemory:
        old = memory.waiting
        wish = WaitingReasons(
            since=old.since if old else now,
            intent=old.intent if old else "train",
            reasons=(old.reasons if old else {}) | {name: f"{getpass.getuser()}: {arguments.reason}"},
            occasions=(old.occasions if old else {}) | {name: now},
        )
        return msgspec.structs.replace(memory, waiting=wish)

    _change(arguments, "fire", f"{name}: {arguments.reason}", change)
    show("asked for: the next `engine tick` launches it when the policy allows")
    return ExitCode.OK


def _pause(arguments: argparse.Namespace) -> int:
    def change(memory: TriggerMemory) -> TriggerMemory:
        if arguments.trigger is None:
            return msgspec.structs.replace(memory, paused=arguments.reason)
        paused = memory.paused_triggers | {arguments.trigger: arguments.reason}
        return msgspec.structs.replace(memory, paused_triggers=paused)

    _change(arguments, "pause", arguments.reason, change)
    show(f"paused: {arguments.trigger or arguments.pipeline}")
    return ExitCode.OK


def _resume(arguments: argparse.Namespace) -> int:
    def change(memory: TriggerMemory) -> TriggerMemory:
        if arguments.trigger is None:
            return msgspec.structs.replace(memory, paused=None, paused_triggers={})
        kept = {name: why for name, why in memory.paused_triggers.items() if name != arguments.trigger}
        return msgspec.structs.replace(memory, paused_triggers=kept)

    _change(arguments, "resume", arguments.trigger or arguments.pipeline, change)
    show(f"resumed: {arguments.trigger or arguments.pipeline}")
    return ExitCode.OK


def _reset(arguments: argparse.Namespace) -> int:
    from engine.clock import SystemClock, isoformat  # noqa: PLC0415 - start-up time of --help
    from engine.loop.locating import pipeline_of  # noqa: PLC0415
    from engine.loop_records import LoopDecision  # noqa: PLC0415

    now = isoformat(SystemClock().now())
    if arguments.forget:
        declaration, state = pipeline_of(project_of(arguments), arguments.pipeline)
        words = f"everything is forgotten: {arguments.reason}"
        state.forget(declaration.pipeline, LoopDecision(
            pipeline=declaration.pipeline, at=now, action="reset", why=words, actor=getpass.getuser()
        ))  # fmt: skip
        show(f"forgotten: the triggers of {declaration.pipeline} start from now")
        return ExitCode.OK
    arguments.trigger = None
    _change(arguments, "reset", arguments.reason, lambda memory: msgspec.structs.replace(memory, forgiven_at=now))
    show(f"reset: what waits for {arguments.pipeline} is launched when the rest of the policy allows")
    return ExitCode.OK


def _change(
    arguments: argparse.Namespace, action: LoopAction, why: str, change: Callable[[TriggerMemory], TriggerMemory]
) -> None:
    """Change what is remembered, with a row in the ledger; tries again when a tick came between."""
    from engine.clock import SystemClock, isoformat  # noqa: PLC0415 - start-up time of --help
    from engine.loop.locating import pipeline_of  # noqa: PLC0415
    from engine.loop_records import LoopDecision  # noqa: PLC0415
    from engine.stores.loop_state import remembered  # noqa: PLC0415

    declaration, state = pipeline_of(project_of(arguments), arguments.pipeline)
    _refuse_unknown(declaration, arguments.trigger)
    decision = LoopDecision(
        pipeline=declaration.pipeline,
        at=isoformat(SystemClock().now()),
        action=action,
        why=why,
        actor=getpass.getuser(),
    )
    for _ in range(10):
        memory = remembered(state.memories(), declaration.pipeline)
        if state.commit(memory, change(memory), decision, None):
            return
    raise ConflictError(f"ticks keep changing the triggers of {declaration.pipeline}", hint="try again")


def _refuse_unknown(declaration: Declaration, trigger: str | None) -> None:
    if trigger is not None and trigger not in declaration.specs:
        names = ", ".join(declaration.specs)
        raise UsageError(f"{declaration.pipeline} has no trigger `{trigger}`", hint=f"it has: {names}")


def _ask_all(arguments: argparse.Namespace, ask: Callable[[LoopState], Iterable[Answer]]) -> tuple[list[Answer], int]:
    """Ask every state once; one that cannot be asked is told of, and hides no other. Gives the exit code too."""
    from engine.loop.locating import states_of  # noqa: PLC0415 - start-up time of --help

    states, problems = states_of(project_of(arguments))
    found: list[Answer] = []
    for state in {id(state): state for _, state in states}.values():
        try:
            found += ask(state)
        except EngineError as error:
            problems.append(error)
    return found, _tell(problems)


def _tell(problems: Sequence[EngineError]) -> int:
    for problem in problems:
        say(f"error: {problem}")
    return max((int(problem.exit_code) for problem in problems), default=int(ExitCode.OK))


def _requests(arguments: argparse.Namespace) -> int:
    found, code = _ask_all(arguments, lambda state: state.open_requests())
    if arguments.json:
        print_json(found)
        return code
    rows = [[item.key[:12], item.pipeline, item.kind, item.state, item.created_at, item.owner or ""] for item in found]
    show(
        render_table(["request", "pipeline", "kind", "state", "asked for", "who"], rows) if rows else "nothing is open"
    )
    return code


def _verify(arguments: argparse.Namespace) -> int:
    broken, code = _ask_all(arguments, lambda state: state.verify())
    if arguments.json:
        print_json({"ok": not broken and code == ExitCode.OK, "problems": broken})
    else:
        show(
            "\n".join(broken) or ("every chain holds" if code == ExitCode.OK else "every chain that can be read holds")
        )
    return ExitCode.INTEGRITY if broken else code
