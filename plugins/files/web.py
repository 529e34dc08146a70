"""http and https, by urllib3: bounded retries, honest words for each status, and the rest of an answer that broke off.

urllib3 rather than fsspec: status, ETag and Range decide what is pinned and what a person is told, and it is installed
with the engine already.
"""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import urllib3

from engine.errors import DataError, EngineError, UnavailableError

from .remote import DroppedError, RemoteObject, resolved, without_secrets

_TRIES = 3
_CONNECT_SECONDS, _READ_SECONDS = 10.0, 30.0
_BACKOFF_SECONDS, _LONGEST_WAIT = 0.5, 20.0
_PASSING = frozenset({429, 500, 502, 503, 504})
_NO_HEAD = frozenset({403, 405, 501})  # answers of servers that only take GET, and of signed addresses
_CHUNK = 1 << 20
_OK, _PARTIAL, _UNMATCHED, _BEYOND = 200, 206, 412, 416


class _Patience(urllib3.Retry):
    """Waits as a server asks, but not for an hour."""

    def parse_retry_after(self, retry_after: str) -> float:
        return min(super().parse_retry_after(retry_after), _LONGEST_WAIT)


class Web:
    """Fulfils `Transport`."""

    def __init__(self, headers: dict[str, str]) -> None:
        self._headers = headers
        self._retries = _Patience(
            total=_TRIES, redirect=5, status_forcelist=_PASSING, backoff_factor=_BACKOFF_SECONDS, raise_on_status=False,
            backoff_max=_LONGEST_WAIT, remove_headers_on_redirect=["Authorization", "Cookie", *headers],
        )  # fmt: skip

    def find(self, url: str) -> list[RemoteObject]:
        """Ask for what is at an address."""
        with self._ask("HEAD", url, {}) as answer:
            if answer.status not in _NO_HEAD:
                return [_described(url, answer)]
        with self._ask("GET", url, {}) as answer:
            return [_described(url, answer)]

    def open(self, wanted: RemoteObject, offset: int) -> tuple[int, Iterator[bytes]]:
        """Ask for the bytes from an offset on; a server that cannot sends all."""
        etag = wanted.marks.get("etag")
        headers = {"Range": f"bytes={offset}-"} if offset and etag else {}
        if headers and etag:
            headers["If-Range"] = etag
        with ExitStack() as stack:
            answer = stack.enter_context(self._ask("GET", wanted.url, headers))
            if answer.status not in {_OK, _PARTIAL}:
                raise _refusal(wanted.url, answer.status)
            if etag and _marks(answer).get("etag") != etag:
                raise DataError(
                    f"{wanted.url} changed between planning and reading", hint="run again: it is pinned anew each time"
                )
            start = offset if answer.status == _PARTIAL else 0
            return start, _chunks(answer, wanted.url, stack.pop_all())

    @contextmanager
    def _ask(self, method: str, url: str, headers: dict[str, str]) -> Iterator[urllib3.BaseHTTPResponse]:
        address = resolved(url)
        texts = {url: address, **{text: resolved(text) for text in self._headers.values()}}
        parts = urlsplit(address)
        sent = {"Accept-Encoding": "identity", **{name: texts[text] for name, text in self._headers.items()}, **headers}
        if parts.username is not None:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            sent["Authorization"] = urllib3.make_headers(basic_auth=login)["authorization"]
            parts = parts._replace(netloc=parts.netloc.rpartition("@")[2])
        pool = _pool(parts.scheme, parts.hostname or "")
        try:
            answer = pool.request(
                method, urlunsplit(parts._replace(fragment="")), headers=sent, preload_content=False,
                decode_content=False, retries=self._retries, redirect=True,
                timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS),
            )  # fmt: skip
        except urllib3.exceptions.LocationParseError as error:
            raise DataError(f"{url} is not an address", hint="as in https://host/path.csv") from error
        except urllib3.exceptions.HTTPError as error:
            reason = without_secrets(str(getattr(error, "reason", error)).rpartition(": ")[2], texts)
            raise UnavailableError(
                f"{url}: no answer after {_TRIES + 1} tries: {reason}", hint="is the server up, and the address right?"
            ) from None
        try:
            yield answer
        finally:
            answer.close()
            pool.clear()


def _pool(scheme: str, host: str) -> Any:
    """Go through the proxy that the environment names, unless it excepts this host."""
    proxy = urllib.request.getproxies().get(scheme)
    if proxy and not urllib.request.proxy_bypass(host):
        return urllib3.ProxyManager(proxy)
    return urllib3.PoolManager(ca_certs=os.environ.get("SSL_CERT_FILE") or None)


def _marks(answer: urllib3.BaseHTTPResponse) -> dict[str, str]:
    etag = answer.headers.get("ETag", "")
    return {"etag": etag} if etag.startswith('"') else {}  # W/"…" stands for a meaning, not for bytes


def _chunks(answer: urllib3.BaseHTTPResponse, url: str, open_: ExitStack) -> Iterator[bytes]:
    with open_:
        try:
            yield from answer.stream(_CHUNK, decode_content=False)
        except urllib3.exceptions.HTTPError as error:
            raise DroppedError(
                f"{url}: the connection ended in the middle of the answer", hint="run again when the server is well"
            ) from error


def _described(url: str, answer: urllib3.BaseHTTPResponse) -> RemoteObject:
    if answer.status != _OK:
        raise _refusal(url, answer.status)
    length = answer.headers.get("Content-Length", "")
    size = int(length) if length.isdigit() else None
    return RemoteObject(url, size, _marks(answer), answer.headers.get("Last-Modified"))


def _refusal(url: str, status: int) -> EngineError:
    match status:
        case 401 | 403:
            hint = "give access: headers: {Authorization: 'Bearer ${secret:NAME}'}, and set that variable"
            return UnavailableError(f"{url}: the server refuses access (HTTP {status})", hint=hint)
        case 404 | 410:
            return DataError(f"{url}: there is nothing (HTTP {status})", hint="correct `path`, or put the file there")
        case _ if status in {_UNMATCHED, _BEYOND}:
            return DataError(f"{url} changed between planning and reading (HTTP {status})", hint="run again")
        case 429:
            return UnavailableError(f"{url}: too many requests (HTTP 429)", hint="wait, then run again")
        case _ if status >= 500:
            return UnavailableError(f"{url}: the server failed (HTTP {status})", hint="run again when it is well")
        case _:
            return DataError(f"{url}: the server answers HTTP {status}", hint="correct `path` or `headers`")
