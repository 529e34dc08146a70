"""Files that DVC tracks: the revision decides the bytes, wherever they lie."""

from __future__ import annotations

import hashlib
import http.server
import json
import shutil
import threading
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pygit2
import pytest

from engine.components import load_catalogue
from engine.contracts import Reading
from engine.errors import DataError, IntegrityError

COLUMNS = {"id": "str", "n": "i64"}
ME = pygit2.Signature("me", "me@example.org", 1_700_000_000, 0)


class Checkout:
    """A git repository with what `dvc add` and `dvc repro` leave in it, and DVC's cache."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.git = pygit2.init_repository(root, initial_head="main")
        self.cache = root / ".dvc" / "cache" / "files" / "md5"
        self.write(".dvc/config", "")

    def write(self, name: str, text: str) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text)

    def store(self, content: bytes, ending: str = "") -> str:
        md5 = hashlib.md5(content).hexdigest() + ending
        (self.cache / md5[:2]).mkdir(parents=True, exist_ok=True)
        (self.cache / md5[:2] / md5[2:]).write_bytes(content)
        return md5

    def add(self, name: str, content: bytes) -> None:
        out = f"{{md5: {self.store(content)}, size: {len(content)}, hash: md5, path: {Path(name).name}}}"
        self.write(f"{name}.dvc", f"outs: [{out}]\n")

    def add_folder(self, name: str, files: dict[str, bytes]) -> None:
        listing = [{"md5": self.store(content), "relpath": path} for path, content in files.items()]
        md5 = self.store(json.dumps(listing).encode(), ".dir")
        self.write(f"{name}.dvc", f"outs: [{{md5: {md5}, nfiles: {len(files)}, hash: md5, path: {Path(name).name}}}]\n")

    def commit(self) -> str:
        index = self.git.index
        index.add_all(["*.dvc", "*.lock"])
        index.write()
        parents = [] if self.git.head_is_unborn else [self.git.head.target]
        return str(self.git.create_commit("HEAD", ME, ME, "data", index.write_tree(), parents))

    def source(self, path: str, **params: Any) -> Any:
        component = load_catalogue(self.root, ("files",)).get("source", "dvc")
        return component.build(msgspec.convert({"path": path, **params}, component.params))

    def read(self, path: str, **params: Any) -> pl.DataFrame:
        source = self.source(path, **params)
        return pl.concat(list(source.read(Reading(self.root, source.pin(self.root), COLUMNS))))


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    made = Checkout(tmp_path)
    made.add("data/rows.csv", b"id,n\na,1\n")
    made.commit()
    return made


def test_the_revision_decides(checkout: Checkout) -> None:
    first = str(checkout.git.head.target)
    checkout.add("data/rows.csv", b"id,n\nb,2\n")
    checkout.commit()
    checkout.add("data/rows.csv", b"id,n\nc,3\n")  # not committed
    assert checkout.read("data/rows.csv").rows() == [("b", 2)]
    assert checkout.read("data/rows.csv", rev=first[:10]).rows() == [("a", 1)]
    assert checkout.read("data/rows.csv", rev="HEAD~1").rows() == [("a", 1)]
    pins = [checkout.source("data/rows.csv", rev=rev).pin(checkout.root).identity for rev in ("HEAD", "main", first)]
    assert pins[0] == pins[1] != pins[2]


def test_what_a_pipeline_of_dvc_made(checkout: Checkout) -> None:
    md5 = checkout.store(b"id,n\nmade,7\n")
    checkout.write(
        "jobs/dvc.lock", f"schema: '2.0'\nstages: {{build: {{outs: [{{path: out/rows.csv, md5: {md5}}}]}}}}\n"
    )
    checkout.commit()
    assert checkout.read("jobs/out/rows.csv").rows() == [("made", 7)]


def test_a_folder_and_a_file_in_it(checkout: Checkout) -> None:
    checkout.add_folder("rides", {"2.csv": b"id,n\nb,2\n", "2023/1.csv": b"id,n\na,1\n"})
    checkout.commit()
    assert checkout.read("rides").rows() == [("b", 2), ("a", 1)]
    assert checkout.read("rides/2023/1.csv").rows() == [("a", 1)]
    assert checkout.read("rides/2023").rows() == [("a", 1)]
    with pytest.raises(DataError, match="no such file in it"):
        checkout.read("rides/3.csv")


def test_the_older_cache(checkout: Checkout) -> None:
    shutil.move(checkout.cache, checkout.root / "old")
    shutil.rmtree(checkout.root / ".dvc" / "cache")
    shutil.move(checkout.root / "old", checkout.root / "elsewhere")
    checkout.write(".dvc/config", "[cache]\n    dir = ../elsewhere\n")
    assert checkout.read("data/rows.csv").rows() == [("a", 1)]


def test_a_remote_that_is_a_folder(checkout: Checkout) -> None:
    shutil.move(checkout.root / ".dvc" / "cache", checkout.root / "remote")
    checkout.write(".dvc/config", "[core]\n    remote = store\n['remote \"store\"']\n    url = ../remote\n")
    assert checkout.read("data/rows.csv").rows() == [("a", 1)]


def test_a_remote_on_the_web(checkout: Checkout) -> None:
    shutil.move(checkout.root / ".dvc" / "cache", checkout.root / "remote")
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *words: None})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=checkout.root / "remote"))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        checkout.write(".dvc/config", f"[core]\n    remote = store\n['remote \"store\"']\n    url = {url}\n")
        assert checkout.read("data/rows.csv").rows() == [("a", 1)]
    finally:
        server.shutdown()
        server.server_close()
    assert checkout.read("data/rows.csv").rows() == [("a", 1)], "what was fetched is kept"


def test_damaged_bytes_are_refused(checkout: Checkout) -> None:
    (path,) = (item for item in checkout.cache.rglob("*") if item.is_file())
    path.write_bytes(b"id,n\na,9\n")
    with pytest.raises(IntegrityError, match="does not have the MD5"):
        checkout.read("data/rows.csv")


def test_text_of_before_with_the_line_ends_of_windows(checkout: Checkout) -> None:
    (path,) = (item for item in checkout.cache.rglob("*") if item.is_file())
    path.write_bytes(b"id,n\r\na,1\r\n")
    assert checkout.read("data/rows.csv").rows() == [("a", 1)]


@pytest.mark.parametrize(
    ("path", "params", "words"),
    [
        ("data/none.csv", {}, "is not tracked by DVC at HEAD"),
        ("data/rows.csv", {"rev": "no-such"}, "has no revision 'no-such'"),
        ("data/rows.csv", {"repo": "nowhere"}, "is no git checkout"),
    ],
)
def test_what_is_not_there(path: str, params: dict[str, Any], words: str, checkout: Checkout) -> None:
    with pytest.raises(DataError) as caught:
        checkout.read(path, **params)
    assert words in caught.value.message
    assert caught.value.hint


def test_bytes_that_are_nowhere(checkout: Checkout) -> None:
    shutil.rmtree(checkout.root / ".dvc" / "cache")
    with pytest.raises(DataError, match="there is no default remote"):
        checkout.read("data/rows.csv")
    checkout.write(".dvc/config", "[core]\n    remote = store\n['remote \"store\"']\n    url = ../remote\n")
    with pytest.raises(DataError, match="neither in DVC's cache nor in"):
        checkout.read("data/rows.csv")


def test_a_pointer_that_cannot_be_read(checkout: Checkout) -> None:
    checkout.write("data/rows.csv.dvc", "outs: [")
    checkout.commit()
    with pytest.raises(DataError, match=r"rows\.csv\.dvc at .* cannot be read"):
        checkout.read("data/rows.csv")
