"""One computation of an action at a time: an advisory lock a key, between processes and threads.

The kernel frees a lock when its holder dies, so none is ever stale. Where locks do not work (an object store, some file
systems), both compute: the store is idempotent, so that costs time, never correctness.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_FIRST_WAIT = 0.02
_LONGEST_WAIT = 0.5

Wait = Callable[[float], bool]
"""`wait(seconds)` gives true when the wait was cancelled."""


@contextmanager
def hold_action(artefacts: str, key: str, wait: Wait, announce: Callable[[], None]) -> Iterator[bool]:
    """Hold the lock of a key; gives whether somebody else had it before us. Calls `announce` once before waiting.

    A cancelled wait goes on without the lock: the caller looks at its cancellation next anyway.
    """
    if "://" in artefacts:
        yield False
        return
    path = Path(artefacts) / "locks" / f"{key}.lock"
    handle, waited = _acquire(path, wait, announce)
    try:
        yield waited
    finally:
        if handle is not None:
            with suppress(OSError):
                path.unlink()  # while it is held: who waits for this very file finds its name gone and starts over
            os.close(handle)


def _acquire(path: Path, wait: Wait, announce: Callable[[], None]) -> tuple[int | None, bool]:
    pause, waited = _FIRST_WAIT, False
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError:
            return None, waited  # a store that cannot be written to will say so itself, in better words
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            if not waited:
                announce()
            waited = True
            if wait(pause):
                return None, waited
            pause = min(pause * 2, _LONGEST_WAIT)
            continue
        except OSError:
            os.close(handle)
            return None, waited
        if _is_current(path, handle):
            return handle, waited
        os.close(handle)


def _is_current(path: Path, handle: int) -> bool:
    """Say whether the name still leads to the file that we hold: its last holder removes it."""
    try:
        named = path.stat()
    except OSError:
        return False
    held = os.fstat(handle)
    return (named.st_ino, named.st_dev) == (held.st_ino, held.st_dev)
