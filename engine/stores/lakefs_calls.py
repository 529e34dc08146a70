"""Calls to a lakeFS server: one client, patience with what passes, and every failure in words. The only importer of the SDK.

Enters: an endpoint. Leaves: the SDK's API objects, raw streams, and errors of the engine. Called by the `lakefs_*` stores.

A call that may change the server and whose answer is lost (a broken connection, a 5xx) is not simply made again: `applied`
looks first whether the server did it. Tries and pauses are bounded; a server that stays away is an `UnavailableError`.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, TypeVar
from urllib.parse import quote, urlencode

import lakefs_sdk
import urllib3

from engine.errors import (
    ConflictError,
    EngineError,
    IntegrityError,
    NotFoundError,
    StoreError,
    UnavailableError,
    UsageError,
)
from engine.stores.lakefs_endpoint import LakeFSEndpoint, credentials_hint, reach_hint

T = TypeVar("T")
sdk = lakefs_sdk
CONNECTIONS = 16
_TIMEOUT = (5.0, 300.0)  # to connect; to wait for the next bytes: a merge of many objects answers late
_REFUSED_FOR_NOW = frozenset({423, 429})  # the server says that it did nothing
_PASSING = _REFUSED_FOR_NOW | {500, 502, 503, 504}
_SHOWN = 300


@dataclass(frozen=True, slots=True)
class Patience:
    """How often to try, and the pauses between: doubling from `first`, at most `longest` seconds, each cut at random."""

    tries: int = 8
    first: float = 0.1
    longest: float = 5.0

    def pauses(self) -> Iterator[float]:
        """Give the pause after each failed try but the last."""
        for number in range(self.tries - 1):
            yield min(self.first * 2**number, self.longest) * random.uniform(0.5, 1)  # noqa: S311 - decides no result


@dataclass(frozen=True, slots=True)
class Failure:
    """What came instead of an answer: a status and the server's words, or no status when no answer came."""

    status: int | None
    reason: str

    @property
    def passing(self) -> bool:
        """Say whether another try may help."""
        return self.status is None or self.status in _PASSING

    @property
    def uncertain(self) -> bool:
        """Say whether the server may have done what it was asked."""
        return self.passing and self.status not in _REFUSED_FOR_NOW


class LakeFSError(EngineError):
    """A call that failed for good, before the caller gives it its words: `failure` says how."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


class _Client(lakefs_sdk.ApiClient):  # type: ignore[misc]  # the SDK is generated and not typed in earnest
    """The SDK's client with time limits: it has none of its own."""

    def request(  # noqa: PLR0913, PLR0917 - the signature is the SDK's
        self, method: Any, url: Any, query_params: Any = None, headers: Any = None, post_params: Any = None,
        body: Any = None, _preload_content: Any = True, _request_timeout: Any = None,  # noqa: FBT002 - the SDK's
    ) -> Any:  # fmt: skip
        return super().request(
            method, url, query_params, headers, post_params, body, _preload_content, _request_timeout or _TIMEOUT
        )


