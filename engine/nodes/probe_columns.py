"""Columns: what tells the groups of the test rows apart, for gates that compare groups.

Leaves `columns.parquet` (one row a test row, in the order of the predictions) and an empty `probe.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.contracts import Work
from engine.keys import Json
from engine.nodes.frames import write_document, write_frame
from engine.nodes.matrix import read_parts


def probe_columns(work: Work) -> Mapping[str, Json]:
    """Bring every column that some gate names."""
    settings: Any = work.settings
    names = sorted({name for asked in settings["asked"].values() for name in asked["names"]})
    (rows,) = read_parts(work.inputs["rows"], work.inputs["split"], ("test",), names)
    write_frame(work.out / "columns.parquet", rows.select(names))
    write_document(work.out / "probe.json", {})
    return {"rows": rows.height, "columns": names}
