"""One node, from its inputs' digests to its result: cache hit, or run in a child, commit, record.

`run_node` is the task of the Dask graph, embedded and distributed alike: a function of picklable arguments that never
raises. The parent process calls `look_up` for what it can settle without Dask.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass

from engine.clock import stopwatch
from engine.contracts import ArtefactStore, Miss
from engine.errors import EngineError, ExitCode, IntegrityError, NotFoundError
from engine.execute.attempts import Attempts, NodeTask
from engine.execute.link import Link, Narrator
from engine.execute.locks import hold_action
from engine.execute.walk import blocked, look_up, replace_result
from engine.execute.wire import InputFiles
from engine.plan.model import PlanNode, action_key
from engine.records import NodeOutput, NodeResult


def run_node(task: NodeTask, store: ArtefactStore, link: Link, *upstream: NodeResult) -> NodeResult:
    """Give the node's result; never raises. `pending`: an input was damaged and has to be made again first."""
    narrator = Narrator(link, task.clock, task.place.run_id, task.node.name)
    started, since = narrator.now(), stopwatch()
    base = NodeResult(
        name=task.node.name, kind=task.node.kind, state="running", started_at=started, worker=link.worker()
    )
    try:
        result = _settle(task, store, narrator, {result.name: result for result in upstream}, base)
    except EngineError as error:
        result = replace_result(base, state="failed", error=str(error), exit_code=int(error.exit_code))
    except Exception as error:  # noqa: BLE001 - a task that raises would take the whole graph with it
        narrator.log("debug", traceback.format_exc())
        words = f"{type(error).__name__}: {error}"
        result = replace_result(base, state="failed", error=words, exit_code=int(ExitCode.INTERNAL))
    result = replace_result(result, seconds=stopwatch() - since)
    narrator.end(result)
    return result


def _settle(
    task: NodeTask, store: ArtefactStore, narrator: Narrator, upstream: Mapping[str, NodeResult], base: NodeResult
) -> NodeResult:
    ended = blocked(base, upstream)
    if ended is not None:
        return ended
    if narrator.link.is_cancelled():
        return replace_result(base, state="cancelled", reason="interrupted before it started")
    node = task.node
    outputs = {role: _output(upstream[name]) for role, name in node.inputs.items()}
    key = action_key(node, {role: output.digest for role, output in outputs.items()})
    forced = task.forced is not None
    cached = look_up(node, key, store, forced=forced)
    if cached is not None:
        return replace_result(cached, started_at=base.started_at)
    miss = None if forced or node.uncacheable else store.explain_miss(key)
    if miss is not None and miss.damaged:
        narrator.log("warning", f"`{node.name}` cannot be used and is made again: {miss.reason}")
    base = replace_result(base, key=key, reason=why(node, task.forced, miss))
    announce = _Announcement(narrator)
    with hold_action(task.place.artefacts, key, narrator.link.wait, announce) as waited:
        cached = look_up(node, key, store, forced=forced) if waited else None
        if cached is not None:
            return replace_result(cached, started_at=base.started_at, reason="another run computed it meanwhile")
        if narrator.link.is_cancelled():
            return replace_result(base, state="cancelled", reason="interrupted before it started")
        return _run(task, store, narrator, outputs, base)


@dataclass(frozen=True, slots=True)
class _Announcement:
    narrator: Narrator

    def __call__(self) -> None:
        self.narrator.log("info", "waiting for another run that is computing this node")


def why(node: PlanNode, forced: str | None, miss: Miss | None) -> str:
    """Say why a node runs that could have been cached."""
    if forced is not None:
        return f"forced: {forced}" if forced else "forced"
    if node.uncacheable:
        return f"not cached: {node.uncacheable}"
    return miss.reason if miss is not None else "not in the cache"


def _output(result: NodeResult) -> NodeOutput:
    if result.output is None:
        raise EngineError(f"`{result.name}` ended as {result.state} without an output")
    return result.output


def _run(
    task: NodeTask, store: ArtefactStore, narrator: Narrator, outputs: Mapping[str, NodeOutput], base: NodeResult
) -> NodeResult:
    inputs: dict[str, InputFiles] = {}
    for role, output in outputs.items():
        try:
            inputs[role] = InputFiles(str(store.open(output.digest)), output.digest, output.notes)
        except (IntegrityError, NotFoundError) as error:
            narrator.log(
                "warning", f"input `{task.node.inputs[role]}` cannot be used and is made again: {error.message}"
            )
            return replace_result(
                base, state="pending", reason=f"input `{task.node.inputs[role]}` is damaged: {error.message}"
            )
    narrator.state("running", base.reason)
    attempted = Attempts(task, store, narrator, inputs).run()
    ended = {"attempts": attempted.attempts, "peak_bytes": attempted.peak_bytes}
    if attempted.output is not None:
        if task.node.uncacheable is None:
            store.record_action(str(base.key), attempted.output)
        return replace_result(base, state="ran", output=attempted.output, **ended)
    if attempted.error is None:
        return replace_result(
            base,
            state="cancelled",
            reason=narrator.link.why_cancelled(),
            exit_code=int(ExitCode.INTERRUPTED),
            **ended,
        )
    return replace_result(base, state="failed", error=attempted.error, exit_code=attempted.exit_code, **ended)