class LakeFSCalls:
    """One server, as seen by one key pair. Safe for several threads; nothing is sent before the first call."""

    def __init__(self, endpoint: LakeFSEndpoint, patience: Patience | None = None) -> None:
        self.endpoint = endpoint
        self.patience = patience or Patience()
        self._opening = threading.Lock()
        self._opened: _Client | None = None

    @property
    def client(self) -> _Client:
        """The SDK's client; raises `UnavailableError` when no key pair is set."""
        with self._opening:
            if self._opened is None:
                pair = self.endpoint.key_pair()
                place = lakefs_sdk.Configuration(
                    host=f"{self.endpoint.base}/api/v1", username=pair.key, password=pair.secret
                )
                place.retries = False  # all trying again happens here, where what was lost is looked for first
                place.connection_pool_maxsize = CONNECTIONS
                self._opened = _Client(place)
            return self._opened

    @property
    def repositories(self) -> Any:
        """Repositories."""
        return lakefs_sdk.RepositoriesApi(self.client)

    @property
    def branches(self) -> Any:
        """Branches, what is staged on them, reverting."""
        return lakefs_sdk.BranchesApi(self.client)

    @property
    def commits(self) -> Any:
        """Commits."""
        return lakefs_sdk.CommitsApi(self.client)

    @property
    def refs(self) -> Any:
        """Log, diff, merge."""
        return lakefs_sdk.RefsApi(self.client)

    @property
    def tags(self) -> Any:
        """Tags."""
        return lakefs_sdk.TagsApi(self.client)

    @property
    def objects(self) -> Any:
        """Objects."""
        return lakefs_sdk.ObjectsApi(self.client)

    @property
    def config(self) -> Any:
        """What the server says of itself."""
        return lakefs_sdk.ConfigApi(self.client)

    def ask(self, operation: Callable[[], T], applied: Callable[[], T | None] | None = None) -> T:
        """Make a call, again while the failure may pass; raises `LakeFSError` for the caller to word, or `UnavailableError`.

        `applied` gives the result of an earlier try whose answer was lost, or `None` when the server did not do it.
        """
        pauses = self.patience.pauses()
        uncertain = False
        while True:
            try:
                return operation()
            except (lakefs_sdk.ApiException, urllib3.exceptions.HTTPError, ValueError) as error:
                failure = read_failure(error)
            uncertain = uncertain or failure.uncertain
            pause = next(pauses, None) if failure.passing else None
            if pause is not None:
                time.sleep(pause)
            if uncertain and applied is not None and (found := self.ask(applied)) is not None:
                return found
            if pause is None:
                raise LakeFSError(failure)

    def upload(self, path: str, content: IO[bytes], headers: Mapping[str, str]) -> Mapping[str, Any]:
        """Stream one file to an API path; gives the server's JSON. The SDK itself would hold the file in memory."""
        content.seek(0)
        headers = {**headers, "Content-Type": "application/octet-stream"}
        answer = self._raw("POST", path, headers, content)
        with _released(answer):
            described: Mapping[str, Any] = json.loads(answer.data)
        return described

    @contextmanager
    def download(self, path: str) -> Iterator[Iterator[bytes]]:
        """Stream the bytes at an API path, in blocks."""
        answer = self._raw("GET", path, {}, None)
        with _released(answer):
            yield answer.stream(1 << 20)

    def _raw(self, method: str, path: str, headers: Mapping[str, str], body: IO[bytes] | None) -> Any:
        place = self.client.configuration
        asked = {**self.client.default_headers, **headers, "Authorization": place.get_basic_auth_token()}
        answer = self.client.rest_client.pool_manager.request(
            method, f"{place.host}{path}", body=body, headers=asked, preload_content=False,
            timeout=urllib3.Timeout(connect=_TIMEOUT[0], read=_TIMEOUT[1]),
        )  # fmt: skip
        if not 200 <= answer.status < 300:
            with _released(answer):
                raise lakefs_sdk.ApiException(status=answer.status, reason=answer.data.decode(errors="replace"))
        return answer

    def word(self, doing: str, failure: Failure) -> EngineError:
        """Put a failure into words; the caller words what it knows better (what is missing, what conflicts)."""
        what = f"{doing}: {self.endpoint.label}"
        match failure.status:
            case None:
                return UnavailableError(
                    f"{what} does not answer after {self.patience.tries} tries: {failure.reason}",
                    hint=reach_hint(self.endpoint),
                )
            case 401:
                return StoreError(f"{what} does not accept the access key", hint=credentials_hint(self.endpoint))
            case 403:
                return StoreError(
                    f"{what} does not allow it: {failure.reason}",
                    hint="ask for the right in lakeFS, and see the branch's protection rules",
                )
            case 404:
                return NotFoundError(f"{what} does not have it: {failure.reason}")
            case 409:
                return ConflictError(f"{what}: {failure.reason}", hint="look at what is there, then run again")
            case 410:
                return IntegrityError(
                    f"{what} has lost the data: {failure.reason}",
                    hint="restore it in the block store, or ingest its source again",
                )
            case 412:
                return StoreError(
                    f"{what} refuses it: {failure.reason}",
                    hint="a hook of the repository said no; its log is in the lakeFS web page under Actions",
                )
            case 400 | 413 | 414 | 422:
                return UsageError(f"{what} cannot do it: {failure.reason}")
            case status if failure.passing:
                return UnavailableError(
                    f"{what} still answers {status} after {self.patience.tries} tries: {failure.reason}",
                    hint=reach_hint(self.endpoint),
                )
            case status:
                return StoreError(f"{what} answers {status}: {failure.reason}", hint=reach_hint(self.endpoint))

    @contextmanager
    def worded(self, doing: str) -> Iterator[None]:
        """Word what the block leaves unworded."""
        try:
            yield
        except LakeFSError as error:
            raise self.word(doing, error.failure) from error


def read_failure(error: Exception) -> Failure:
    """Read what the SDK or the connection raised; the server's words only, never a header of ours."""
    if isinstance(error, lakefs_sdk.ApiException):
        text = error.body if error.body is not None else error.reason
        return Failure(int(error.status) or None, _message(text))
    if isinstance(error, urllib3.exceptions.HTTPError):
        return Failure(None, f"{type(error).__name__}: {error}"[:_SHOWN])
    return Failure(
        502, "the answer is not that of a lakeFS server"
    )  # the SDK could not read it: a page of a proxy, say


def _message(body: Any) -> str:
    text = body.decode(errors="replace") if isinstance(body, bytes | bytearray) else str(body or "no reason given")
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    message = found.get("message") if isinstance(found, dict) else None
    return " ".join(str(message or text).split())[:_SHOWN]


def api_path(*segments: str, query: Mapping[str, str] | None = None) -> str:
    """Give an API path with every segment quoted.

    >>> api_path("repositories", "data", "branches", "main", "objects", query={"path": "a b/1"})
    '/repositories/data/branches/main/objects?path=a+b%2F1'
    """
    path = "".join(f"/{quote(segment, safe='')}" for segment in segments)
    return f"{path}?{urlencode(query)}" if query else path


@contextmanager
def _released(answer: Any) -> Iterator[None]:
    """Give the connection back, or drop it when its answer was not read to the end."""
    try:
        yield
        answer.drain_conn()
    finally:
        answer.release_conn()
