"""One serving process: everything opened in order, uvicorn until SIGTERM, everything closed in order.

Enters: a `ServePlan` of plain values, so that worker processes can be given it. Leaves: an exit code. Called by `engine
serve`, directly or in each worker.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from socket import socket

import uvicorn

from engine.clock import SystemClock
from engine.config.secrets import resolve_secret
from engine.errors import ExitCode, NotFoundError
from engine.records import ModelVersion
from engine.serve.app import Application, Limits
from engine.serve.feedback import FeedbackStore, decode_feedback
from engine.serve.follow import Follow
from engine.serve.lanes import LaneMaker
from engine.serve.metrics import Metrics
from engine.serve.opening import STATE_PLUGINS, States
from engine.serve.package import read_plugins
from engine.serve.prediction_log import decode_predictions
from engine.serve.protocol import LimitedProtocol
from engine.serve.sealing import Sealer
from engine.serve.segments import SegmentLimits
from engine.serve.service import Live, Service
from engine.serve.states import EventJournal
from engine.serve.takeover import Takeover
from engine.stores.artefacts import LocalArtefactStore
from engine.stores.database import open_database
from engine.stores.registry import Registry

DRAIN_SECONDS = 30


@dataclass(frozen=True)
class ServePlan:
    """What is served and where things are: plain values. `version` pins one; else the holder of `alias` is followed."""

    root: Path
    home: Path
    model: str
    alias: str | None
    version: int | None
    database: str
    artefacts: Path
    online: str
    plugins: tuple[str, ...] = ()
    token: str | None = None
    connections: int = 1024
    poll_seconds: float = 0.5
    limits: Limits = field(default_factory=Limits)
    log_limits: SegmentLimits = field(default_factory=SegmentLimits)

    @property
    def predictions(self) -> Path:
        """The prediction log's folder."""
        return self.home / "predictions"

    @property
    def feedback(self) -> Path:
        """The folder of labels."""
        return self.home / "feedback"

    @property
    def events(self) -> Path:
        """The folder of pushed events."""
        return self.home / "events"


def find_version(plan: ServePlan, registry: Registry) -> ModelVersion:
    """The version that the plan names now; raises `NotFoundError` with what there is."""
    if plan.version is None:
        held = registry.alias(plan.model, plan.alias or "champion")
        if held is not None:
            return held
        wanted = f"@{plan.alias}"
    else:
        wanted = f":{plan.version}"
        for version in registry.versions(plan.model):
            if version.version == plan.version:
                return version
    known = ", ".join(f"{item.name}:{item.version}" for item in registry.versions(plan.model)) or "none"
    raise NotFoundError(
        f"there is no {plan.model}{wanted}; registered: {known}",
        hint="train one: engine run pipeline=…; see engine models list",
    )


class Rooms:
    """What lanes of one process share: the artefact store, the online state's store, the journal of pushed events."""

    def __init__(self, plan: ServePlan, version: ModelVersion) -> None:
        """Open them; `version` says which plugins there are when the plan does not. Raises `EngineError`."""
        store = LocalArtefactStore(plan.artefacts)
        plugins = plan.plugins or (*read_plugins(store.open(version.digest)), *STATE_PLUGINS)
        self.metrics = Metrics()
        self.states = States(plan.online, plan.model, plan.root, tuple(dict.fromkeys(plugins)))
        self.journal = EventJournal(plan.events, plan.model)
        self.maker = LaneMaker(
            store,
            plan.root,
            self.states.open,
            self.journal,
            plan.predictions,
            plan.log_limits,
            self.metrics,
            SystemClock(),
        )

    def close(self) -> None:
        """Sync and close."""
        self.journal.close()
        self.states.close()


class Process:
    """What a serving process holds open."""

    def __init__(self, plan: ServePlan, say: Callable[[str], None]) -> None:
        """Open everything; raises `EngineError`, and leaves nothing open then."""
        self.plan = plan
        self._say = say
        self.registry = Registry(open_database(plan.database))
        version = find_version(plan, self.registry)
        token = resolve_secret(plan.token) if plan.token else None
        self.rooms = Rooms(plan, version)
        self.maker = self.rooms.maker
        try:
            lane = self.maker.open(version)
        except BaseException:
            self.rooms.close()
            raise
        sealers = Sealer(decode_predictions), Sealer(decode_feedback)
        sealers[0].sweep(sorted((plan.predictions / plan.model).glob("*")))
        sealers[1].sweep([plan.feedback / plan.model])
        feedback = FeedbackStore(plan.feedback, plan.model, plan.log_limits, sealers[1])
        self.service = Service(Live(lane), feedback, self.rooms.journal, self.rooms.metrics, self.maker.clock)
        self.app = Application(self.service, plan.limits, token)

    async def serve(self, listening: socket, started: Callable[[Process], None]) -> None:
        """Answer until SIGTERM or SIGINT; requests that have begun are finished."""
        config = uvicorn.Config(
            self.app, http=LimitedProtocol, ws="none", loop="uvloop", lifespan="off", log_config=None, access_log=False,
            server_header=False, date_header=False, proxy_headers=False, timeout_keep_alive=75,
            limit_concurrency=self.plan.connections, timeout_graceful_shutdown=DRAIN_SECONDS, backlog=2048,
        )  # fmt: skip
        server = _Server(config, self.service)
        tasks, follow = [], None
        if self.plan.version is None:
            takeover = Takeover(self.service, self.maker, self._find, self._say, self.plan.poll_seconds)
            follow = Follow(self.plan, self.service, self.maker, self.registry, self._say)
            tasks += [asyncio.create_task(takeover.watch()), asyncio.create_task(follow.watch())]
        gc.collect()
        gc.freeze()  # what is loaded stays: looking for garbage among it is a pause of an answer
        server.on_started = lambda: started(self)
        await server.serve(sockets=[listening])
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        if follow is not None:
            follow.close()

    def _find(self) -> ModelVersion | None:
        return self.registry.alias(self.plan.model, self.plan.alias or "champion")

    def close(self) -> None:
        """Sync and close everything."""
        self.app.batcher.close()
        for lane in self.service.live.lanes:
            self.maker.close(lane)
        self.service.feedback.writer.close()
        self.rooms.close()


class _Server(uvicorn.Server):
    """uvicorn that ends with its own exit code after SIGTERM, and says when it answers."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self.on_started: Callable[[], None] = lambda: None

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        self.on_started()

    @contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def _stop(self) -> None:
        """Drain; a second signal does not wait for anybody."""
        self.force_exit = self.should_exit
        self._service.draining = True
        self.should_exit = True


def run_process(plan: ServePlan, listening: socket, started: Callable[[Process], None]) -> int:
    """Serve in this process until told to stop."""
    import uvloop  # noqa: PLC0415 - start-up time of other commands

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    process = Process(plan, say)
    try:
        uvloop.run(process.serve(listening, started))
    finally:
        process.close()
    return ExitCode.OK
