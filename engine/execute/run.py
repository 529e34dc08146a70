"""`execute`: the second interpreter of a plan. Walk it, run what is missing through Dask, do the effects, give results.

It goes in rounds: a node whose input turns out damaged ends as `pending`, the damaged copy has been set aside, and the
next round makes it again. Nearly always there is one round, and in a no-op run nothing of Dask is imported.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from engine.clock import stopwatch
from engine.contracts import ArtefactStore, Place
from engine.errors import EngineError, ExitCode, UsageError
from engine.execute.interrupts import Interrupts
from engine.execute.link import FINAL_STATES, Cancellation, LocalLink, Narrator
from engine.execute.request import ExecuteRequest, Observer, check_name
from engine.execute.seats import Seats
from engine.execute.walk import Walked, unselected, walk
from engine.keys import digest
from engine.plan.model import ExecutionPlan
from engine.records import NodeResult


def execute(
    plan: ExecutionPlan, request: ExecuteRequest, place: Place, store: ArtefactStore, observer: Observer
) -> tuple[NodeResult, ...]:
    """Execute a plan and give one result a node, in the plan's order.

    A failed node is a result, not an exception. After Ctrl-C or SIGTERM what had not ended is `cancelled`; the caller
    maps that to exit code 130. Raises `UsageError` (a selection or a force that cannot be met), `UnavailableError` (a
    scheduler or a resource that is not there), and what the observer raised.
    """
    _check(plan, request)
    cancellation = Cancellation()
    seats = Seats(request.cores) if request.cores is not None else None
    link = LocalLink(observer, cancellation, request.workers, seats)
    try:
        with Interrupts(cancellation) as interrupts:
            run = _Run(plan, request, place, store, link, interrupts)
            try:
                run.to_the_end()
            except KeyboardInterrupt:
                cancellation.cancel()
            results = run.results()
    finally:
        cancellation.close()
    if link.failure is not None:
        raise link.failure
    return results


def _check(plan: ExecutionPlan, request: ExecuteRequest) -> None:
    for name in request.force:
        check_name(plan, name, "--force")
    effects = {node.name for node in plan.nodes if node.effect}
    for node in plan.nodes:
        if node.kind not in (request.effects if node.effect else request.bodies):
            raise EngineError(f"`{node.name}`: nothing is registered that does the kind {node.kind}")
        if not node.effect and effects.intersection(node.inputs.values()):
            raise EngineError(f"`{node.name}` needs an effect; only an effect may follow one")
    if request.workers < 1 or (request.threads is not None and request.threads < 1):
        raise UsageError("workers and threads are at least 1", hint="set execute.workers=1 execute.threads=null")


@dataclass
class _Run:
    """The state of one execution: what is settled so far."""

    plan: ExecutionPlan
    request: ExecuteRequest
    place: Place
    store: ArtefactStore
    link: LocalLink
    interrupts: Interrupts
    settled: dict[str, NodeResult] = field(default_factory=dict)
    ran: set[str] = field(default_factory=set)

    def to_the_end(self) -> None:
        """Go on until nothing is pending; each round sets at least one damaged copy aside, so there is an end."""
        since = stopwatch()
        for _ in range(len(self.plan.nodes) + 1):
            walked = self._walk()
            if walked is None:
                break
            if walked.todo and not self.link.is_cancelled():
                self._run_todo(walked)
            if not any(self._is_pending(node.name) for node in walked.todo):
                self._do_effects()
            if self.link.is_cancelled() or not any(self._is_pending(node.name) for node in self.plan.nodes):
                break
        if not self.link.is_cancelled():
            hint = "the disk under the artefact store may be failing: `engine doctor` checks it"
            self._fail_pending(EngineError("its input is damaged each time it is made", hint=hint), ExitCode.INTEGRITY)
        self._narrator().run(
            "interrupted" if self.link.is_cancelled() else "executed", self._summary(stopwatch() - since)
        )

    def results(self) -> tuple[NodeResult, ...]:
        """Give a result for each node; what has none was cancelled."""
        for node in self.plan.nodes:
            result = self.settled.get(node.name)
            if result is None or result.state not in FINAL_STATES:
                running = self.link.last_state(node.name) == "running"
                reason = "interrupted" if running else "interrupted before it started"
                result = NodeResult(
                    name=node.name,
                    kind=node.kind,
                    state="cancelled",
                    reason=reason,
                    exit_code=int(ExitCode.INTERRUPTED),
                )
                self.settled[node.name] = result
            self._tell(result)
        return tuple(self.settled[node.name] for node in self.plan.nodes)

    def _walk(self) -> Walked | None:
        """Look up what can be; after the first round, a selection that cannot be met fails who waits for it."""
        try:
            walked = walk(self.plan, self.request, self.store, self.settled)
        except UsageError as error:
            if not self.settled:
                raise
            self._fail_pending(error, error.exit_code)
            return None
        first = not self.settled
        if first:
            effects = sum(node.effect for node in self.plan.nodes)
            cached = sum(result.state == "cached" for result in walked.settled.values())
            self._narrator().run("running", f"{len(walked.todo)} to run, {cached} cached, {effects} effects")
        self.settled |= walked.settled
        for result in walked.settled.values():
            self._tell(result)
        for node in walked.todo:
            self.settled.pop(node.name, None)
            self._narrator(node.name).state("pending")
        return walked

    def _run_todo(self, walked: Walked) -> None:
        from engine.execute.dispatch import Batch, dispatch  # noqa: PLC0415 - a no-op run needs none of it

        forced = {name: reason for name, reason in self.request.force.items() if name not in self.ran}
        batch = Batch(
            walked.todo, walked.settled, forced, self.request, self.place, _code_digest(self.plan, self.place.root)
        )
        for result in dispatch(batch, self.store, self.link, self.interrupts):
            self.settled[result.name] = result
            if result.state == "ran":
                self.ran.add(result.name)

    def _do_effects(self) -> None:
        from engine.execute.effects import EffectTask, run_effect  # noqa: PLC0415 - a no-op run without effects needs none of it

        for node in self.plan.nodes:
            done = self.settled.get(node.name)
            if not node.effect or (done is not None and done.state != "pending"):
                continue
            if self.link.is_cancelled():
                return
            if self.request.selected is not None and node.name not in self.request.selected:
                self.settled[node.name] = unselected(node)
                continue
            with self.interrupts.raising():
                task = EffectTask(node, self.request.effects[node.kind], self.settled)
                result = run_effect(task, self.store, self._narrator(node.name))
            self.settled[node.name] = result

    def _is_pending(self, name: str) -> bool:
        return name in self.settled and self.settled[name].state == "pending"

    def _fail_pending(self, error: EngineError, code: ExitCode) -> None:
        for name, result in self.settled.items():
            if result.state == "pending":
                kind = self.plan.node(name).kind
                self.settled[name] = NodeResult(
                    name=name, kind=kind, state="failed", error=str(error), exit_code=int(code)
                )

    def _tell(self, result: NodeResult) -> None:
        if self.link.last_state(result.name) != result.state:
            self._narrator(result.name).end(result)

    def _narrator(self, node: str | None = None) -> Narrator:
        return Narrator(self.link, self.request.clock, self.place.run_id, node)

    def _summary(self, seconds: float) -> str:
        counts = {
            state: sum(result.state == state for result in self.settled.values()) for state in sorted(FINAL_STATES)
        }
        return ", ".join(f"{count} {state}" for state, count in counts.items() if count) + f" in {seconds:.1f} s"


def _code_digest(plan: ExecutionPlan, root: Path) -> str:
    """Identify the project and all code that its nodes name; one child serves one such set."""
    named = sorted({(name, version) for node in plan.nodes for name, version in node.code.items()})
    return digest({"root": str(root), "code": list(named)})
