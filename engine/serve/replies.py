"""Answers as bytes, and refusals that say what to do. Pure, except that a fault of the server is written to stderr."""

from __future__ import annotations

import os
import sys
import traceback
from dataclasses import dataclass
from typing import Any

import msgspec

from engine.errors import EngineError
from engine.serve.mistakes import Mistake, RefusedError

JSON, PROBLEM = b"application/json", b"application/problem+json"
_TITLES = {
    400: "the body cannot be read", 401: "a token is needed", 403: "not from this page", 404: "no such route",
    405: "another method is needed", 413: "too much at once",
    415: "another encoding is needed", 422: "the request does not fit the model", 500: "the server failed",
    503: "not now", 504: "the answer took too long",
}  # fmt: skip
_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back."""

    status: int
    body: bytes
    kind: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


def answer(document: Any, status: int = 200) -> Reply:
    """A document as JSON."""
    return Reply(status, _encoder.encode(document))


def problem(refused: RefusedError) -> Reply:
    """A refusal as problem+json (RFC 9457) with `errors`: path, message, value, what is allowed."""
    document: dict[str, Any] = {
        "title": _TITLES.get(refused.status, "refused"),
        "status": refused.status,
        "detail": str(refused)[:1000],
        "errors": refused.mistakes,
    }
    if refused.hint:
        document["hint"] = refused.hint
    headers: tuple[tuple[bytes, bytes], ...] = ()
    match refused.status:
        case 413:
            headers = ((b"connection", b"close"),)  # the rest of the body is not worth reading
        case 401:
            headers = ((b"www-authenticate", b"Bearer"),)
        case 503:
            headers = ((b"retry-after", b"1"),)
    return Reply(refused.status, _encoder.encode(document), PROBLEM, headers)


def unavailable(words: str) -> Reply:
    """Not now."""
    return problem(RefusedError(503, [Mistake("$", words)], "try again in a second"))


def failed(error: Exception) -> Reply:
    """Write the trace down under an id; the client gets the id, and no inner words unless they are meant for people."""
    name = os.urandom(4).hex()
    print(f"error {name}:", "".join(traceback.format_exception(error)), file=sys.stderr, flush=True)
    words = error.message if isinstance(error, EngineError) else "an unexpected fault"
    return problem(RefusedError(500, [Mistake("$", f"{words} (written down as {name})")]))
