"""Plumbline: a declarative ML pipeline engine. Read `engine/api.py` first: it is the table of contents."""

import atexit
import gc

__version__ = "0.1.0"

# Collecting msgspec's classes while the interpreter ends frees parts of them twice (msgspec 0.22), which kills the process
# in one of ten exits. What is frozen is not collected; the memory goes with the process.
atexit.register(gc.freeze)
