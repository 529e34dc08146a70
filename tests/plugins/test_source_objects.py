"""Files in an object store, against a server that speaks S3: pinned by ETag and version, listed by glob, read exactly as pinned."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import polars as pl
import pytest

from engine.components import load_catalogue
from engine.contracts import Pin, Reading
from engine.errors import DataError, UnavailableError

COLUMNS = {"id": "str", "n": "i64"}
CATALOGUE = load_catalogue(Path("/"), ("files",))


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    """A server that speaks S3, of this session alone."""
    if not os.environ.get("CI"):
        pytest.importorskip("moto")
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@dataclass
class Bucket:
    """A bucket, and what to say to reach it."""

    name: str
    endpoint: str

    @property
    def storage(self) -> dict[str, str]:
        key = "${secret:S3_KEY_OF_TEST}"
        return {"endpoint": self.endpoint, "region": "us-east-1", "access_key_id": "me", "secret_access_key": key}

    def client(self) -> Any:
        from obstore.store import S3Store

        options = {**self.storage, "secret_access_key": "hunter2"}
        return S3Store(self.name, config=options, client_options={"allow_http": True})

    def put(self, key: str, content: bytes) -> None:
        import obstore

        obstore.put(self.client(), key, content)

    def source(self, *paths: str, **params: Any) -> Any:
        component = CATALOGUE.get("source", "csv")
        declared = {"path": [f"s3://{self.name}/{path}" for path in paths], "storage": self.storage, **params}
        return component.build(msgspec.convert(declared, component.params))


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    import urllib.request

    monkeypatch.setenv("S3_KEY_OF_TEST", "hunter2")
    made = Bucket(f"b-{uuid4().hex}", endpoint)
    request = urllib.request.Request(f"{endpoint}/{made.name}", method="PUT")
    with urllib.request.urlopen(request):
        pass
    return made


def read(source: Any, root: Path, pin: Pin | None = None, columns: dict[str, str] = COLUMNS) -> pl.DataFrame:
    return pl.concat(list(source.read(Reading(root, pin or source.pin(root), columns))))


def test_an_object_is_pinned_by_its_etag_and_read_once(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("rows.csv", b"id,n\na,1\n")
    source = bucket.source("rows.csv")
    pin = source.pin(tmp_path)
    assert pin.identity["files"][0].keys() >= {"name", "size", "etag"}  # type: ignore[index, union-attr, call-overload]
    assert read(source, tmp_path, pin).rows() == [("a", 1)]
    assert source.pin(tmp_path) == pin
    assert "hunter2" not in repr((pin, source))
    bucket.put("rows.csv", b"id,n\na,2\n")
    assert source.pin(tmp_path).identity != pin.identity
    assert read(source, tmp_path, pin).rows() == [("a", 1)], "what was fetched is kept"
    with pytest.raises(DataError, match="changed between planning and reading"):
        read(source, tmp_path / "elsewhere", pin)


def test_a_glob_lists_and_folders_give_columns(bucket: Bucket, tmp_path: Path) -> None:
    for key in ("rides/y=2/b.csv", "rides/y=1/a.csv", "rides/y=1/a.txt", "other/y=3/c.csv"):
        bucket.put(key, f"id,n\n{key[-5]},1\n".encode())
    source = bucket.source("rides/**/*.csv", hive=True)
    rows = read(source, tmp_path, columns={"y": "i64", "id": "str"})
    assert rows.rows() == [("1", "a"), ("2", "b")]
    before = source.pin(tmp_path).identity
    bucket.put("rides/y=3/c.csv", b"id,n\nc,1\n")
    assert source.pin(tmp_path).identity != before


def test_many_objects_are_listed_whole(bucket: Bucket, tmp_path: Path) -> None:
    for number in range(1005):
        bucket.put(f"rides/{number:05d}.csv", b"id,n\na,1\n")
    assert len(bucket.source("rides/*.csv").pin(tmp_path).identity["files"]) == 1005  # type: ignore[index, arg-type, call-overload]


@pytest.mark.parametrize(
    ("path", "words"),
    [("none.csv", "there is no such object"), ("*.zip", "no object matches"), ("", "names no object")],
)
def test_what_is_not_there(path: str, words: str, bucket: Bucket, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        bucket.source(path).pin(tmp_path)
    assert words in caught.value.message
    assert caught.value.hint


def test_a_store_that_is_away(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("plumbline_plugins.files.objects"), "_TRIES", 0)
    source = Bucket(bucket.name, "http://127.0.0.1:1").source("rows.csv")
    with pytest.raises(UnavailableError) as caught:
        source.pin(tmp_path)
    assert "hunter2" not in str(caught.value)
    assert "\n" not in caught.value.message


def test_a_secret_that_is_not_set(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("S3_KEY_OF_TEST")
    with pytest.raises(UnavailableError, match="S3_KEY_OF_TEST is not set"):
        bucket.source("rows.csv").pin(tmp_path)


@pytest.mark.parametrize(("scheme", "extra"), [("s3", "s3"), ("gs", "gcs"), ("az", "azure")])
def test_a_missing_library_is_named_with_its_extra(
    scheme: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    component = CATALOGUE.get("source", "csv")
    source = component.build(component.params(path=f"{scheme}://account/container/rows.csv"))
    with pytest.raises(UnavailableError) as caught:
        source.pin(tmp_path)
    assert f"pip install 'plumbline[{extra}]'" in str(caught.value)
