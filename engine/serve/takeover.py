"""A new holder of the alias is taken over while requests are answered: loaded beside, checked, then swapped in at once.

Called as a task of the server's loop. Every version that cannot be served leaves the present one in place, is said aloud
in `/readyz`, and is tried again only when the alias moves, or after a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import monotonic

from engine.errors import EngineError
from engine.records import ModelVersion
from engine.serve.lanes import LaneMaker
from engine.serve.schema import RequestSchema
from engine.serve.service import Lane, Live, Service

_RETRY_SECONDS = 30.0
_LINGER_SECONDS = 35.0  # longer than an answer may take: a large batch may still write to the old log
NOTE = "takeover"


@dataclass
class Takeover:
    """Watches who holds the alias. `find` asks the registry; `say` tells people."""

    service: Service
    maker: LaneMaker
    find: Callable[[], ModelVersion | None]
    say: Callable[[str], None]
    seconds: float = 0.5
    _refused: str | None = None
    _refused_at: float = 0.0

    async def watch(self) -> None:
        """Look, and take over, until cancelled."""
        while True:
            await asyncio.sleep(self.seconds)
            try:
                version = await asyncio.to_thread(self.find)
            except EngineError as error:
                self.service.notes[NOTE] = f"the registry cannot be asked: {error.message}"
                continue
            if self._refused is None:
                self.service.notes.pop(NOTE, None)
            if version is not None and self._is_news(version):
                await self.take(version)

    def _is_news(self, version: ModelVersion) -> bool:
        present = self.service.live.champion.served.version
        if (version.name, version.version) == (present.name, present.version):
            self._refused = None
            return False
        return version.digest != self._refused or monotonic() - self._refused_at > _RETRY_SECONDS

    async def take(self, version: ModelVersion) -> bool:
        """Load a version and swap it in; false when it cannot be served, and everything stays as it is."""
        label = f"{version.name}:{version.version}"
        try:
            lane = await asyncio.to_thread(self._prepare, version)
        except (EngineError, OSError, ValueError, KeyError) as error:
            words = error.message if isinstance(error, EngineError) else f"{type(error).__name__}: {error}"
            self._refused, self._refused_at = version.digest, monotonic()
            self.service.notes[NOTE] = f"{label} holds the alias and cannot be served: {words}"
            self.service.metrics.takeovers.labels("refused").inc()
            self.say(self.service.notes[NOTE])
            return False
        before = self.service.live.champion
        self.service.live = Live(lane)  # a rollout against the version before has ended with it
        self._refused = None
        self.service.notes.pop(NOTE, None)
        self.service.metrics.takeovers.labels("taken").inc()
        self.say(f"{label} answers now, instead of {before.served.label}")
        asyncio.get_running_loop().call_later(_LINGER_SECONDS, self._close_later, before)
        return True

    def _prepare(self, version: ModelVersion) -> Lane:
        lane = self.maker.open(version)
        try:
            schema = succeed(self.service.live.champion.served.schema, lane.served.schema)
        except EngineError:
            self.maker.close(lane)
            raise
        return with_schema(lane, schema)

    def _close_later(self, lane: Lane) -> None:
        asyncio.get_running_loop().run_in_executor(None, self.maker.close, lane)


def succeed(before: RequestSchema, after: RequestSchema) -> RequestSchema:
    """The next model's schema, which also accepts what the last one asked for; raises when callers would have to change."""
    known = {**before.ignored, **before.fields}
    strange = {name: type_ for name, type_ in after.fields.items() if known.get(name) != type_}
    if strange:
        listed = ", ".join(f"{name} ({type_})" for name, type_ in strange.items())
        raise EngineError(
            f"it asks for request fields that callers do not send: {listed}",
            hint="change the callers, then start the server anew with this version",
        )
    return RequestSchema(after.fields, {name: type_ for name, type_ in known.items() if name not in after.fields})


def with_schema(lane: Lane, schema: RequestSchema) -> Lane:
    """The same lane behind another request schema."""
    return replace(lane, scorer=lane.scorer.behind(schema))
