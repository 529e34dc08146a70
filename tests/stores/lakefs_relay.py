"""A server between the store and lakeFS: it passes traffic on and records it, or answers from a recording; and it breaks things.

    live      store -> faults -> recorder -> a real lakeFS server     (LAKEFS_ENDPOINT is set)
    replay    store -> faults -> a cassette of what that server said

A cassette is gzipped NDJSON: a header line, then one exchange a line, those of one request in order. A request is known by method,
path with query, and body; of several alike the earliest answer that was not given yet counts, the last one stays. No header of
a request is kept but its byte range, so neither keys nor signatures are ever in a cassette. A byte range that nobody asked for
(another version of Polars asks for others) is put together from those that the server gave.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.client
import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

_KEPT = ("content-type", "content-range", "etag", "last-modified", "accept-ranges", "content-length")
_DROPPED = {"connection", "transfer-encoding", "keep-alive", "date", "content-length"}
_LONG = 4096  # a request's body that is longer is known by its digest


@dataclass(frozen=True, slots=True)
class Request:
    """What came in."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def key(self) -> str:
        """What the request is known by."""
        parts = urlsplit(self.path)
        query = urlencode(sorted(parse_qsl(parts.query, keep_blank_values=True)))
        span = self.headers.get("range", "")
        return f"{self.method} {parts.path}?{query} {span} {_text(self.body) if len(self.body) <= _LONG else _sum(self.body)}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes out. `length` is told when it is not the body's (the answer to a HEAD)."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


class Severed(Exception):  # noqa: N818 - not an error of the program
    """The connection is to be dropped, after these bytes of an answer."""

    def __init__(self, answer: Answer | None = None, after: int = 0) -> None:
        super().__init__("severed")
        self.answer = answer
        self.after = after


Pass = Callable[[Request], Answer]


@dataclass(slots=True)
class Fault:
    """What befalls the next `times` requests that `matches`: see the functions below."""

    matches: Callable[[Request], bool]
    befall: Callable[[Request, Pass], Answer]
    times: int = 1


def refuse(status: int, message: str = "injected") -> Callable[[Request, Pass], Answer]:
    """Answer with a status, and do nothing."""
    return lambda _request, _pass: Answer(
        status, {"content-type": "application/json"}, json.dumps({"message": message}).encode()
    )


def lose(request: Request, pass_on: Pass) -> Answer:
    """Do what is asked, and drop the connection instead of answering."""
    pass_on(request)
    raise Severed


def hang_up(_request: Request, _pass: Pass) -> Answer:
    """Drop the connection and do nothing."""
    raise Severed


def fail_after(status: int) -> Callable[[Request, Pass], Answer]:
    """Do what is asked, and answer with an error of a gateway in between."""

    def befall(request: Request, pass_on: Pass) -> Answer:
        pass_on(request)
        return Answer(status, {"content-type": "text/html"}, b"<html>bad gateway</html>")

    return befall


def cut(after: int) -> Callable[[Request, Pass], Answer]:
    """Drop the connection after some bytes of the answer's body."""

    def befall(request: Request, pass_on: Pass) -> Answer:
        raise Severed(pass_on(request), after)

    return befall


def delay(seconds: float) -> Callable[[Request, Pass], Answer]:
    """Answer late."""

    def befall(request: Request, pass_on: Pass) -> Answer:
        time.sleep(seconds)
        return pass_on(request)

    return befall


class Live:
    """Passes requests on to a server; records what it says. `renamed` replaces texts in what is recorded."""

    def __init__(self, address: str, renamed: Mapping[str, str]) -> None:
        self.address = address
        self.renamed = renamed
        self.exchanges: list[dict[str, Any]] = []
        self._turn = threading.Lock()

    def __call__(self, request: Request) -> Answer:
        """Ask the server."""
        connection = http.client.HTTPConnection(self.address, timeout=300)
        headers = {name: value for name, value in request.headers.items() if name not in _DROPPED}
        try:
            connection.request(request.method, request.path, request.body, headers)
            came = connection.getresponse()
            body = came.read()
        finally:
            connection.close()
        kept = {name.lower(): value for name, value in came.getheaders() if name.lower() in _KEPT}
        if request.method != "HEAD":
            kept.pop("content-length", None)
        with self._turn:
            asked = Request(request.method, request.path, request.headers, request.body)
            self.exchanges.append({
                "request": self._rename(asked.key), "status": came.status, "headers": kept, **_packed(self._bytes(body)),
            })  # fmt: skip
        return Answer(came.status, kept, body)

    def save(self, path: Path, header: Mapping[str, str]) -> None:
        """Write the cassette; the same traffic gives the same bytes."""
        alike: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for exchange in self.exchanges:
            alike[exchange["request"]].append(exchange)
        for answers in alike.values():
            while len(answers) > 1 and answers[-1] == answers[-2]:  # the last answer to a request stays
                answers.pop()
        lines = [header, *(exchange for answers in alike.values() for exchange in answers)]
        text = "".join(json.dumps(line, ensure_ascii=False, sort_keys=True) + "\n" for line in lines)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text.encode("utf-8", "surrogateescape"), 9, mtime=0))

    def _rename(self, text: str) -> str:
        for old, new in self.renamed.items():
            text = text.replace(old, new)
        return text

    def _bytes(self, body: bytes) -> bytes:
        for old, new in self.renamed.items():
            body = body.replace(old.encode(), new.encode())
        return body


