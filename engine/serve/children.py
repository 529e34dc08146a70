"""Child processes that import what they need and nothing else. Called by `sealing` and `workers`.

`spawn` would run the script that started this process again in the child, and the script of a command has no guard against
that; so the child is not told of it.
"""

from __future__ import annotations

import multiprocessing
import sys
import threading
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

_STARTING = threading.Lock()


def start_child(target: Callable[..., Any], arguments: tuple[Any, ...], name: str) -> BaseProcess:
    """Start `target(*arguments)` in a fresh interpreter; both must be importable or plain values."""
    main = sys.modules["__main__"]
    child = multiprocessing.get_context("spawn").Process(target=target, args=arguments, name=name)
    with _STARTING:
        hidden: dict[str, Any] = {
            key: main.__dict__.pop(key) for key in ("__file__", "__spec__") if key in main.__dict__
        }
        main.__spec__ = None
        try:
            child.start()
        finally:
            main.__dict__.update(hidden)
    return child
