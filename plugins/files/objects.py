"""s3, gs and az, by obstore: one small library without dependencies, with the same words for each store.

obstore rather than s3fs, gcsfs and adlfs: those bring three large clients, whose pins (botocore, dateutil) exclude the
versions that the engine is locked to; and it tells ETag and version of each object, which is what is pinned.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from engine.errors import DataError, EngineError, UnavailableError

from .remote import DroppedError, RemoteObject, resolved, scheme_of, without_secrets

EXTRAS = {"s3": "s3", "gs": "gcs", "az": "azure"}
_TRIES = 3
_RETRY_SECONDS = 60
_MAGIC = re.compile(r"[*?\[]")
_CHUNK = 4 << 20


class Objects:
    """Fulfils `Transport`. `options` are the store's own (endpoint, region, …), with secrets as references."""

    def __init__(self, options: dict[str, str]) -> None:
        self._options = options

    def find(self, url: str) -> list[RemoteObject]:
        """Look an object up, or list those that a glob matches (`**` crosses folders)."""
        obstore = _library(url)
        bucket, key = _split(url)
        store = self._store(url)
        magic = _MAGIC.search(key)
        try:
            if magic is None:
                return [_described(bucket, obstore.head(store, key))]
            prefix = key[: magic.start()].rpartition("/")[0]
            wanted = re.compile(_regex(key))
            listed = [meta for page in obstore.list(store, prefix or None) for meta in page]
        except (obstore.exceptions.BaseError, OSError) as error:
            raise self._refusal(url, error) from None
        found = [_described(bucket, meta) for meta in listed if wanted.fullmatch(meta["path"])]
        if not found:
            raise DataError(f"no object matches {url}", hint="correct `path`, or put the objects there")
        return sorted(found, key=lambda item: item.url)

    def open(self, wanted: RemoteObject, offset: int) -> tuple[int, Iterator[bytes]]:
        """Read exactly the version that was pinned."""
        obstore = _library(wanted.url)
        _, key = _split(wanted.url)
        options: Any = {}
        if "version" in wanted.marks:
            options["version"] = wanted.marks["version"]
        if "etag" in wanted.marks:
            options["if_match"] = wanted.marks["etag"]
        if offset:
            options["range"] = {"offset": offset}
        try:
            answer = obstore.get(self._store(wanted.url), key, options=options)
        except (obstore.exceptions.BaseError, OSError) as error:
            raise self._refusal(wanted.url, error) from None
        return offset, self._chunks(answer, wanted.url)

    def _chunks(self, answer: Any, url: str) -> Iterator[bytes]:
        obstore = _library(url)
        try:
            for chunk in answer.stream(min_chunk_size=_CHUNK):
                yield bytes(chunk)
        except (obstore.exceptions.BaseError, OSError) as error:
            words = _first_words(error, self._texts())
            raise DroppedError(f"{url}: the connection ended in the middle: {words}", hint="run again") from None

    def _store(self, url: str) -> Any:
        obstore = _library(url)
        texts = self._texts()
        options: Any = {name: texts[text] for name, text in self._options.items()}
        plain = options.get("endpoint", "").startswith("http://")
        bucket, _ = _split(url)
        try:
            return obstore.store.from_url(
                bucket,
                config=options,
                client_options={"allow_http": plain, "connect_timeout": "10s", "timeout": "300s"},
                retry_config={"max_retries": _TRIES, "retry_timeout": timedelta(seconds=_RETRY_SECONDS)},
            )
        except obstore.exceptions.BaseError as error:
            words = _first_words(error, texts)
            raise DataError(f"{url}: {words}", hint="correct `path` or `storage`") from None

    def _texts(self) -> dict[str, str]:
        return {text: resolved(text) for text in self._options.values()}

    def _refusal(self, url: str, error: Exception) -> EngineError:
        exceptions = _library(url).exceptions
        words = _first_words(error, self._texts())
        match error:
            case exceptions.NotFoundError() | FileNotFoundError():
                return DataError(f"{url}: there is no such object", hint="correct `path`, or put the object there")
            case exceptions.PreconditionError():
                return DataError(f"{url} changed between planning and reading", hint="run again: it is pinned anew")
            case exceptions.PermissionDeniedError() | exceptions.UnauthenticatedError():
                hint = "give access: storage: {access_key_id: …, secret_access_key: '${secret:NAME}'}"
                return UnavailableError(f"{url}: the store refuses access", hint=hint)
            case _:
                return UnavailableError(f"{url}: {words}", hint="is the store up, and `storage` right?")


def _library(url: str) -> Any:
    """Give obstore, or say which extra has it."""
    scheme = scheme_of(url)
    if scheme not in EXTRAS:
        known = "https, http, s3, gs, az"
        raise DataError(f"{url}: no way to read {scheme}://", hint=f"known: {known}; or a path without ://")
    try:
        import obstore  # noqa: PLC0415 - an extra
        import obstore.store  # noqa: PLC0415
    except ImportError as error:
        hint = f"pip install 'plumbline[{EXTRAS[scheme]}]'"
        raise UnavailableError(f"{url}: reading {scheme}:// needs the library obstore", hint=hint) from error
    return obstore


def _first_words(error: Exception, texts: dict[str, str]) -> str:
    return without_secrets(str(error).split("Debug source", 1)[0], texts)


def _split(url: str) -> tuple[str, str]:
    """Part a URL into its bucket (for Azure: account and container) and key.

    >>> _split("s3://bucket/a/b.csv"), _split("az://account/container/b.csv")
    (('s3://bucket', 'a/b.csv'), ('az://account/container', 'b.csv'))
    """
    scheme, _, rest = url.partition("://")
    parts = rest.split("/", 2 if scheme == "az" else 1)
    if len(parts) < (3 if scheme == "az" else 2) or not parts[-1]:
        raise DataError(
            f"{url} names no object", hint="as in s3://bucket/key, gs://bucket/key, az://account/container/key"
        )
    return f"{scheme}://{'/'.join(parts[:-1])}", parts[-1]


def _described(bucket: str, meta: Any) -> RemoteObject:
    marks = {"etag": meta["e_tag"], "version": meta.get("version")}
    known = {name: text for name, text in marks.items() if text and text != "null"}
    return RemoteObject(f"{bucket}/{meta['path']}", meta["size"], known, meta["last_modified"].isoformat())


def _regex(glob: str) -> str:
    r"""Write a glob as a regular expression: `*` and `?` stay within a folder, `**/` crosses any number of them.

    >>> _regex("a/**/b-*.csv")
    'a/(?:.*/)?b\\-[^/]*\\.csv'
    """
    pieces = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", glob)
    known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(
        known.get(piece) or (piece.replace("[!", "[^") if piece.startswith("[") else re.escape(piece))
        for piece in pieces
    )
