"""Files behind URLs: what a server says of an object, and how its bytes come here. Both transports speak in these terms.

`web` serves http and https, `objects` serves s3, gs and az. Secrets are resolved here, at use, and appear in no message.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from engine.errors import UnavailableError

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
WEB = frozenset({"http", "https"})


@dataclass(frozen=True, slots=True)
class RemoteObject:
    """One object as its server describes it now. `marks` name this version of it: a strong ETag, a version, a generation.

    Without marks only its content can say which it is. `modified` is the server's word for when it changed, as text.
    """

    url: str
    size: int | None
    marks: Mapping[str, str] = field(default_factory=dict)
    modified: str | None = None

    @property
    def file_name(self) -> str:
        """The last part of its path, which tells the format."""
        path = self.url.split("://", 1)[1].split("?", 1)[0].split("#", 1)[0]
        return path.rsplit("/", 1)[-1] or "object"


class DroppedError(UnavailableError):
    """A connection that ended in the middle of an answer: what came is kept, and the rest is asked for again."""


class Transport(Protocol):
    """How to talk to one kind of server; raises `DataError` for what is not there, `UnavailableError` for the rest."""

    def find(self, url: str) -> list[RemoteObject]:
        """Give the object at a URL, or those that a glob matches, sorted by URL."""
        ...

    def open(self, wanted: RemoteObject, offset: int) -> tuple[int, Iterator[bytes]]:
        """Give an object's bytes from about an offset on, and where they start; raises `DroppedError` in the middle."""
        ...


def scheme_of(path: str) -> str | None:
    """Give a URL's scheme; `None` for a local path.

    >>> scheme_of("s3://bucket/rows.csv"), scheme_of("data/rows.csv")
    ('s3', None)
    """
    found = _SCHEME.match(path)
    return found[1].lower() if found else None


def transport(url: str, params: Any) -> Transport:
    """Choose how to talk to a URL's server."""
    if scheme_of(url) in WEB:
        from .web import Web  # noqa: PLC0415 - start-up time

        return Web(dict(params.headers))
    from .objects import Objects  # noqa: PLC0415 - an extra

    return Objects(dict(params.storage))


def resolved(text: str) -> str:
    """Put the secrets into a text; raises `UnavailableError` naming what is not set."""
    if "${" not in text:
        return text
    from engine.config.secrets import resolve_secret  # noqa: PLC0415 - start-up time

    return resolve_secret(text)


def without_secrets(words: str, texts: Mapping[str, str]) -> str:
    """Take the values of secrets out of another's words; `texts` maps each text with references to the resolved one."""
    for reference, value in texts.items():
        for secret in _secrets(reference, value):
            words = words.replace(secret, "***")
    return " ".join(words.split())[:300]


def _secrets(reference: str, value: str) -> list[str]:
    """Give what stands in a resolved text in place of its references."""
    parts = re.split(r"\$\{[^}]*\}", reference)
    if len(parts) == 1:
        return []
    found = re.fullmatch("(.*)".join(re.escape(part) for part in parts), value, re.DOTALL)
    return [secret for secret in (found.groups() if found else ()) if secret]
