"""Effect nodes: what changes the world, done by the engine's own process after everything that it needs.

They are idempotent and never cached, so an interrupted one is simply done again by the next run. One that found nothing to
change says `changed: false` in its notes, and counts as cached. Called by `run.execute`.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass

from engine.clock import stopwatch
from engine.contracts import ArtefactStore
from engine.errors import EngineError, ExitCode, IntegrityError, NotFoundError
from engine.execute.link import Narrator
from engine.execute.request import Effect
from engine.execute.walk import blocked, replace_result
from engine.keys import digest
from engine.plan.model import PlanNode
from engine.records import NodeOutput, NodeResult


@dataclass(frozen=True, slots=True)
class EffectTask:
    """One effect to do: its node, what does it, and the results of every node so far."""

    node: PlanNode
    effect: Effect
    results: Mapping[str, NodeResult]


def run_effect(task: EffectTask, store: ArtefactStore, narrator: Narrator) -> NodeResult:
    """Do one effect; `pending` when an artefact it needs turned out damaged and has to be made again first.

    Raises nothing but `KeyboardInterrupt`.
    """
    node, since = task.node, stopwatch()
    base = NodeResult(name=node.name, kind=node.kind, state="running", started_at=narrator.now())
    result = blocked(base, {name: task.results[name] for name in node.inputs.values()})
    if result is None:
        narrator.state("running")
        result = _do(task, store, narrator, replace_result(base, attempts=1))
    result = replace_result(result, seconds=stopwatch() - since)
    narrator.end(result)
    return result


def _do(task: EffectTask, store: ArtefactStore, narrator: Narrator, base: NodeResult) -> NodeResult:
    try:
        notes = dict(task.effect(task.node, task.results))
        output = NodeOutput(digest=digest(notes), notes=notes)
    except EngineError as error:
        damaged = [result.name for result in task.results.values() if not _is_whole(result, store)]
        if damaged and isinstance(error, IntegrityError | NotFoundError):
            narrator.log("warning", f"{', '.join(damaged)}: cannot be used and is made again: {error.message}")
            return replace_result(base, state="pending", reason=error.message)
        return replace_result(base, state="failed", error=str(error), exit_code=int(error.exit_code))
    except Exception as error:  # noqa: BLE001 - a defect of one effect must not lose the run's record
        narrator.log("debug", traceback.format_exc())
        words = f"{type(error).__name__}: {error}"
        return replace_result(base, state="failed", error=words, exit_code=int(ExitCode.INTERNAL))
    if notes.get("changed") is False:
        return replace_result(base, state="cached", output=output, reason=str(notes.get("reason", "nothing to change")))
    return replace_result(base, state="ran", output=output)


def _is_whole(result: NodeResult, store: ArtefactStore) -> bool:
    """Say whether what a node left is still there; effects leave no artefact (and have no key)."""
    return result.key is None or result.output is None or store.exists(result.output.digest)
