"""Files behind http: pinned by ETag or content, fetched once and whole, and every way in which a server can let one down."""

from __future__ import annotations

import http.server
import importlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from engine.components import load_catalogue
from engine.contracts import Pin, Reading
from engine.errors import DataError, EngineError, IntegrityError, UnavailableError

ROWS = b"id,n\n" + b"".join(b"row-%d,%d\n" % (n, n) for n in range(2000))
COLUMNS = {"id": "str", "n": "i64"}
CATALOGUE = load_catalogue(Path("/"), ("files",))


@dataclass
class Site:
    """A server on loopback, and what it is told to do."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=lambda: {"/rows.csv": ROWS})
    etags: bool = True
    weak: bool = False
    modified: str | None = None
    ranges: bool = True
    head: bool = True
    statuses: list[int] = field(default_factory=list)
    drops: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    redirect: str | None = None
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    heard: list[dict[str, str]] = field(default_factory=list)

    def gets(self) -> int:
        return sum(method == "GET" for method, _, _ in self.asked)


def handler(site: Site) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            site.asked.append((self.command, self.path, self.headers.get("Range")))
            site.heard.append(dict(self.headers))
            status = site.statuses.pop(0) if site.statuses else 200
            content = site.files.get(self.path.split("?")[0])
            if not body and not site.head:
                status = 405
            if site.redirect:
                self.end(302, {"Location": site.redirect})
                return
            if status != 200 or content is None:
                self.end(404 if status == 200 else status, site.headers)
                return
            headers = {}
            tag = f'"{abs(hash(content))}"'
            if site.etags:
                headers["ETag"] = f"W/{tag}" if site.weak else tag
            if site.modified:
                headers["Last-Modified"] = site.modified
            start = 0
            if site.ranges and "Range" in self.headers and self.headers.get("If-Range", tag) == tag:
                start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            self.send_response(206 if start else 200)
            for name, value in {**headers, "Content-Length": str(len(content) - start)}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                whole = content[start:]
                sent = whole[: site.drops.pop(0)] if site.drops else whole
                self.wfile.write(sent)
                if len(sent) < len(whole):
                    self.close_connection = True

        def end(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": "0"}.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *words: Any) -> None:
            pass

    return Handler


@pytest.fixture
def serve() -> Iterator[Callable[[], Site]]:
    """Start sites; they end with the test."""
    servers: list[http.server.ThreadingHTTPServer] = []

    def begin() -> Site:
        site = Site()
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler(site))
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        site.url = f"http://127.0.0.1:{server.server_port}"
        return site

    yield begin
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def site(serve: Callable[[], Site]) -> Site:
    return serve()


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits in a test."""
    monkeypatch.setattr(module("web"), "_BACKOFF_SECONDS", 0.0)
    monkeypatch.setattr(module("web"), "_LONGEST_WAIT", 0.0)
    monkeypatch.setattr(module("download"), "_BACKOFF_SECONDS", 0.0)


def module(name: str) -> Any:
    return importlib.import_module(f"plumbline_plugins.files.{name}")


def build(path: Any, kind: str = "csv", **params: Any) -> Any:
    component = CATALOGUE.get("source", kind)
    return component.build(msgspec.convert({"path": path, **params}, component.params))


def read(source: Any, root: Path, pin: Pin | None = None) -> pl.DataFrame:
    return pl.concat(list(source.read(Reading(root, pin or source.pin(root), COLUMNS))))


def downloads(root: Path) -> list[str]:
    return sorted(path.name for path in (root / ".plumbline" / "downloads").rglob("*") if path.is_file())


def test_a_strong_etag_is_the_pin_and_the_bytes_come_once(site: Site, tmp_path: Path) -> None:
    source = build(f"{site.url}/rows.csv")
    pin = source.pin(tmp_path)
    assert site.gets() == 0
    assert isinstance(pin.identity, dict)
    assert read(source, tmp_path, pin).height == 2000
    assert read(source, tmp_path, pin).height == 2000
    assert site.gets() == 1
    assert downloads(tmp_path) == ["rows.csv", "sha256"]
    assert source.pin(tmp_path) == pin
    site.files["/rows.csv"] = ROWS + b"more,1\n"
    assert source.pin(tmp_path).identity != pin.identity
    assert read(source, tmp_path, pin).height == 2000, "what was pinned is still here"


