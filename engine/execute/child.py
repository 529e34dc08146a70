"""The process that runs bodies: reads assignments from a pipe, imports what they name, answers, and waits for more.

`pool` starts it with `main(lifeline)`. It dies at once, with its whole process group, when the process that owns it
does: the kernel signals the group when the other end of the lifeline closes, even if the body holds the interpreter's
lock. Standard output of bodies goes to standard error, which the owner reads as the node's log. Unused for a minute, it
leaves.
"""

from __future__ import annotations

import errno
import faulthandler
import fcntl
import gc
import importlib
import math
import os
import re
import resource
import select
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from engine.contracts import IN_TURN, UNMEASURED, Artefact, Place, Work, is_told, load_body
from engine.errors import EngineError, ExitCode, UnavailableError
from engine.execute.wire import (
    IDLE_SECONDS,
    Answered,
    Asked,
    Assignment,
    Declined,
    Down,
    Failed,
    Finished,
    Frames,
    Measured,
    Message,
    Prepare,
    Told,
    encode,
)
from engine.keys import Json, canonical_json

_DIGITS = re.compile(r"[0-9.]+")
_PROGRESS_SECONDS = 0.1
_RESET_PEAK = "5"  # proc_pid_clear_refs(5): the peak of resident memory starts again from now


def main(lifeline: int) -> None:
    """Serve until the owner leaves or nothing has come for a minute; never returns."""
    inbox, outbox = os.dup(0), os.dup(1)  # not inherited by what a body starts
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    die_with_owner(lifeline)
    faulthandler.enable()
    gc.set_threshold(50_000, 20, 20)
    owner = Owner(inbox, outbox)
    while (message := owner.hear(IDLE_SECONDS)) is not None:
        match message:
            case Prepare():
                _prepare(message)
            case Assignment():
                owner.tell(perform(message, owner))
            case Answered() | Declined():
                break  # nothing was asked: the two have lost each other
    os._exit(0)  # nothing here needs tearing down, and thread pools of libraries take their time


class Owner:
    """The process that gives the work: what it says is read here, and what is told it goes out whole."""

    def __init__(self, inbox: int, outbox: int) -> None:
        self._inbox, self._outbox = inbox, outbox
        self._frames = Frames()
        self._waiting: deque[Down] = deque()

    def hear(self, seconds: float | None) -> Down | None:
        """Give the next message; `None` when nothing came for so long, or the owner has left."""
        while not self._waiting:
            if not select.select([self._inbox], [], [], seconds)[0]:
                return None
            data = os.read(self._inbox, 1 << 16)
            if not data:
                return None
            self._waiting.extend(msgspec.json.decode(body, type=Down) for body in self._frames.feed(data))
        return self._waiting.popleft()

    def tell(self, message: Message) -> None:
        """Send a message; what the body printed comes before what it says."""
        sys.stdout.flush()
        sys.stderr.flush()
        data = memoryview(encode(message))
        while data:
            data = data[os.write(self._outbox, data) :]


def die_with_owner(lifeline: int) -> None:
    """Have the kernel kill this process group when the lifeline's other end closes; elsewhere a thread does it."""
    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    else:
        threading.Thread(target=_watch, args=(lifeline,), daemon=True).start()
    if select.select([lifeline], [], [], 0)[0]:  # the owner left before the signal was armed
        os.killpg(os.getpgrp(), signal.SIGKILL)


def _watch(lifeline: int) -> None:
    os.read(lifeline, 1)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _prepare(message: Prepare) -> None:
    """Import ahead of time; what fails here is only a head start lost, and the assignment will say what is wrong."""
    for module in message.modules:
        with suppress(Exception):
            importlib.import_module(module)
    if message.components:
        threading.Thread(target=_prewarm, args=(message,), daemon=True).start()


def _prewarm(message: Prepare) -> None:
    with suppress(Exception):
        from engine.components import keep_catalogue  # noqa: PLC0415 - beside the first work

        catalogue = keep_catalogue(Path(message.root), message.plugins)
        for role, name in message.components:
            with suppress(Exception):
                catalogue.get(role, name).prewarm()  # type: ignore[arg-type]


