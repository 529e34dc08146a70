"""Child processes that run bodies: started when needed, kept for the next body, killed whole.

Called by `attempts` in whatever process runs the node (the command line's, or a Dask worker's); each has one `POOL`.
Waiting for a child costs no polling: answers, output, exit and cancellation are descriptors of one selector.
"""

from __future__ import annotations

import atexit
import json
import math
import os
import select
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, TypeAlias

import msgspec

from engine.execute.errand import Errand
from engine.execute.link import Division, Link
from engine.execute.wire import (
    IDLE_SECONDS,
    Asked,
    Assignment,
    Failed,
    Finished,
    Frames,
    Measured,
    Prepare,
    Told,
    Up,
    encode,
)

_POLL_SECONDS = 0.2  # how often a link without a descriptor is asked for cancellation
_MAX_LINE = 4096
_BLANK = ""  # the code of a child that has loaded none of ours
_LIBRARIES = ("polars", "numpy", "pygit2")
_BLOCK = 1 << 16
_THREAD_CAPS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "POLARS_MAX_THREADS",
)
_SPINS = "1000"  # what libgomp itself takes when it knows that there are more threads than cores
_START = """
import json, sys
sys.path[:] = json.loads(sys.argv[2])
from engine.execute.child import main
main(int(sys.argv[1]))
"""


@dataclass(frozen=True, slots=True)
class Seat:
    """What two bodies must have in common to share a child: how many threads, and which code (`code`: its digest)."""

    threads: int
    code: str


@dataclass(frozen=True, slots=True)
class Crashed:
    """The child died; `status` as `Popen.returncode`: negative for a signal."""

    status: int


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The body took too long; its child was killed."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The run was cancelled; the child was killed."""


Outcome: TypeAlias = Finished | Failed | Crashed | TimedOut | Cancelled


@dataclass(frozen=True, slots=True)
class Ears:
    """Where a child's words go: progress, metrics, parts to be run, and what it writes on standard output and error, by line."""

    progress: Callable[[Told], None]
    line: Callable[[str], None]
    metric: Callable[[Measured], None]
    divide: Callable[[Asked], Division]


class Child:
    """One child process. One thread talks to it at a time."""

    def __init__(self, seat: Seat, process: subprocess.Popen[bytes], lifeline: int) -> None:
        self.seat = seat
        self.idle_since = time.monotonic()
        self._process = process
        self._lifeline = lifeline
        self._frames = Frames()
        self._partial = b""
        self._decoder = msgspec.json.Decoder(Up)
        self._pidfd = os.pidfd_open(process.pid)
        self._inbox, self._outbox, self._errors = (
            _pipe(end).fileno() for end in (process.stdin, process.stdout, process.stderr)
        )
        for descriptor in (self._inbox, self._outbox, self._errors):
            os.set_blocking(descriptor, False)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def is_fit(self) -> bool:
        """Say whether it can take work: it runs, and is not about to leave because nothing came for a while."""
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)  # asks without reaping, so that the process group keeps its id
        return time.monotonic() - self.idle_since < IDLE_SECONDS / 2 and not poll.poll(0)

    def prepare(self, wanted: Prepare) -> None:
        """Have it import what it will need while nobody waits; a small message, which a fresh pipe always takes."""
        with suppress(OSError):
            os.write(self._inbox, encode(wanted))

    def run(self, assignment: Assignment, seconds: float, link: Link, ears: Ears) -> Outcome:
        """Run one body. After anything but `Finished` and `Failed` the child is dead."""
        wake = link.descriptor()
        errand = Errand(assignment, seconds, math.inf if wake is not None else _POLL_SECONDS)
        with selectors.DefaultSelector() as selector:
            for descriptor in (self._outbox, self._errors, self._pidfd, *(() if wake is None else (wake,))):
                selector.register(descriptor, selectors.EVENT_READ)
            selector.register(self._inbox, selectors.EVENT_WRITE)
            try:
                while (outcome := self._attend(errand, selector, link, ears)) is None:
                    pass
            finally:
                errand.abandon()
            return outcome

    def _attend(self, errand: Errand, selector: selectors.BaseSelector, link: Link, ears: Ears) -> Outcome | None:
        """Wait for whatever comes next, and do what it asks; gives the outcome once there is one."""
        seconds = errand.wait()
        if seconds <= 0:
            return self._stop(TimedOut(), ears)
        ready = {key.fd for key, _ in selector.select(seconds)}
        if link.is_cancelled():
            return self._stop(Cancelled(), ears)
        if self._inbox in ready:
            errand.outgoing = self._write(errand.outgoing)
            if not errand.outgoing:
                selector.unregister(self._inbox)
        answer = self._hear(ears)
        if isinstance(answer, Asked):
            errand.division = ears.divide(answer)
        elif answer is not None:
            return answer
        if errand.has_reply():
            selector.register(self._inbox, selectors.EVENT_WRITE)
        return self._stop(None, ears) if self._pidfd in ready else None

    def kill(self) -> int:
        """Kill the process and all that it started, and give its status; any number of times."""
        if self._pidfd >= 0:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)  # before it is waited for, so the id is still its own
            self._process.wait()
            os.close(self._lifeline)
            os.close(self._pidfd)
            self._pidfd = -1
            for end in (self._process.stdin, self._process.stdout, self._process.stderr):
                with suppress(OSError):
                    _pipe(end).close()
        return self._process.returncode

    def _stop(self, outcome: TimedOut | Cancelled | None, ears: Ears) -> Outcome:
        """End the child; if it died by itself its last words are heard first, and may be an answer after all."""
        answer = self._hear(ears) if outcome is None else None
        self._listen(ears, last=True)
        status = self.kill()
        return answer if isinstance(answer, Finished | Failed) else outcome or Crashed(status)

    def _write(self, outgoing: memoryview) -> memoryview:
        try:
            return outgoing[os.write(self._inbox, outgoing) :]
        except BlockingIOError:
            return outgoing
        except OSError:
            return outgoing[:0]  # it died: the selector says so next

    def _hear(self, ears: Ears) -> Finished | Failed | Asked | None:
        answer: Finished | Failed | Asked | None = None
        while data := _read(self._outbox):
            for body in self._frames.feed(data):
                match self._decoder.decode(body):
                    case Told() as told:
                        ears.progress(told)
                    case Measured() as measured:
                        ears.metric(measured)
                    case Finished() | Failed() | Asked() as found:
                        answer = found
        self._listen(ears, last=isinstance(answer, Finished | Failed))
        return answer

    def _listen(self, ears: Ears, *, last: bool) -> None:
        while data := _read(self._errors):
            *lines, self._partial = (self._partial + data).split(b"\n")
            for line in lines:
                ears.line(_text(line))
            if len(self._partial) > _MAX_LINE:
                ears.line(_text(self._partial))
                self._partial = b""
        if last and self._partial:
            ears.line(_text(self._partial))
            self._partial = b""


