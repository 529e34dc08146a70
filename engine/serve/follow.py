"""A server follows the rollout that the ledger tells of: lanes and router are replaced together, and judged in between.

Called as a task of the server's loop. Of several processes of a project one judges at a time, by a lock; what it decides is
written by compare-and-swap, so two that judge at once decide once.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import TYPE_CHECKING

from engine.durations import microseconds
from engine.errors import ConflictError, EngineError
from engine.records import ModelVersion, RolloutState
from engine.serve.judging import judge
from engine.serve.lanes import LaneMaker
from engine.serve.rollout import router_of
from engine.serve.service import Lane, Service
from engine.serve.shadow import Shadow
from engine.stores import rollouts
from engine.stores.registry import Registry

if TYPE_CHECKING:
    from engine.serve.server import ServePlan

NOTE = "rollout"


@dataclass
class Follow:
    """Keeps a service in step with the model's rollout."""

    plan: ServePlan
    service: Service
    maker: LaneMaker
    registry: Registry
    say: Callable[[str], None]
    _seen: tuple[int, int] | None = None
    _lane: Lane | None = None
    _shadow: Shadow | None = None
    _judged: float = field(default_factory=monotonic)

    async def watch(self) -> None:
        """Look, follow and judge, until cancelled."""
        while True:
            await asyncio.sleep(self.plan.poll_seconds)
            try:
                state = await asyncio.to_thread(rollouts.current, self.registry, self.plan.model)
                if state is not None:
                    await self._follow(state)
                    await self._judge(state)
            except ConflictError:
                continue  # somebody else went on; the next look sees it
            except (EngineError, OSError) as error:
                self.service.notes[NOTE] = str(error)

    async def _follow(self, state: RolloutState) -> None:
        """Put lanes and router into place when the ledger, or the champion, has moved."""
        champion = self.service.live.champion.served.version.version
        if self._seen == (state.sequence, champion):
            return
        wanted = state.status == "running" and champion == state.champion
        splits = wanted and state.share > 0
        if splits:
            lane = await self._lane_of(state)
            if lane is None:
                return
            router = router_of(state, lambda _: None)
            self.service.live = replace(self.service.live, others=(lane,), router=router)
        elif wanted:
            shadow = self._shadow_of(state)
            self.service.live = replace(self.service.live, others=(), router=router_of(state, shadow.send))
        else:
            self.service.live = replace(self.service.live, others=(), router=None)
        if not splits:
            self._drop_lane()
        if splits or not wanted:
            await asyncio.to_thread(self._drop_shadow)
        self._seen = (state.sequence, champion)
        self.service.notes.pop(NOTE, None)
        self.say(f"rollout of {state.model}:{state.challenger}: {state.status} at {state.share:.2%} ({state.reason})")

    async def _lane_of(self, state: RolloutState) -> Lane | None:
        """The challenger's lane; a challenger that cannot be loaded holds the rollout."""
        if self._lane is not None and self._lane.served.version.version == state.challenger:
            return self._lane
        try:
            self._lane = await asyncio.to_thread(self.maker.open, self._version(state), "challenger")
        except (EngineError, OSError, ValueError, KeyError) as error:
            await self._hold(state, f"the challenger cannot be served: {error}")
            return None
        fields = self.service.live.champion.served.program.spine.request
        strange = [n for n, t in self._lane.served.program.spine.request.items() if fields.get(n) != t]
        if strange:
            self._drop_lane()
            words = f"the challenger asks for request fields that callers do not send: {', '.join(strange)}"
            await self._hold(state, words)
            return None
        return self._lane

    async def _hold(self, state: RolloutState, words: str) -> None:
        await asyncio.to_thread(rollouts.change, self.registry, state, rollouts.Decision("held", "engine", words))

    def _version(self, state: RolloutState) -> ModelVersion:
        return next(item for item in self.registry.versions(state.model) if item.version == state.challenger)

    def _shadow_of(self, state: RolloutState) -> Shadow:
        if self._shadow is None or not self._shadow.is_alive:
            self._shadow = Shadow(self.plan, self._version(state), self.service.metrics.shadow_dropped.inc)
        return self._shadow

    def _drop_lane(self) -> None:
        """Close the challenger's lane once no batch can use it any more."""
        lane, self._lane = self._lane, None
        if lane is not None:
            asyncio.get_running_loop().call_later(self.plan.limits.answer_seconds, self._close_later, lane)

    def _close_later(self, lane: Lane) -> None:
        asyncio.get_running_loop().run_in_executor(None, self.maker.close, lane)

    def _drop_shadow(self) -> None:
        shadow, self._shadow = self._shadow, None
        if shadow is not None:
            shadow.close()

    async def _judge(self, state: RolloutState) -> None:
        every = microseconds(str(state.spec.get("judge_every", "1m"))) / 1e6
        if state.status == "running" and monotonic() - self._judged >= every:
            self._judged = monotonic()
            await asyncio.to_thread(self._judge_alone)

    def _judge_alone(self) -> None:
        """Judge, unless another process of this project does."""
        self.plan.home.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.plan.home / "rollout.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            with suppress(BlockingIOError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                judge(self.registry, self.plan.predictions, self.plan.feedback, self.plan.model, self.maker.clock.now())
        finally:
            os.close(fd)

    def close(self) -> None:
        """Let go of what was opened for the rollout."""
        self._drop_shadow()
