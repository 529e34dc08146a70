"""lakeFS behind a network that misbehaves: what is tried again, what is made once, and what every refusal says.

The server's answers are recorded (see test_snapshots_contract.py); the faults are made by the relay in between.
"""

from __future__ import annotations

import gzip
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.contracts import SnapshotStore
from engine.errors import (
    ConflictError,
    EngineError,
    ExitCode,
    IntegrityError,
    NotFoundError,
    StoreError,
    UnavailableError,
    UsageError,
)
from engine.nodes.expectations import LastGood
from engine.nodes.frames import collect, scan_objects
from engine.stores.lakefs_calls import Patience
from engine.stores.lakefs_endpoint import parse_endpoint, probe
from engine.stores.lakefs_snapshots import LakeFSSnapshotStore
from engine.stores.snapshots import open_snapshots
from tests.stores.conftest import CASSETTES, REPO, namespace_of
from tests.stores.lakefs_relay import Relay, cut, delay, fail_after, hang_up, lose, refuse

QUICK = Patience(tries=4, first=0.001, longest=0.002)
PASSING = [423, 429, 500, 502, 503, 504]


@pytest.fixture
def store(lakefs: Relay) -> SnapshotStore:
    """A repository behind the relay; one object is on `main`."""
    found = LakeFSSnapshotStore(parse_endpoint(f"lakefs://{lakefs.address}?namespace={namespace_of(lakefs)}"), QUICK)
    found.ensure_repository(REPO)
    return found


def commit(store: SnapshotStore, folder: Path, path: str, content: str, branch: str = "main") -> Any:
    (folder / "source").write_text(content)
    store.put(REPO, branch, path, folder / "source")
    return store.commit(REPO, branch, f"save {path}", {"k": "v"})


def asked(lakefs: Relay, method: str, ending: str) -> int:
    return len([item for item in lakefs.seen if item.method == method and item.path.split("?")[0].endswith(ending)])


@pytest.mark.parametrize("befall", [lose, fail_after(502), fail_after(504)], ids=["lost", "502", "504"])
def test_a_commit_whose_answer_is_lost_is_made_once(
    store: SnapshotStore, lakefs: Relay, tmp_path: Path, befall: Callable[..., Any]
) -> None:
    lakefs.inject("POST", "/commits", befall)
    made = commit(store, tmp_path, "a", "1")
    assert store.log(REPO, "main", 1)[0].id == made.id
    assert len(store.log(REPO, "main", 10)) == 2
    assert asked(lakefs, "POST", "/commits") == 1
    assert dict(made.metadata) == {"k": "v"}


@pytest.mark.parametrize("befall", [lose, fail_after(500)], ids=["lost", "500"])
def test_a_merge_whose_answer_is_lost_is_applied_once(
    store: SnapshotStore, lakefs: Relay, tmp_path: Path, befall: Callable[..., Any]
) -> None:
    store.create_branch(REPO, "work", "main")
    work = commit(store, tmp_path, "a", "1", "work")
    head = commit(store, tmp_path, "b", "1")
    lakefs.inject("POST", "/merge/main", befall)
    merged = store.merge(REPO, "work", "main", "bring in", {"k": "v"})
    assert merged.parents == (head.id, work.id)
    assert store.resolve(REPO, "main") == merged.id
    assert asked(lakefs, "POST", "/merge/main") == 1
    assert store.resolve(REPO, "main~1") == head.id


def test_a_merge_that_never_arrived_is_asked_for_again(store: SnapshotStore, lakefs: Relay, tmp_path: Path) -> None:
    store.create_branch(REPO, "work", "main")
    commit(store, tmp_path, "a", "1", "work")
    lakefs.inject("POST", "/merge/main", hang_up, times=2)
    merged = store.merge(REPO, "work", "main", "bring in", {})
    assert store.resolve(REPO, "main") == merged.id
    assert asked(lakefs, "POST", "/merge/main") == 3


def test_a_revert_a_branch_a_tag_and_a_deletion_are_made_once(
    store: SnapshotStore, lakefs: Relay, tmp_path: Path
) -> None:
    made = commit(store, tmp_path, "a", "1")
    for ending in ("/revert", "/tags", "/branches"):
        lakefs.inject("POST", ending, lose)
    lakefs.inject("DELETE", "/branches/work", lose)
    undone = store.revert(REPO, "main", made.id)
    assert undone.parents == (made.id,)
    assert store.list(REPO, "main") == []
    store.create_branch(REPO, "work", "main")
    store.tag(REPO, "v1", made.id)
    assert (store.branches(REPO), dict(store.tags(REPO))) == (["main", "work"], {"v1": made.id})
    store.delete_branch(REPO, "work")
    assert store.branches(REPO) == ["main"]


