"""Where a lakeFS server is, who asks, and whether it answers. Standard library only: a doctor must not pay for the SDK.

Enters: the URL `stores.snapshots` and the environment. Leaves: an endpoint, the key pair, what the server says of itself.
Called by `lakefs_calls`, `snapshots` and the doctor. A key pair is read at the moment of use and never part of an endpoint.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from engine.errors import UnavailableError, UsageError

SCHEMES = ("lakefs", "lakefs+http", "lakefs+https", "http", "https")
SUPPORTED = "`lakefs://host:8000?namespace=s3://bucket/prefix` (lakeFS)"
_OPTIONS = ("namespace", "region", "gateway", "read")
_READS = ("gateway", "copy")
_REFERENCE = re.compile(r"(\$\{\s*secret\s*:\s*\w+\s*\}):(\$\{\s*secret\s*:\s*\w+\s*\})")
_AUTHORITY = re.compile(r"(?P<host>\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+)(?::(?P<port>\d{1,5}))?")
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_VARIABLES = (
    ("LAKEFS_ACCESS_KEY_ID", "LAKEFS_SECRET_ACCESS_KEY"),
    ("LAKECTL_CREDENTIALS_ACCESS_KEY_ID", "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY"),
)
_PROBE_SECONDS = 3.0
_HINT = f"supported: {SUPPORTED}; `lakefs+http://` and `lakefs+https://` say which of the two"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An access key and its secret; never printed."""

    key: str = field(repr=False)
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class LakeFSEndpoint:
    """A server (`base`: scheme, host, port), where new repositories keep their objects, and references to the key pair.

    Rows are read through the server's S3 `gateway` (at `base` unless it says another place), or, with `read="copy"`, from
    verified copies on this machine, where nothing but the API gets through.
    """

    base: str
    namespace: str | None = None
    region: str = "us-east-1"
    gateway: str | None = None
    read: str = "gateway"
    references: tuple[str, str] | None = None

    @property
    def label(self) -> str:
        """What to call it in messages."""
        return f"lakeFS at {self.base}"

    def key_pair(self, environment: Mapping[str, str] = os.environ) -> KeyPair:
        """Read the key pair; raises `UnavailableError` when there is none."""
        if self.references is not None:
            from engine.config.secrets import resolve_secret  # noqa: PLC0415 - start-up: only where the URL has secrets

            key, secret = (resolve_secret(text, environment) for text in self.references)
            return KeyPair(key, secret)
        for names in _VARIABLES:
            key, secret = (environment.get(name, "") for name in names)
            if key and secret:
                return KeyPair(key, secret)
        raise UnavailableError(f"no access key for {self.label}", hint=f"set {' and '.join(_VARIABLES[0])}")


def is_server(url: str) -> bool:
    """Say whether a URL is that of a lakeFS server.

    >>> is_server("lakefs://data.example.com"), is_server("/data/snapshots")
    (True, False)
    """
    return url.partition("://")[0] in SCHEMES and "://" in url


def parse_endpoint(url: str) -> LakeFSEndpoint:
    """Read a URL; raises `UsageError`, which never repeats a key that somebody wrote into it.

    `lakefs://` is HTTPS, and HTTP on this machine's loopback address.

    >>> parse_endpoint("lakefs://localhost:8000").base
    'http://localhost:8000'
    >>> parse_endpoint("lakefs://data.example.com?namespace=s3://bucket/x").namespace
    's3://bucket/x'
    """
    scheme, _, rest = url.partition("://")
    rest, _, query = rest.partition("?")
    user, at, authority = rest.rstrip("/").rpartition("@")
    references = _REFERENCE.fullmatch(user)
    if at and references is None:
        raise UsageError(
            "stores.snapshots: a key pair in a URL is written as references, so that no record holds it",
            hint="write ${secret:NAME}:${secret:NAME}@host, or set LAKEFS_ACCESS_KEY_ID and LAKEFS_SECRET_ACCESS_KEY",
        )
    match = _AUTHORITY.fullmatch(authority)
    if scheme not in SCHEMES or match is None or int(match["port"] or 0) > 65535:
        raise UsageError(
            f"stores.snapshots: `{scheme}://{authority}` is not the address of a lakeFS server", hint=_HINT
        )
    options = _options(query)
    pair = (references[1], references[2]) if references else None
    return LakeFSEndpoint(f"{_protocol(scheme, match['host'])}://{authority}", references=pair, **options)


def _protocol(scheme: str, host: str) -> str:
    if scheme == "lakefs":
        return "http" if host in _LOOPBACK else "https"
    return scheme.removeprefix("lakefs+")


def _options(query: str) -> dict[str, str]:
    try:
        given = parse_qs(query, keep_blank_values=True, strict_parsing=True) if query else {}
    except ValueError:
        given = {query: [""]}
    bad = [name for name, values in given.items() if name not in _OPTIONS or len(values) > 1 or not values[0]]
    if bad:
        raise UsageError(
            f"stores.snapshots: `{bad[0]}` is not an option of a lakeFS URL",
            hint=f"options: {', '.join(_OPTIONS)}, each once and with a value",
        )
    found = {name: values[0].rstrip("/") for name, values in given.items()}
    if found.get("read", "gateway") not in _READS:
        raise UsageError(f"stores.snapshots: read={found['read']} is not known", hint=f"allowed: {', '.join(_READS)}")
    if not found.get("gateway", "http://").startswith(("http://", "https://")):
        raise UsageError(
            f"stores.snapshots: gateway={found['gateway']} is not an address",
            hint="write https://s3.lakefs.example.com",
        )
    return found


def probe(endpoint: LakeFSEndpoint) -> str:
    """Ask the server, logged in, for its version, within three seconds; raises `UnavailableError` saying what is wrong."""
    import urllib.error  # noqa: PLC0415 - start-up time: only a doctor asks
    import urllib.request  # noqa: PLC0415

    pair = endpoint.key_pair()
    token = base64.b64encode(f"{pair.key}:{pair.secret}".encode()).decode()
    request = urllib.request.Request(f"{endpoint.base}/api/v1/config", headers={"Authorization": f"Basic {token}"})  # noqa: S310
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_PROBE_SECONDS) as answer:
            config = json.load(answer)
        return str(config["version_config"]["version"])
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in {401, 403}:
            raise UnavailableError(
                f"{endpoint.label} does not accept the access key ({error.code})", hint=credentials_hint(endpoint)
            ) from error
        raise UnavailableError(f"{endpoint.label} answers {error.code}", hint=reach_hint(endpoint)) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = getattr(error, "reason", None) or error
        raise UnavailableError(f"no lakeFS answers at {endpoint.base}: {reason}", hint=reach_hint(endpoint)) from error


def credentials_hint(endpoint: LakeFSEndpoint) -> str:
    """Say where the key pair comes from."""
    where = "the secrets that the URL names" if endpoint.references else " and ".join(_VARIABLES[0])
    return f"check {where}; keys are made in the lakeFS web page under Administration"


def reach_hint(endpoint: LakeFSEndpoint) -> str:
    """Say how to look whether the server is there."""
    return f"see whether it runs: curl {endpoint.base}/_health; then run again: finished work is kept"
