"""Effect nodes: what changes the world, done by the engine's own process after everything that it needs.

They are idempotent and never cached, so an interrupted one is simply done again by the next run. Called by `run.execute`.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping

from engine.clock import stopwatch
from engine.contracts import ArtefactStore
from engine.errors import EngineError, ExitCode, IntegrityError
from engine.execute.link import Narrator
from engine.execute.node import blocked, replace_result
from engine.execute.request import ExecuteRequest
from engine.keys import digest
from engine.plan.model import PlanNode
from engine.records import NodeOutput, NodeResult


def run_effect(
    node: PlanNode, request: ExecuteRequest, results: Mapping[str, NodeResult], store: ArtefactStore, narrator: Narrator
) -> NodeResult:
    """Do one effect; `pending` when an artefact it needs turned out damaged and has to be made again first.

    Raises nothing but `KeyboardInterrupt`.
    """
    since = stopwatch()
    base = NodeResult(name=node.name, kind=node.kind, state="running", started_at=narrator.now(), attempts=1)
    ended = blocked(base, {name: results[name] for name in node.inputs.values()})
    if ended is not None:
        result = replace_result(ended, attempts=0)
    else:
        narrator.state("running")
        result = _do(node, request, results, store, narrator, base)
    result = replace_result(result, seconds=stopwatch() - since)
    narrator.end(result)
    return result


def _do(
    node: PlanNode,
    request: ExecuteRequest,
    results: Mapping[str, NodeResult],
    store: ArtefactStore,
    narrator: Narrator,
    base: NodeResult,
) -> NodeResult:
    try:
        notes = dict(request.effects[node.kind](node, results))
        output = NodeOutput(digest=digest(notes), notes=notes)
    except IntegrityError as error:
        damaged = [result.name for result in results.values() if result.output and not _is_whole(result, store)]
        if damaged:
            narrator.log("warning", f"{', '.join(damaged)}: cannot be used and is made again: {error.message}")
            return replace_result(base, state="pending", reason=error.message)
        return replace_result(base, state="failed", error=str(error), exit_code=int(error.exit_code))
    except EngineError as error:
        return replace_result(base, state="failed", error=str(error), exit_code=int(error.exit_code))
    except Exception as error:  # noqa: BLE001 - a defect of one effect must not lose the run's record
        narrator.log("debug", traceback.format_exc())
        words = f"{type(error).__name__}: {error}"
        return replace_result(base, state="failed", error=words, exit_code=int(ExitCode.INTERNAL))
    return replace_result(base, state="ran", output=output)


def _is_whole(result: NodeResult, store: ArtefactStore) -> bool:
    return result.key is None or result.output is None or store.exists(result.output.digest)
