"""What the store tests share: child processes, a small disk, and every implementation behind each contract.

lakeFS is a real server when `LAKEFS_ENDPOINT` is set, and else what one said when `PLUMBLINE_RECORD` was set beside it. A live
test deletes the repository `plumbline-contract` of that server first. What cannot be recorded (several processes at once, random
histories, many objects) is marked `live`.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import pwd
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from engine.contracts import Commit, SnapshotStore
from engine.stores.database import Database, open_database
from engine.stores.snapshots import open_snapshots
from tests.stores.lakefs_relay import Live, Relay, Replay
from tests.stores.lakefs_server import LiveServer

ROOT = Path(__file__).parents[2]
CASSETTES = Path(__file__).parent / "cassettes"
REPO = "plumbline-contract"
ENDPOINT = os.environ.get("LAKEFS_ENDPOINT", "").removeprefix("http://").rstrip("/")


def _has_postgres() -> bool:
    """PostgreSQL refuses to run as root, so root needs the user that its packages create."""
    present = (
        find_spec("psycopg") is not None and shutil.which("initdb") is not None and shutil.which("pg_ctl") is not None
    )
    return present and (os.geteuid() != 0 or any(entry.pw_name == "postgres" for entry in pwd.getpwall()))


# In CI a missing server is a failure, not a test less.
DATABASES = ["sqlite", *(["postgresql"] if _has_postgres() or os.environ.get("CI") else [])]
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder in memory where there is one: the stores fsync a lot, and a busy disk would make the tests slow."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="plumbline-", dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture
def start() -> Iterator[Start]:
    """Start Python children that run a script with arguments; whatever still runs at the end is killed."""
    children: list[subprocess.Popen[str]] = []

    def begin(script: str, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-W", "error", "-c", script, *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        pipe = subprocess.PIPE
        child = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        children.append(child)
        return child

    yield begin
    for child in children:
        if child.poll() is None:
            child.kill()
        child.communicate()


@pytest.fixture
def finish() -> Callable[[list[subprocess.Popen[str]]], list[str]]:
    """Wait for children that have to succeed; gives what each printed."""

    def wait(children: list[subprocess.Popen[str]]) -> list[str]:
        printed = []
        for child in children:
            out, err = child.communicate(timeout=60)
            assert child.returncode == 0, err
            printed.append(out)
        return printed

    return wait


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path | None]:
    """A file system of 256 KiB, or `None` where nothing may be mounted: the test then makes the system calls fail."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], check=False, capture_output=True
    ) if shutil.which("mount") else None  # fmt: skip
    if mounted is None or mounted.returncode != 0:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A fresh database of every kind that this machine has."""
    if request.param == "sqlite":
        yield str(tmp_path / "state" / "state.db")
        return
    import psycopg

    folder = request.getfixturevalue("postgres_folder")
    url = f"postgresql://plumbline@/postgres?host={folder}"
    yield url
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS plumbline CASCADE")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """An open database of every kind."""
    found = open_database(database_url)
    yield found
    found.close()


@pytest.fixture
def lakefs(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    """A server that speaks for lakeFS, without the repository."""
    monkeypatch.setenv("PLUMBLINE_CACHE", str(tmp_path / "cache"))
    numbers = itertools.count(1)
    monkeypatch.setattr("engine.stores.lakefs_history.new_request", lambda: f"request-{next(numbers)}")
    name = request.node.name.replace("[lakefs]", "").replace("test_", "", 1)
    cassette = CASSETTES / f"{request.module.__name__.rpartition('.')[2].removeprefix('test_')}.{name}.ndjson.gz"
    if not ENDPOINT:
        if request.node.get_closest_marker("live"):
            pytest.skip("needs a server: LAKEFS_ENDPOINT")
        monkeypatch.setenv("LAKEFS_ACCESS_KEY_ID", "replayed-key")
        monkeypatch.setenv("LAKEFS_SECRET_ACCESS_KEY", "replayed-secret")
        replay = Replay(cassette)
        with Relay(replay) as relay:
            yield relay
        assert replay.unknown == []
        return
    server = LiveServer(ENDPOINT)
    server.delete(REPO)
    with Relay(Live(ENDPOINT, {})) as relay:
        yield relay
    if os.environ.get("PLUMBLINE_RECORD") and not request.node.get_closest_marker("live"):
        assert isinstance(relay.backend, Live)
        relay.backend.save(cassette, {"server": f"lakeFS {server.version}"})


def namespace_of(relay: Relay) -> str:
    """Where new repositories of a test keep their objects; on a server no place is used twice."""
    if isinstance(relay.backend, Live):
        place = f"local://plumbline-{secrets.token_hex(8)}"
        relay.backend.renamed = {place: "local://recorded"}
        return place
    return "local://recorded"


@pytest.fixture(params=["embedded", "lakefs"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a store of every kind, without repositories."""
    if request.param == "embedded":
        return str(tmp_path / "snapshots")
    relay = request.getfixturevalue("lakefs")
    return f"lakefs://{relay.address}?namespace={namespace_of(relay)}"


@pytest.fixture
def url(empty_url: str) -> str:
    """The URL of a store of every kind, with an empty repository."""
    open_snapshots(empty_url).ensure_repository(REPO)
    return empty_url


@pytest.fixture
def store(url: str) -> SnapshotStore:
    return open_snapshots(url)


@pytest.fixture
def put(store: SnapshotStore, tmp_path: Path) -> Callable[[str, dict[str, bytes]], None]:
    def stage(branch: str, files: dict[str, bytes]) -> None:
        for path, content in files.items():
            source = tmp_path / "source"
            source.write_bytes(content)
            staged = store.put(REPO, branch, path, source)
            assert (staged.path, staged.digest, staged.size) == (
                path,
                hashlib.sha256(content).hexdigest(),
                len(content),
            )

    return stage


@pytest.fixture
def save(
    store: SnapshotStore, put: Callable[[str, dict[str, bytes]], None]
) -> Callable[[str, dict[str, bytes]], Commit]:
    def stage_and_commit(branch: str, files: dict[str, bytes]) -> Commit:
        put(branch, files)
        return store.commit(REPO, branch, f"save {sorted(files)}", {})

    return stage_and_commit