@pytest.mark.parametrize("weak", [False, True])
def test_without_a_strong_etag_the_content_is_the_pin(weak: bool, site: Site, tmp_path: Path) -> None:
    site.etags = site.weak = weak
    source = build(f"{site.url}/rows.csv")
    pin = source.pin(tmp_path)
    assert "sha256" in pin.identity["files"][0]  # type: ignore[index, call-overload]
    assert read(source, tmp_path, pin).height == 2000
    assert source.pin(tmp_path) == pin
    assert site.gets() == 2, "only its content says whether it changed"
    site.files["/rows.csv"] = ROWS[:-1] + b"0"
    assert source.pin(tmp_path).identity != pin.identity
    assert read(source, tmp_path, pin)["n"][-1] == 1999


def test_a_server_that_says_when_it_changed_is_asked_for_the_bytes_once(site: Site, tmp_path: Path) -> None:
    site.etags, site.modified = False, formatdate(1e9, usegmt=True)
    source = build(f"{site.url}/rows.csv")
    assert source.pin(tmp_path) == source.pin(tmp_path)
    assert site.gets() == 1


def test_files_here_and_there_are_one_source(site: Site, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"id,n\nhere,1\n")
    assert read(build(["a.csv", f"{site.url}/rows.csv"]), tmp_path)["id"].to_list()[:2] == ["here", "row-0"]


def test_formats_are_told_by_the_name_in_the_address(site: Site, tmp_path: Path) -> None:
    import gzip

    site.files["/rows.csv.gz"] = gzip.compress(ROWS)
    assert read(build(f"{site.url}/rows.csv.gz?version=3"), tmp_path).height == 2000


@pytest.mark.parametrize("ranges", [True, False])
def test_a_dropped_connection_is_taken_up_again(ranges: bool, site: Site, tmp_path: Path) -> None:
    source = build(f"{site.url}/rows.csv")
    pin = source.pin(tmp_path)
    site.ranges, site.drops = ranges, [5000, 3000]
    assert read(source, tmp_path, pin).height == 2000
    asked = [wanted for method, _, wanted in site.asked if method == "GET"]
    assert asked == [None, "bytes=5000-", "bytes=8000-" if ranges else "bytes=3000-"]


def test_a_connection_that_always_drops_leaves_nothing_that_counts(site: Site, tmp_path: Path) -> None:
    source = build(f"{site.url}/rows.csv")
    pin = source.pin(tmp_path)
    site.drops = [100] * 4
    with pytest.raises(UnavailableError, match="ended in the middle"):
        read(source, tmp_path, pin)
    assert downloads(tmp_path) == ["part"]
    assert read(source, tmp_path, pin).height == 2000
    assert site.asked[-1] == ("GET", "/rows.csv", "bytes=400-"), "the next run goes on where it was"


def test_an_object_that_changes_between_pin_and_read(site: Site, tmp_path: Path) -> None:
    source = build(f"{site.url}/rows.csv")
    pin = source.pin(tmp_path)
    site.files["/rows.csv"] = ROWS[:-3]
    with pytest.raises(DataError, match="changed between planning and reading"):
        read(source, tmp_path, pin)
    del site.files["/rows.csv"]
    with pytest.raises(DataError, match="there is nothing"):
        read(source, tmp_path, pin)


def test_an_object_that_changes_in_the_middle(site: Site, tmp_path: Path) -> None:
    source = build(f"{site.url}/rows.csv")
    pin = source.pin(tmp_path)
    site.drops = [100] * 4
    with pytest.raises(UnavailableError):
        read(source, tmp_path, pin)
    site.files["/rows.csv"] = ROWS.replace(b"row", b"raw")
    with pytest.raises(DataError, match="changed between planning and reading"):
        read(source, tmp_path, pin)


def test_what_was_fetched_is_verified(site: Site, tmp_path: Path) -> None:
    source = build(f"{site.url}/rows.csv")
    pin = source.pin(tmp_path)
    read(source, tmp_path, pin)
    (path,) = (tmp_path / ".plumbline" / "downloads").rglob("rows.csv")
    path.write_bytes(ROWS.replace(b"row-7,7", b"row-7,8"))
    assert read(source, tmp_path, pin)["n"][7] == 7
    assert site.gets() == 2


