"""The switch that ends a run: thrown by signal handlers, which may meet themselves."""

from __future__ import annotations

import itertools
import sys
import threading
from types import FrameType
from typing import Any

import pytest

from engine.execute.link import Cancellation


@pytest.mark.parametrize("moment", range(12))
def test_a_second_signal_in_the_middle_of_the_first_does_not_wait_for_it(moment: int) -> None:
    """Before any of its lines another handler may run, in the same thread: a lock would wait for itself for ever."""
    cancellation, lines = Cancellation(), itertools.count()

    def interrupt(_frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "line" and next(lines) == moment:
            cancellation.cancel()
        return interrupt

    def throw() -> None:
        sys.settrace(interrupt)
        try:
            cancellation.cancel()
        finally:
            sys.settrace(None)

    thread = threading.Thread(target=throw, daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
    assert cancellation.is_cancelled()
    assert cancellation.wait(0)
    cancellation.close()
    cancellation.cancel()  # afterwards too