class WorkerPool:
    """The children of this process: idle ones by seat. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: dict[Seat, list[Child]] = {}
        self._registered = False

    def start_ahead(self, threads: int) -> None:
        """Start a child before it is known for what: it imports data libraries, and nothing of a project's or ours."""
        child = self._start(Seat(threads, _BLANK))
        child.prepare(Prepare(_LIBRARIES))
        self.release(child)

    def warm(self, seat: Seat, wanted: Sequence[Prepare]) -> None:
        """Have an idle child for each of these, started ahead of its work and importing what it will need by now."""
        with self._lock:
            idle = sum(child.is_fit() for child in self._idle.get(seat, ()))
        for prepare in wanted[idle:]:
            child = self._take_blank(seat) or self._start(seat)
            child.prepare(prepare)
            self.release(child)

    def _take_blank(self, seat: Seat) -> Child | None:
        """Give a child that was started ahead, for this seat from now on."""
        with self._lock:
            blank = self._idle.get(Seat(seat.threads, _BLANK))
            child = blank.pop() if blank else None
        if child is not None:
            child.seat = seat
        return child if child is not None and child.is_fit() else None

    def acquire(self, seat: Seat) -> Child:
        """Give an idle child of that seat, or a new one; raises `OSError` when none can be started."""
        while True:
            with self._lock:
                idle = self._idle.get(seat)
                child = idle.pop() if idle else None
            if child is None:
                return self._start(seat)
            if child.is_fit():
                return child
            self.discard(child)

    def release(self, child: Child) -> None:
        """Take a child back."""
        child.idle_since = time.monotonic()
        with self._lock:
            self._idle.setdefault(child.seat, []).append(child)

    def discard(self, child: Child) -> None:
        """Kill a child that was acquired; it is not given again."""
        child.kill()

    def close(self) -> None:
        """Kill all idle children; those at work belong to the threads that wait for them."""
        with self._lock:
            idle = [child for children in self._idle.values() for child in children]
            self._idle.clear()
        for child in idle:
            self.discard(child)

    def _start(self, seat: Seat) -> Child:
        reader, writer = os.pipe()
        try:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and code
                [sys.executable, "-c", _START, str(reader), json.dumps(sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                pass_fds=(reader,),
                start_new_session=True,  # a terminal's Ctrl-C is ours to handle, and its group is one to kill
                env=child_environment(seat.threads),
            )
        except BaseException:
            os.close(writer)
            raise
        finally:
            os.close(reader)
        child = Child(seat, process, writer)
        with self._lock:
            if not self._registered:
                self._registered = True
                atexit.register(self.close)
        return child


def child_environment(threads: int) -> dict[str, str]:
    """Give a child's environment: as many threads as its slot has, and one order for hashed sets in every process.

    >>> child_environment(3)["POLARS_MAX_THREADS"]
    '3'
    """
    environment = {
        **os.environ,
        **dict.fromkeys(_THREAD_CAPS, str(threads)),
        "PYTHONHASHSEED": "0",
        "PYTHONUNBUFFERED": "1",
    }
    if "OMP_WAIT_POLICY" not in environment:
        # OpenMP threads spin for each other: as long as they do by default, 300,000 times, a round of boosting that takes
        # 3 ms took 440 ms beside other busy processes, and a training of seconds looked like one that hangs.
        environment.setdefault("GOMP_SPINCOUNT", _SPINS)
    return environment


POOL = WorkerPool()
"""This process's children. Empty until something asks."""


def _pipe(end: IO[bytes] | None) -> IO[bytes]:
    if end is None:
        raise RuntimeError("a child was started without its pipes")
    return end


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _BLOCK)
    except BlockingIOError:
        return b""


def _text(line: bytes) -> str:
    return line[:_MAX_LINE].decode(errors="replace").rstrip("\r")