@pytest.mark.parametrize("status", PASSING)
def test_what_passes_is_waited_for(store: SnapshotStore, lakefs: Relay, tmp_path: Path, status: int) -> None:
    for method, ending in (
        ("POST", "/objects"),
        ("POST", "/commits"),
        ("GET", "/branches/main"),
        ("GET", "/objects/ls"),
    ):
        lakefs.inject(method, ending, refuse(status), times=2)
    commit(store, tmp_path, "a", "1")
    assert [item.path for item in store.list(REPO, "main")] == ["a"]
    assert len(store.log(REPO, "main", 9)) == 2


@pytest.mark.parametrize("status", PASSING)
def test_patience_ends(store: SnapshotStore, lakefs: Relay, status: int) -> None:
    lakefs.seen.clear()
    lakefs.inject("GET", "/commits/main", refuse(status, "busy today"), times=99)
    with pytest.raises(UnavailableError, match=rf"{status} after 4 tries: busy today") as caught:
        store.resolve(REPO, "main")
    assert caught.value.exit_code == ExitCode.UNAVAILABLE
    assert "_health" in str(caught.value.hint)
    assert asked(lakefs, "GET", "/commits/main") == 4


@pytest.mark.parametrize(
    ("status", "raised"),
    [
        (401, (StoreError, "does not accept the access key")),
        (403, (StoreError, "does not allow it")),
        (409, (ConflictError, "as it is")),
        (410, (IntegrityError, "lost the data")),
        (412, (StoreError, "refuses it: as it is")),
        (418, (StoreError, "answers 418")),
    ],
)
def test_a_refusal_says_what_and_where_and_what_to_do(
    store: SnapshotStore, lakefs: Relay, tmp_path: Path, status: int, raised: tuple[type[EngineError], str]
) -> None:
    (tmp_path / "source").write_text("1")
    lakefs.inject("POST", "/objects", refuse(status, "as it is"))
    with pytest.raises(raised[0], match=raised[1]) as caught:
        store.put(REPO, "main", "a", tmp_path / "source")
    assert f"{REPO}@main" in caught.value.message
    assert "lakeFS at http://127.0.0.1" in caught.value.message
    assert caught.value.hint
    assert asked(lakefs, "POST", "/objects") == 1


def test_what_is_not_there_is_not_waited_for(store: SnapshotStore, lakefs: Relay) -> None:
    with pytest.raises(NotFoundError, match="nothing"):
        store.stat(REPO, "main", "nothing")
    assert asked(lakefs, "GET", "/objects/stat") == 1


def test_an_answer_cut_short_is_asked_for_again(store: SnapshotStore, lakefs: Relay, tmp_path: Path) -> None:
    commit(store, tmp_path, "a", "x" * 10_000)
    lakefs.inject("GET", "/objects", cut(4000), times=2)
    assert store.fetch(REPO, "main", "a").read_text() == "x" * 10_000
    lakefs.inject("GET", "/objects/ls", cut(20))
    assert len(store.list(REPO, "main")) == 1


def test_an_answer_that_is_always_cut_short_leaves_no_file(store: SnapshotStore, lakefs: Relay, tmp_path: Path) -> None:
    commit(store, tmp_path, "a", "x" * 10_000)
    lakefs.inject("GET", "/objects", cut(4000), times=99)
    with pytest.raises(UnavailableError, match=rf"{REPO}@main/a.*does not answer after 4 tries"):
        store.fetch(REPO, "main", "a")
    cache = Path(os.environ["PLUMBLINE_CACHE"])
    assert [path for path in cache.rglob("*") if path.is_file() and path.name != "swept"] == []


def test_a_slow_answer_is_an_answer(store: SnapshotStore, lakefs: Relay) -> None:
    lakefs.inject("GET", "/commits/main", delay(0.3))
    assert len(store.resolve(REPO, "main")) == 64


def test_a_page_of_a_proxy_is_no_answer(store: SnapshotStore, lakefs: Relay) -> None:
    lakefs.inject("GET", "/commits/main", refuse(200, "welcome"))
    assert len(store.resolve(REPO, "main")) == 64


def test_bytes_that_are_not_the_objects_are_refused(store: SnapshotStore, lakefs: Relay, tmp_path: Path) -> None:
    commit(store, tmp_path, "a", "right")
    lakefs.inject("GET", "/objects", refuse(200), times=9)
    with pytest.raises(IntegrityError, match="digest"):
        store.fetch(REPO, "main", "a")