def perform(assignment: Assignment, owner: Owner) -> Finished | Failed:
    """Run one body; whatever it raises becomes a `Failed`."""
    _reset_peak()
    try:
        notes = dict(load_body(assignment.body)(_work(assignment, owner)))
        canonical_json(notes)  # refuses what would not survive being written down
        return Finished(notes, _peak_bytes())
    except _PartFailedError as error:
        return error.failed
    except EngineError as error:
        trace = traceback.format_exc() if error.__cause__ is not None else None
        retry = isinstance(error, UnavailableError)
        return Failed(text=str(error), exit_code=int(error.exit_code), retry=retry, trace=trace)
    except MemoryError:
        hint = "run fewer nodes at a time (execute.workers), or try --sample 10%"
        return _unexpected(UnavailableError("there is not enough memory", hint=hint))
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            hint = "free some space (`engine gc` deletes what no run needs), then run again"
            return _unexpected(UnavailableError(f"the disk is full: {error}", hint=hint))
        return _unexpected(_described(error))
    except BaseException as error:  # noqa: BLE001 - SystemExit too: a body must not end its process quietly
        return _unexpected(_described(error))


def _work(assignment: Assignment, owner: Owner) -> Work:
    place = assignment.place
    return Work(
        node=assignment.node,
        settings=assignment.settings,
        inputs={role: Artefact(Path(item.path), item.digest, item.notes) for role, item in assignment.inputs.items()},
        out=Path(assignment.out),
        place=Place(
            Path(place.root),
            place.snapshots,
            place.artefacts,
            place.plugins,
            place.threads,
            place.run_id,
            place.cluster,
        ),
        progress=_Throttle(owner.tell),
        measured=_Sparse(owner.tell) if assignment.measure else UNMEASURED,
        parts=_Elsewhere(owner, assignment.beside) if assignment.beside else IN_TURN,
    )


class _PartFailedError(EngineError):
    """A part that ran elsewhere has failed, and said so in its own words."""

    def __init__(self, declined: Declined) -> None:
        super().__init__(declined.text)
        self.failed = Failed(text=declined.text, exit_code=declined.exit_code, retry=False, trace=None)


class _Elsewhere:
    """Parts in other processes, which the owner knows."""

    def __init__(self, owner: Owner, beside: int) -> None:
        self._owner = owner
        self.beside = beside

    def run(self, work: Work, body: str, settings: Sequence[Mapping[str, Json]]) -> list[Mapping[str, Json]]:
        """See `Parts`; one part alone is done here."""
        if len(settings) < 2:
            return IN_TURN.run(work, body, settings)
        self._owner.tell(Asked(body, tuple(dict(part) for part in settings)))
        match self._owner.hear(None):
            case Answered(notes):
                return list(notes)
            case Declined() as declined:
                raise _PartFailedError(declined)
            case _:
                raise EngineError("the process that owns this one has left")


class _Sparse:
    """Passes intermediate metrics on, at the steps that are told."""

    def __init__(self, send: Callable[[Message], None]) -> None:
        self._send = send

    def __call__(self, step: int, value: float) -> None:
        """Pass a metric on."""
        if is_told(step) and math.isfinite(value):
            self._send(Measured(int(step), float(value)))


class _Throttle:
    """Progress that may be reported as often as a body likes, and is passed on ten times a second."""

    def __init__(self, send: Callable[[Message], None]) -> None:
        self._send = send
        self._next = 0.0
        self._last: str | None = None
        self._lock = threading.Lock()

    def __call__(self, message: str, rows: int | None, done: float | None) -> None:
        """Report; a change of words always goes out, one of numbers alone waits its turn."""
        now, words = time.monotonic(), _DIGITS.sub("", str(message))
        with self._lock:
            if now < self._next and words == self._last:
                return
            self._next, self._last = now + _PROGRESS_SECONDS, words
            self._send(Told(str(message), None if rows is None else int(rows), None if done is None else float(done)))


def _described(error: BaseException) -> EngineError:
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name})" if frames else ""
    words = str(error).strip().split("\n", 1)[0]
    hint = "this is a defect of the node, not of your data; the whole traceback is in the run's events.jsonl"
    return EngineError(
        f"{type(error).__name__}: {words}{where}" if words else f"{type(error).__name__}{where}", hint=hint
    )


def _unexpected(error: EngineError) -> Failed:
    code = error.exit_code if isinstance(error, UnavailableError) else ExitCode.INTERNAL
    return Failed(text=str(error), exit_code=int(code), retry=False, trace=traceback.format_exc())


def _reset_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        return  # the peak is then that of the process so far


def _peak_bytes() -> int:
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