@pytest.mark.parametrize(
    ("status", "kind", "words", "tries"),
    [
        (401, UnavailableError, "refuses access (HTTP 401)", 1),
        (403, UnavailableError, "refuses access (HTTP 403)", 2),  # a signed address may refuse HEAD alone
        (404, DataError, "there is nothing (HTTP 404)", 1),
        (410, DataError, "there is nothing (HTTP 410)", 1),
        (418, DataError, "HTTP 418", 1),
        (429, UnavailableError, "too many requests", 4),
        (500, UnavailableError, "the server failed (HTTP 500)", 4),
        (503, UnavailableError, "the server failed (HTTP 503)", 4),
    ],
)
def test_statuses(  # noqa: PLR0917 - its case and its fixtures
    status: int, kind: type[EngineError], words: str, tries: int, site: Site, tmp_path: Path
) -> None:
    site.statuses = [status] * 20
    with pytest.raises(kind) as caught:
        build(f"{site.url}/rows.csv").pin(tmp_path)
    assert words in caught.value.message
    assert f"{site.url}/rows.csv" in caught.value.message
    assert caught.value.hint
    assert len(site.asked) == tries


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_passes_is_tried_again(status: int, site: Site, tmp_path: Path) -> None:
    source = build(f"{site.url}/rows.csv")
    site.statuses, site.headers = [status, status], {"Retry-After": "3600"}
    assert read(source, tmp_path).height == 2000


def test_a_server_that_is_asked_to_wait_for_an_hour_waits_seconds() -> None:
    assert module("web")._Patience().parse_retry_after("3600") == module("web")._LONGEST_WAIT


def test_a_server_without_head(site: Site, tmp_path: Path) -> None:
    site.head = False
    assert read(build(f"{site.url}/rows.csv"), tmp_path).height == 2000


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/rows.csv"
        with pytest.raises(UnavailableError, match=r"no answer after 4 tries: .*[Rr]efused") as caught:
            build(url).pin(tmp_path)
    assert url in caught.value.message


def test_a_server_that_never_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module("web"), "_READ_SECONDS", 0.05)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        with pytest.raises(UnavailableError, match=r"no answer after 4 tries: .*timed out"):
            build(f"http://127.0.0.1:{deaf.getsockname()[1]}/rows.csv").pin(tmp_path)


def test_fewer_bytes_than_announced_are_refused(site: Site, tmp_path: Path) -> None:
    source = build(f"{site.url}/rows.csv")
    pin = source.pin(tmp_path)
    pinned = {**pin.identity["files"][0], "size": len(ROWS) + 7}  # type: ignore[index, call-overload, dict-item]
    with pytest.raises(IntegrityError, match="were announced"):
        read(source, tmp_path, Pin({"files": [pinned]}, ""))


def test_secrets_reach_the_server_and_nobody_else(
    site: Site, serve: Callable[[], Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN_OF_TEST", "s3cr3t")
    source = build(f"{site.url}/rows.csv", headers={"Authorization": "Bearer ${secret:TOKEN_OF_TEST}"})
    pin = source.pin(tmp_path)
    assert read(source, tmp_path, pin).height == 2000
    assert {heard["Authorization"] for heard in site.heard} == {"Bearer s3cr3t"}
    assert "s3cr3t" not in repr((pin, source))
    other = serve()
    site.redirect = f"{other.url}/rows.csv"
    source.pin(tmp_path)
    assert all("Authorization" not in heard for heard in other.heard), "not to where it is sent on"
    address = site.url.replace("//", "//me:${secret:TOKEN_OF_TEST}@")
    site.redirect, site.statuses = None, [401]
    with pytest.raises(UnavailableError) as caught:
        build(f"{address}/rows.csv").pin(tmp_path)
    assert site.heard[-1]["Authorization"].startswith("Basic ")
    assert "s3cr3t" not in str(caught.value)
    monkeypatch.delenv("TOKEN_OF_TEST")
    with pytest.raises(UnavailableError, match="TOKEN_OF_TEST is not set"):
        source.pin(tmp_path)


@pytest.mark.parametrize(
    "params",
    [
        {"path": "https://me:hunter2@host/rows.csv"},
        {"path": "https://host/rows.csv?X-Amz-Signature=hunter2"},
        {"path": "https://host/rows.csv?a=1&access_token=hunter2"},
        {"path": "rows.csv", "headers": {"Authorization": "Bearer hunter2"}},
        {"path": "s3://b/rows.csv", "storage": {"secret_access_key": "hunter2"}},
    ],
)
def test_a_secret_that_is_written_out_is_refused(params: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"\$\{secret:NAME\}") as caught:
        build(**params)
    assert "hunter2" not in str(caught.value)


def test_progress_is_told_in_bytes(site: Site, tmp_path: Path) -> None:
    told: list[Any] = []
    source = build(f"{site.url}/rows.csv")
    list(source.read(Reading(tmp_path, source.pin(tmp_path), COLUMNS, lambda *words: told.append(words))))
    assert told[0] == ("fetching rows.csv, 0.0 MB", None, 1.0)


def test_an_unknown_scheme(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no way to read ftp://"):
        build("ftp://host/rows.csv").pin(tmp_path)