def test_a_scan_of_a_server_that_is_away_names_the_source_and_no_key(
    store: SnapshotStore, lakefs: Relay, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = commit(store, tmp_path, "t/a.parquet", "not read")
    lakefs.inject("GET", "/a.parquet", refuse(403), times=99)
    lakefs.inject("HEAD", "/a.parquet", refuse(403), times=99)
    rows = scan_objects(store, (REPO, made.id), ["t/a.parquet"])
    with pytest.raises(UnavailableError, match="reading the last good snapshot"):
        _ = LastGood(None, lambda: rows).rows
    with pytest.raises(UnavailableError, match="reading source `t`") as caught:
        collect(rows, "source `t`")
    told = "".join(traceback.format_exception(caught.value)) + str(caught.value.hint) + "".join(capfd.readouterr())
    assert os.environ["LAKEFS_SECRET_ACCESS_KEY"] not in told
    assert os.environ["LAKEFS_ACCESS_KEY_ID"] not in told


def test_an_object_that_the_server_has_no_more_is_said_to_be_gone(store: SnapshotStore, lakefs: Relay) -> None:
    lakefs.inject("GET", "/gone.parquet", refuse(404), times=99)
    lakefs.inject("HEAD", "/gone.parquet", refuse(404), times=99)
    rows = scan_objects(store, (REPO, "ab" * 32), ["t/gone.parquet"])
    with pytest.raises(NotFoundError, match="reading source `t`: the snapshot store does not have"):
        collect(rows, "source `t`")


def test_a_server_that_is_down_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFS_ACCESS_KEY_ID", "some-key")
    monkeypatch.setenv("LAKEFS_SECRET_ACCESS_KEY", "some-secret")
    endpoint = parse_endpoint("lakefs://127.0.0.1:9")
    with pytest.raises(UnavailableError, match=r"lakeFS at http://127.0.0.1:9 does not answer after 4 tries") as caught:
        LakeFSSnapshotStore(endpoint, QUICK).resolve(REPO, "main")
    assert "some-" not in str(caught.value) + str(caught.value.hint)
    with pytest.raises(UnavailableError, match=r"no lakeFS answers at http://127.0.0.1:9"):
        probe(endpoint)


def test_a_doctor_hears_the_version_and_what_is_wrong(lakefs: Relay) -> None:
    endpoint = parse_endpoint(f"lakefs://{lakefs.address}")
    assert probe(endpoint)[0].isdigit()
    for status, words in ((401, "does not accept"), (500, "answers 500")):
        lakefs.inject("GET", "/config", refuse(status))
        with pytest.raises(UnavailableError, match=words):
            probe(endpoint)


def test_urls_and_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for bad in (
        "lakefs://key:secret-word@host", "lakefs://host:99999", "lakefs://", "lakefs://host?colour=blue", "lakefs://host?read=x",
        "lakefs://host/x", "lakefs://host?gateway=ftp://x", "lakefs://host?region=", "lakefs://ho st",
    ):  # fmt: skip
        with pytest.raises(UsageError) as caught:
            open_snapshots(bad)
        assert "secret-word" not in str(caught.value) + str(caught.value.hint)
    for name in ("LAKEFS_ACCESS_KEY_ID", "LAKEFS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UnavailableError, match="no access key") as none:
        open_snapshots("lakefs://host").repositories()
    assert "LAKEFS_ACCESS_KEY_ID" in str(none.value.hint)
    endpoint = parse_endpoint(
        "lakefs://${secret:MY_KEY}:${secret:MY_SECRET}@host?gateway=https://s3.host&namespace=s3://b/p/"
    )
    pair = endpoint.key_pair({"MY_KEY": "k", "MY_SECRET": "s"})
    assert (pair.key, pair.secret, repr(pair)) == ("k", "s", "KeyPair()")
    assert (endpoint.base, endpoint.namespace, endpoint.gateway) == ("https://host", "s3://b/p", "https://s3.host")
    with pytest.raises(UnavailableError, match="MY_KEY"):
        endpoint.key_pair({})


def test_no_recording_holds_what_logs_in() -> None:
    recordings = sorted(CASSETTES.glob("*.ndjson.gz"))
    assert len(recordings) > 40
    for path in recordings:
        text = gzip.decompress(path.read_bytes()).decode()
        assert text.startswith('{"server": "lakeFS 1.'), path
        for word in ("AKIA", "wJalr", "Authorization", "Signature", "x-amz-", "Basic "):
            assert word not in text, (path, word)
