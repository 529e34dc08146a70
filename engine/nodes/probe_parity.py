"""Parity: the features that training used, computed again as serving would, bit for bit.

Leaves `probe.json`, for each gate: how many values were compared, and how many differ, by feature. The program is the
model's own, as it will be packaged; the rows are the features node's; the events come from the snapshot, out of order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import polars as pl

from engine.components import catalogue_of
from engine.contracts import Work
from engine.features.program import EVENT_TIME
from engine.features.timestamps import moment_of
from engine.keys import Json
from engine.nodes.features import ROW_ID
from engine.nodes.frames import read_source, source_inputs, write_document
from engine.nodes.matrix import load_model, read_parts
from engine.online.replay import Sampling, replay
from engine.spec.probes import ParityProbe


def probe_parity(work: Work) -> Mapping[str, Json]:
    """Replay a sample for every gate that asks."""
    settings: Any = work.settings
    program = load_model(work.inputs["model"].path, catalogue_of(work.place)).program
    as_of = moment_of(settings["as_of"]) if settings["as_of"] is not None else None
    inputs = source_inputs(work)
    history = {name: read_source(work, inputs[name], program.source_columns(name)) for name in program.feature_sources}
    wanted = (ROW_ID, EVENT_TIME, *program.spine.request, *program.computed_names)
    parts = read_parts(
        work.inputs["rows"], work.inputs["split"], ("train", "validation", "test"), [*dict.fromkeys(wanted)]
    )
    rows = pl.concat(parts)
    found: dict[str, Any] = {}
    for name, item in settings["asked"].items():
        asked = msgspec.convert(item, ParityProbe)
        work.progress(f"parity: {name}", rows.height, None)
        found[name] = replay(program, rows, history, Sampling(asked.rows, asked.events), as_of)
    write_document(work.out / "probe.json", found)
    return {
        name: {key: item[key] for key in ("compared", "mismatches", "missing", "extra")} for name, item in found.items()
    }
