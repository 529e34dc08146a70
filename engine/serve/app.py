"""The HTTP door as one raw ASGI application: routes, limits, who may ask, and errors that say what to do.

Enters: ASGI. Leaves: JSON answers. Called by uvicorn (`server`). Whatever a client sends, the answer is one of the 4xx that
says what is wrong; a 5xx is a fault of the server and carries an id under which it was written down.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from engine.clock import isoformat
from engine.errors import UnavailableError
from engine.serve.batching import Batcher, BatchLimits, OverloadedError
from engine.serve.bodies import Receive, Scope, read_body
from engine.serve.events import read_events
from engine.serve.feedback import read_labels
from engine.serve.mistakes import Mistake, RefusedError
from engine.serve.openapi import openapi
from engine.serve.page import render_page
from engine.serve.replies import Reply, answer, failed, problem, unavailable
from engine.serve.service import Prediction, Service
from engine.serve.standing import standing

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Take = Callable[[bytes], Awaitable[Reply]]
_OPEN = frozenset({"/healthz", "/readyz"})  # what probes ask, without a token
_POLICY = b"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"


@dataclass(frozen=True, slots=True)
class Limits:
    """`body` in bytes, `rows` of a request, seconds for an answer."""

    body: int = 8 << 20
    rows: int = 10_000
    answer_seconds: float = 30.0
    batch: BatchLimits = field(default_factory=BatchLimits)


class Application:
    """The routes over a `Service`. `token` is what a caller must bear, `None` when anybody on this machine may ask."""

    def __init__(self, service: Service, limits: Limits, token: str | None) -> None:
        self.service = service
        self._limits = limits
        self._token = b"Bearer " + token.encode() if token else None
        self.batcher: Batcher[list[Prediction]] = Batcher(service.score, limits.batch)
        self._takes: Mapping[str, Take] = {
            "/predict": self._predict, "/events": self._events, "/feedback": self._feedback,
        }  # fmt: skip
        self._gives: Mapping[str, Callable[[], Reply]] = {
            "/healthz": lambda: answer({"status": "alive"}), "/readyz": self._readyz, "/metrics": self._metrics,
            "/openapi.json": self._openapi, "/": self._page, "/docs": self._page,
        }  # fmt: skip

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        began = perf_counter()
        reply = await self._reply(scope, receive)
        headers = [(b"content-type", reply.kind), (b"content-length", b"%d" % len(reply.body)), *reply.headers]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})
        self.service.metrics.count(scope["path"], reply.status, perf_counter() - began)

    async def _reply(self, scope: Scope, receive: Receive) -> Reply:
        try:
            headers = dict(scope["headers"])
            take = self._admit(scope["path"], scope["method"], headers)
            if take is None:
                return self._gives[scope["path"]]()
            return await take(await read_body(headers, receive, self._limits.body))
        except RefusedError as refused:
            return problem(refused)
        except (OverloadedError, UnavailableError) as error:
            return unavailable(str(error))
        except TimeoutError:
            return problem(RefusedError(504, [Mistake("$", f"no answer within {self._limits.answer_seconds:g} s")]))
        except Exception as error:  # noqa: BLE001 - the last resort: a client must get an answer, and we the trace
            return failed(error)

    def _admit(self, path: str, method: str, headers: Mapping[bytes, bytes]) -> Take | None:
        """What takes the body, if the route has one; refuses unknown routes, strangers, and pages of other sites in a browser here."""
        take = self._takes.get(path)
        if take is None and path not in self._gives:
            raise RefusedError(404, [Mistake("$", "no such route", path[:80], ", ".join([*self._takes, *self._gives]))])
        wanted = "GET" if take is None else "POST"
        if method != wanted and (wanted, method) != ("GET", "HEAD"):
            raise RefusedError(405, [Mistake("$", f"{path} is asked with {wanted}", method, wanted)])
        if self._token is not None and path not in _OPEN:
            given = headers.get(b"authorization", b"")
            if not hmac.compare_digest(given, self._token):
                words = "send `Authorization: Bearer TOKEN` with the token that the server was started with"
                raise RefusedError(401, [Mistake("$", words)])
        origin = headers.get(b"origin")
        if origin is not None and take is not None and origin.partition(b"://")[2] != headers.get(b"host"):
            raise RefusedError(
                403, [Mistake("$", "requests of other sites' pages are refused", origin.decode("latin-1"))]
            )
        return take

    async def _predict(self, body: bytes) -> Reply:
        service = self.service
        rows = service.live.champion.served.schema.read(body, service.now(), self._limits.rows)
        if rows.count <= self._limits.batch.rows:  # such a batch cannot be interrupted, so it needs no watch
            made = await self.batcher.submit(rows)
        else:
            async with asyncio.timeout(self._limits.answer_seconds):
                made = await self.batcher.submit(rows)
        return answer({"predictions": made} if rows.many else made[0])

    async def _events(self, body: bytes) -> Reply:
        served = self.service.live.champion.served
        read = served.program.feature_sources
        async with asyncio.timeout(self._limits.answer_seconds):
            events = await asyncio.to_thread(read_events, body, served.sources, read, self._limits.rows)
            return answer(await asyncio.to_thread(self.service.push_events, events))

    async def _feedback(self, body: bytes) -> Reply:
        service = self.service
        block = read_labels(body, service.live.champion.served.model.target, service.now(), self._limits.rows)
        async with asyncio.timeout(self._limits.answer_seconds):
            count = await asyncio.to_thread(service.take_labels, block)
        return answer({"accepted": count, "received_at": isoformat(service.clock.now())})

    def _readyz(self) -> Reply:
        return answer(standing(self.service), 503 if self.service.draining else 200)

    def _metrics(self) -> Reply:
        self.service.metrics.queued.set(self.batcher.queued)
        return Reply(200, self.service.metrics.render(), b"text/plain; version=0.0.4; charset=utf-8")

    def _openapi(self) -> Reply:
        return answer(openapi(self.service.live.champion.served, self._limits.rows))

    def _page(self) -> Reply:
        page = render_page(self.service.live.champion.served, standing(self.service))
        headers = ((b"content-security-policy", _POLICY), (b"x-content-type-options", b"nosniff"))
        return Reply(200, page.encode(), b"text/html; charset=utf-8", headers)
