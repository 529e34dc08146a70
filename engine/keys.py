"""Identity: canonical JSON and SHA-256, the only hashing in the engine.

Canonical JSON has sorted keys, no spaces, UTF-8, no NaN, and string keys only, so two different values never share a
text: the encoding is injective. Never joined strings, never `repr`, never pickle.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | tuple[Json, ...] | Mapping[str, Json] | None"

KEY_SCHEME = 1
_BLOCK = 1 << 20
_PLAIN = frozenset({str, int, float, bool, type(None)})


def canonical_json(value: Json) -> bytes:
    """Encode to the one text of this value; raises `TypeError` or `ValueError` for what JSON cannot say exactly.

    >>> canonical_json({"b": [1, 2.0], "a": None})
    b'{"a":null,"b":[1,2.0]}'
    """
    _refuse_lossy(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest(value: Json) -> str:
    """SHA-256 over canonical JSON, in hexadecimal.

    >>> digest(["a;b"]) == digest(["a", "b"])
    False
    """
    return hashlib.sha256(canonical_json(value)).hexdigest()


def digest_bytes(data: bytes) -> str:
    """SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes, read in blocks, in hexadecimal; raises `OSError`."""
    state = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            state.update(block)
    return state.hexdigest()


def _refuse_lossy(value: Json) -> None:
    """Refuse what `json.dumps` would quietly rewrite: a key that is not a string, a type that is not JSON."""
    if type(value) in _PLAIN:  # nearly all there is
        return
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"a key of canonical JSON is a string, not {key!r}")
            if type(item) not in _PLAIN:
                _refuse_lossy(item)
    elif isinstance(value, list | tuple):
        for item in value:
            if type(item) not in _PLAIN:
                _refuse_lossy(item)
    elif not isinstance(value, int | float | str):
        raise TypeError(f"not JSON: {type(value).__name__}")
