"""What every spec is made of: a frozen strict struct, identifiers, durations, and prose that is not part of a key."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec

from engine.durations import DURATION_PATTERN
from engine.keys import Json

Identifier: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=120)]
Duration: TypeAlias = Annotated[
    str,
    msgspec.Meta(pattern=DURATION_PATTERN, description="whole number and unit, as in 30d", examples=["6h", "30d"]),
]
SqlText: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=4000, description="a SQL scalar expression")]
NonNegativeInt: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
PositiveInt: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]
Fraction: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1)]
Prose: TypeAlias = Annotated[str, msgspec.Meta(extra={"prose": True}, description="for people; never part of a key")]
ColumnType: TypeAlias = Annotated[
    str, msgspec.Meta(pattern="^(bool|i64|f64|str|timestamp)$", description="timestamp is UTC microseconds")
]


S = TypeVar("S", bound=msgspec.Struct)


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all specs: frozen, and strict about unknown keys. Subclasses repeat `frozen=True, kw_only=True`."""


def identity(value: Any) -> Json:
    """Turn a spec into plain JSON without its prose: what a key may depend on. Pure; defaults are written out."""
    if isinstance(value, msgspec.Struct):
        return {encoded: identity(getattr(value, name)) for name, encoded in _kept_fields(type(value))}
    if isinstance(value, dict):
        return {key: identity(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [identity(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a spec holds JSON, not {type(value).__name__}")


def rebuild(spec: type[S], document: Mapping[str, Any], params: msgspec.Struct) -> S:
    """Turn what `identity` wrote back into a spec that holds component parameters; prose comes back as its default."""
    found = {
        field.name: msgspec.convert(document[field.encode_name], field.type, strict=True)
        for field in msgspec.structs.fields(spec)
        if field.encode_name in document and field.name != "params"
    }
    return spec(**found, params=params)


@cache
def _kept_fields(spec: type[msgspec.Struct]) -> tuple[tuple[str, str], ...]:
    return tuple((field.name, field.encode_name) for field in msgspec.structs.fields(spec) if not _is_prose(field.type))


def _is_prose(annotation: Any) -> bool:
    metadata = getattr(annotation, "__metadata__", ())
    return any(isinstance(item, msgspec.Meta) and (item.extra or {}).get("prose") for item in metadata)
