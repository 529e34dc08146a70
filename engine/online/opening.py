"""Opening a pipeline's online state by URL, and refusing a program that it was not materialised for.

One store of cells holds a pipeline's states side by side, one a program, so that the next champion's is filled while the
present one is served. Called by serving and `engine features materialize`.

    program:<digest>      the program, when it was registered          <8 bytes of digest><key>      the cells of its state
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec

from engine.components import Catalogue
from engine.errors import IntegrityError, NotFoundError, UsageError
from engine.features.differences import differences
from engine.features.steps import FeatureProgram
from engine.online.state import EventState
from engine.online_contracts import Cells, Change, Get

FORMAT = 2
_PROGRAM = b"program:"
_SHOWN = 8


class Registered(msgspec.Struct, frozen=True, kw_only=True):
    """A program that the state was made for; `at` is RFC 3339."""

    format: int
    at: str
    program: msgspec.Raw


def open_cells(url: str, pipeline: str, catalogue: Catalogue) -> Cells:
    """Open the store behind a URL or a folder; raises `UsageError` for an unknown scheme."""
    scheme, separator, _ = url.partition("://")
    kind = scheme if separator else "file"
    known = catalogue.names("online")
    if kind not in known:
        raise UsageError(f"stores.online: {kind}:// is not supported", hint=f"a folder, or one of: {', '.join(known)}")
    component = catalogue.get("online", kind)
    cells: Cells = component.build(msgspec.convert({"url": url, "name": pipeline}, component.params))
    return cells


def programs_of(cells: Cells) -> Mapping[str, Registered]:
    """The programs that states were made for, by digest, the latest first."""
    keys = sorted(cells.keys(_PROGRAM))
    with cells.view() as get:
        read = zip(keys, get(keys), strict=True)
        found = {
            key[len(_PROGRAM) :].hex(): msgspec.json.decode(data, type=Registered)
            for key, data in read
            if data is not None
        }
    return dict(sorted(found.items(), key=lambda item: item[1].at, reverse=True))


def register(cells: Cells, program: FeatureProgram, at: str) -> EventState:
    """Make a state for a program, or open the one that is there."""
    key = _PROGRAM + bytes.fromhex(program.digest)
    body = msgspec.Raw(msgspec.json.encode(program.to_json()))
    made = msgspec.json.encode(Registered(format=FORMAT, at=at, program=body))
    cells.update(lambda get: {} if get([key]) != [None] else {key: made})
    with cells.view() as get:
        (held,) = get([key])
    _check_format(msgspec.json.decode(held or made, type=Registered))
    return EventState(program, Scoped(cells, bytes.fromhex(program.digest)[:8]))


def open_state(cells: Cells, program: FeatureProgram) -> EventState:
    """Open the state of a program; raises `IntegrityError` naming what differs when it is another program's."""
    found = programs_of(cells)
    if program.digest in found:
        _check_format(found[program.digest])
        held = _program(found[program.digest])
        if held.digest != program.digest:
            raise IntegrityError(refusal(held, program, "the online state", "this program"))
        return EventState(program, Scoped(cells, bytes.fromhex(program.digest)[:8]))
    if not found:
        raise NotFoundError("there is no online state yet", hint="engine features materialize pipeline=…")
    latest = _program(next(iter(found.values())))
    raise IntegrityError(
        refusal(latest, program, "the online state", "this program"),
        hint="engine features materialize pipeline=… makes a state for this program beside the other",
    )


def drop(cells: Cells, digest: str) -> None:
    """Remove the state of a program."""
    prefix = bytes.fromhex(digest)
    Scoped(cells, prefix[:8]).clear()
    cells.update(lambda _: {_PROGRAM + prefix: None})


def refusal(left: FeatureProgram, right: FeatureProgram, held: str, asked: str) -> str:
    """Say why two programs do not go together: each feature that differs, with both values."""
    found = differences(left, right)
    lines = [f"  {item}" for item in found[:_SHOWN]]
    more = [f"  … and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
    head = f"{held} is of program {left.digest[:12]}, {asked} is {right.digest[:12]}; they differ ({held} -> {asked}):"
    return "\n".join([head, *lines, *more])


def _check_format(registered: Registered) -> None:
    if registered.format != FORMAT:
        raise IntegrityError(
            f"the online state has format {registered.format}; this engine reads {FORMAT}",
            hint="engine features materialize --rebuild",
        )


def _program(registered: Registered) -> FeatureProgram:
    return FeatureProgram.from_json(msgspec.json.decode(registered.program))


class Scoped:
    """The cells of one state among others; fulfils `Cells`. Closing it closes them all."""

    def __init__(self, cells: Cells, prefix: bytes) -> None:
        self._cells = cells
        self._prefix = prefix

    @contextmanager
    def view(self) -> Iterator[Get]:
        """Give a reader."""
        with self._cells.view() as get:
            yield self._scoped(get)

    def update(self, change: Change) -> None:
        """Apply a change."""
        self._cells.update(lambda get: {self._prefix + key: value for key, value in change(self._scoped(get)).items()})

    def keys(self, prefix: bytes) -> Iterator[bytes]:
        """List the keys with a prefix."""
        return iter([key[len(self._prefix) :] for key in self._cells.keys(self._prefix + prefix)])

    def clear(self) -> None:
        """Remove this state's cells, in parts."""
        keys = list(self.keys(b""))
        for start in range(0, len(keys), 10_000):
            gone: dict[bytes, bytes | None] = dict.fromkeys(keys[start : start + 10_000])
            self.update(lambda _, gone=gone: gone)  # type: ignore[misc]

    def durability(self) -> str | None:
        """See `Cells`."""
        return self._cells.durability()

    def close(self) -> None:
        """Let go of the store."""
        self._cells.close()

    def _scoped(self, get: Get) -> Get:
        def read(keys: Sequence[bytes]) -> list[bytes | None]:
            return get([self._prefix + key for key in keys])

        return read
