"""The embedded scheduler and signals."""

from __future__ import annotations

import os
import signal
import threading

from engine.execute.embedded import run_embedded


def test_a_signal_is_heard_although_the_wait_for_the_graph_was_not_interrupted():
    heard, over = threading.Event(), threading.Event()
    before = signal.signal(signal.SIGUSR1, lambda *_: heard.set())
    other = threading.Thread(target=over.wait)  # takes the signal in place of the main thread, which so goes on waiting
    other.start()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:

        def body(*_):
            os.kill(os.getpid(), signal.SIGUSR1)
            return heard.wait(10.0)

        assert run_embedded({"a": (body,)}, ["a"], 1) == [True]
    finally:
        over.set()
        other.join()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGUSR1, before)