class Replay:
    """Answers from a cassette; a request that is not in it gets 418 and is remembered as `unknown`."""

    def __init__(self, path: Path) -> None:
        lines = gzip.decompress(path.read_bytes()).decode().splitlines()
        self.header: dict[str, str] = json.loads(lines[0])
        self.unknown: list[str] = []
        self._answers: dict[str, list[Answer]] = defaultdict(list)
        self._pieces: dict[str, _Pieces] = {}
        self._turn = threading.Lock()
        for line in lines[1:]:
            item = json.loads(line)
            body = base64.b64decode(item["base64"]) if "base64" in item else item["text"].encode()
            answer = Answer(item["status"], item["headers"], body)
            self._answers[item["request"]].append(answer)
            if answer.status == 206:
                place = item["request"].split("?")[0]
                self._pieces.setdefault(place, _Pieces()).add(answer)

    def __call__(self, request: Request) -> Answer:
        """Answer as the server did."""
        with self._turn:
            waiting = self._answers.get(request.key)
            if waiting:
                return waiting.pop(0) if len(waiting) > 1 else waiting[0]
            pieces = self._pieces.get(f"{request.method} {urlsplit(request.path).path}")
            found = pieces.cut(request.headers.get("range", "")) if pieces else None
            if found is not None:
                return found
            self.unknown.append(request.key)
        message = f"not in the cassette; record it anew, see docs/lakefs.md: {request.key[:300]}"
        return Answer(418, {"content-type": "application/json"}, json.dumps({"message": message}).encode())


class _Pieces:
    """The bytes of one object, as far as they are known from answers to byte ranges."""

    def __init__(self) -> None:
        self._known: dict[int, bytes] = {}
        self._sample: Answer | None = None
        self._total = 0

    def add(self, answer: Answer) -> None:
        """Learn from an answer."""
        span, _, total = answer.headers["content-range"].removeprefix("bytes ").partition("/")
        first = int(span.partition("-")[0])
        self._total, self._sample = int(total), answer
        if len(answer.body) > len(self._known.get(first, b"")):
            self._known[first] = answer.body

    def cut(self, span: str) -> Answer | None:
        """Answer to `bytes=a-b`, `bytes=a-` or `bytes=-n`; `None` when some of it is not known."""
        first, _, last = span.removeprefix("bytes=").partition("-")
        begin = int(first) if first else max(0, self._total - int(last or 0))
        end = min(int(last) + 1 if first and last else self._total, self._total)
        body = b""
        while begin + len(body) < end:
            at = begin + len(body)
            found = next(
                (data[at - start :] for start, data in self._known.items() if start <= at < start + len(data)), None
            )
            if found is None:
                return None
            body += found[: end - at]
        assert self._sample
        headers = {**self._sample.headers, "content-range": f"bytes {begin}-{end - 1}/{self._total}"}
        return Answer(206, headers, body)


@dataclass(slots=True)
class Relay:
    """A running server on loopback, in front of `backend`; `faults` befall what comes in, `seen` came in."""

    backend: Pass
    faults: list[Fault] = field(default_factory=list)
    seen: list[Request] = field(default_factory=list)
    _server: ThreadingHTTPServer | None = None
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Relay:
        relay = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                relay.answer(self)

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815 - names of the base

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server
        self._server.shutdown()
        self._server.server_close()

    @property
    def address(self) -> str:
        """Host and port."""
        assert self._server
        return f"127.0.0.1:{self._server.server_address[1]}"

    def inject(self, method: str, ending: str, befall: Callable[[Request, Pass], Answer], times: int = 1) -> None:
        """Let something befall the next requests of a method whose path ends so."""

        def matches(request: Request) -> bool:
            return request.method == method and urlsplit(request.path).path.endswith(ending)

        self.faults.append(Fault(matches, befall, times))

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Read one request, and answer it."""
        headers = {name.lower(): value for name, value in handler.headers.items()}
        request = Request(handler.command, handler.path, headers, _read_body(handler, headers))
        try:
            found = self._fault(request)
            _send(handler, request, found.befall(request, self.backend) if found else self.backend(request))
        except Severed as severed:
            if severed.answer is not None:
                _send(handler, request, severed.answer, severed.after)
            handler.close_connection = True
        except (BrokenPipeError, ConnectionResetError):
            handler.close_connection = True

    def _fault(self, request: Request) -> Fault | None:
        with self._turn:
            self.seen.append(request)
            for fault in self.faults:
                if fault.times and fault.matches(request):
                    fault.times -= 1
                    return fault
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


def _send(handler: BaseHTTPRequestHandler, request: Request, answer: Answer, after: int | None = None) -> None:
    handler.send_response(answer.status)
    for name, value in answer.headers.items():
        handler.send_header(name, value)
    if "content-length" not in answer.headers:
        handler.send_header("content-length", str(len(answer.body)))
    handler.end_headers()
    if request.method != "HEAD":
        handler.wfile.write(answer.body if after is None else answer.body[:after])
    handler.wfile.flush()


def _read_body(handler: BaseHTTPRequestHandler, headers: Mapping[str, str]) -> bytes:
    if "chunked" not in headers.get("transfer-encoding", ""):
        return handler.rfile.read(int(headers.get("content-length", 0)))
    body = b""
    while size := int(handler.rfile.readline().split(b";")[0] or b"0", 16):  # nothing: the client went away
        body += handler.rfile.read(size)
        handler.rfile.readline()
    handler.rfile.readline()
    return body


def _packed(body: bytes) -> dict[str, str]:
    try:
        return {"text": body.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(body).decode()}


def _text(body: bytes) -> str:
    return body.decode("utf-8", "backslashreplace")


def _sum(body: bytes) -> str:
    return f"{len(body)} bytes, sha256 {hashlib.sha256(body).hexdigest()}"
