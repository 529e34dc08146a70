"""Pushed events, read as ingest reads a source: the declared columns, then derivations, filter and quantisation.

Enters: `POST /events`. Leaves: rows for the online state, and a journal from which another program's state is filled. An
event is in the journal and in the state, both durably, when it is acknowledged. Called by the application.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import msgspec
import polars as pl

from engine.errors import EngineError
from engine.features.lowered_functions import DTYPES
from engine.features.sources import ingest_source
from engine.features.steps import SourceProgram
from engine.serve.mistakes import Mistake, RefusedError, misfit, shorten


class EventsBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Events of one source; a `token` makes a repeated push of a source without ids a repetition."""

    source: str
    events: list[dict[str, Any]]
    token: str | None = None


_body = msgspec.json.Decoder(EventsBody)


@dataclass(frozen=True, slots=True)
class Events:
    """Typed events: `rows` as ingest would have left them; `filtered` were left out by the source's `where`; `raw` as sent."""

    source: str
    rows: pl.DataFrame
    filtered: int
    token: str
    raw: list[dict[str, Any]]


def read_events(body: bytes, sources: Mapping[str, SourceProgram], read: Sequence[str], most: int) -> Events:
    """Read and type events; raises `RefusedError` with every mistake. `read` are the sources that features read."""
    try:
        found = _body.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        status = 422 if isinstance(error, msgspec.ValidationError) else 400
        raise RefusedError(status, [Mistake("$", str(error))], 'send {"source": "name", "events": [{…}]}') from None
    if read and not sources:
        words = "this package was made by an earlier engine and does not say how events are typed"
        raise RefusedError(422, [Mistake("$.source", words)], "run the pipeline again, and serve what it registers")
    program = sources.get(found.source)
    if program is None or found.source not in read:
        near = get_close_matches(found.source, list(read), 1)
        meant = f" (did you mean `{near[0]}`?)" if near else ""
        words = f"no feature reads a source of this name{meant}"
        raise RefusedError(422, [Mistake("$.source", words, shorten(found.source), ", ".join(read) or "none")])
    if not 0 < len(found.events) <= most:
        words = f"1 to {most} events are expected, {len(found.events)} found"
        raise RefusedError(413 if found.events else 422, [Mistake("$.events", words)])
    token = found.token or hashlib.sha256(body).hexdigest()[:32]
    return type_events(program, found.events, token)


def type_events(program: SourceProgram, events: Sequence[Mapping[str, Any]], token: str) -> Events:
    """Type decoded events; raises `RefusedError` for a misfit, an unknown column, or a row without time, id or key."""
    mistakes = [item for index, event in enumerate(events) for item in _misfits(program, index, event)]
    if mistakes:
        raise RefusedError(422, mistakes[:50])
    raw = {name: [event.get(name) for event in events] for name in program.declared}
    schema = {name: pl.String if type_ == "timestamp" else DTYPES[type_] for name, type_ in program.declared.items()}
    try:
        made = ingest_source(program, pl.DataFrame(raw, schema=schema))
    except (EngineError, pl.exceptions.PolarsError, OverflowError) as error:
        raise RefusedError(422, [Mistake("$.events", str(error))]) from None
    if made.not_castable:
        name = next(iter(made.not_castable))
        raise RefusedError(422, [Mistake("$.events", f"`{name}` cannot be read as {program.declared[name]}",
                                         str(dict(made.lost.get(name, ({},))[0])))])  # fmt: skip
    needed = [name for name in dict.fromkeys((program.time, program.id, *program.key)) if name]
    lacking = {name: made.frame[name].null_count() for name in needed if made.frame[name].null_count()}
    if lacking:
        raise RefusedError(
            422,
            [
                Mistake(f"$.events[*].{name}", f"null in {count} events, and it is needed")
                for name, count in lacking.items()
            ],
        )
    return Events(program.name, made.frame, len(events) - made.frame.height, token, list(map(dict, events)))


def _misfits(program: SourceProgram, index: int, event: Any) -> Iterator[Mistake]:
    for name, value in event.items():
        if name not in program.declared:
            yield Mistake(f"$.events[{index}].{name}", "unknown column", shorten(value), ", ".join(program.declared))
        elif found := misfit(value, program.declared[name]):
            yield Mistake(f"$.events[{index}].{name}", found, shorten(value), program.declared[name])
