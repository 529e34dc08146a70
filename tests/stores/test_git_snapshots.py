"""The embedded snapshot store: what plain git sees, and what happens when it is killed, raced, damaged or full."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pygit2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ConflictError, IntegrityError, LockedError, StoreError, UsageError
from engine.stores import disk, git_refs, git_snapshots
from engine.stores.git_commits import CommitText, parse_message, render_message
from engine.stores.git_snapshots import GitSnapshotStore
from engine.stores.large_files import LargeFile, parse_pointer, render_pointer
from engine.stores.staging import StagedChange, staging_area

REPO = "data"
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@pytest.fixture
def store(tmp_path: Path) -> GitSnapshotStore:
    found = GitSnapshotStore(tmp_path / "snapshots")
    found.ensure_repository(REPO)
    return found


@pytest.fixture
def put(store: GitSnapshotStore, tmp_path: Path) -> Callable[..., None]:
    def stage(path: str, content: bytes, branch: str = "main") -> None:
        (tmp_path / "source").write_bytes(content)
        store.put(REPO, branch, path, tmp_path / "source")

    return stage


def git(store: GitSnapshotStore, *arguments: str) -> str:
    command = ["git", "-c", "safe.directory=*", "-C", str(store.root / f"{REPO}.git"), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def paths(store: GitSnapshotStore, ref: str = "main") -> list[str]:
    return [item.path for item in store.list(REPO, ref)]


def test_plain_git_reads_it(store: GitSnapshotStore, put: Callable[..., None]) -> None:
    put("flights/1.parquet", b"one")
    first = store.commit(REPO, "main", "first", {"rows": "1"})
    put("flights/2.parquet", b"two")
    second = store.commit(REPO, "main", "second", {})
    assert git(store, "log", "--format=%H %an %s", "-2").splitlines() == [
        f"{second.id} plumbline second",
        f"{first.id} plumbline first",
    ]
    assert git(store, "diff", "--name-status", "main~1", "main").split() == ["A", "flights/2.parquet"]
    metadata = git(store, "log", "-1", "--format=%(trailers:key=Plumbline-Metadata,valueonly)", first.id)
    assert json.loads(metadata) == {"rows": "1"}
    pointer = git(store, "cat-file", "blob", "main:flights/1.parquet")
    digest, size = (
        pointer.splitlines()[1].removeprefix("oid sha256:"),
        int(pointer.splitlines()[2].removeprefix("size ")),
    )
    kept = store.root / f"{REPO}.git" / "lfs" / "objects" / digest[:2] / digest[2:4] / digest
    assert (kept.read_bytes(), size) == (b"one", 3)
    assert "filter=lfs" in git(store, "cat-file", "blob", "main:.gitattributes")
    assert "error" not in git(store, "fsck", "--strict")
    if shutil.which("git-lfs"):
        assert digest in git(store, "lfs", "ls-files", "--long", "main")
        git(store, "lfs", "fsck", "main")


def test_commits_of_other_programs_are_read_and_built_upon(store: GitSnapshotStore, put: Callable[..., None]) -> None:
    put("a", b"1")
    store.commit(REPO, "main", "ours", {})
    tree = git(store, "rev-parse", "main^{tree}").strip()
    identity = ["-c", "user.name=Somebody", "-c", "user.email=s@example.org"]
    theirs = git(store, *identity, "commit-tree", tree, "-p", "main", "-m", "by hand").strip()
    git(store, "update-ref", "refs/heads/main", theirs)
    git(store, *identity, "tag", "-a", "v1", "-m", "annotated", theirs)
    git(store, "pack-refs", "--all")
    git(store, "gc", "--quiet")
    assert store.resolve(REPO, "main") == store.resolve(REPO, "v1") == theirs
    assert store.log(REPO, "main", 1)[0].metadata == {}
    put("b", b"2")
    store.commit(REPO, "main", "ours again", {})
    assert paths(store) == ["a", "b"]


@given(WORDS, st.dictionaries(st.text(), st.text(), max_size=4))
def test_messages_and_metadata_come_back_exactly(message: str, metadata: dict[str, str]) -> None:
    assert parse_message(render_message(CommitText(message, metadata)).lstrip("\n")) == CommitText(
        message.strip(), metadata
    )


@given(WORDS)
def test_foreign_messages_are_never_misread(message: str) -> None:
    assert parse_message(message).metadata == {}


def test_messages_that_git_cannot_hold_are_refused() -> None:
    for message in ("a\0b", "\ud800"):
        with pytest.raises(UsageError):
            render_message(CommitText(message))
    with pytest.raises(UsageError):
        render_message(CommitText("x", {"rows": 3}))  # type: ignore[dict-item]


@given(st.binary(max_size=200))
def test_only_pointers_are_pointers(blob: bytes) -> None:
    assert parse_pointer(blob) is None
    file = LargeFile("ab" * 32, len(blob))
    assert parse_pointer(render_pointer(file)) == file
    assert parse_pointer(render_pointer(file) + b"x") is None


def test_a_flipped_bit_is_found_set_aside_and_repaired_by_a_put(
    store: GitSnapshotStore, put: Callable[..., None]
) -> None:
    put("a", b"precious")
    store.commit(REPO, "main", "a", {})
    time.sleep(0.06)
    path = store.fetch(REPO, "main", "a")
    path.chmod(0o644)
    path.write_bytes(b"preciouS")
    with pytest.raises(IntegrityError, match="moved to"):
        store.fetch(REPO, "main", "a")
    with pytest.raises(IntegrityError, match="missing"):
        store.fetch(REPO, "main", "a")
    put("a", b"precious")
    assert store.fetch(REPO, "main", "a").read_bytes() == b"precious"


def test_fetching_hashes_a_file_once(
    store: GitSnapshotStore, put: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    put("a", b"precious and new")
    store.commit(REPO, "main", "a", {})
    time.sleep(0.06)
    hashed: list[Path] = []
    real = disk.digest_file
    monkeypatch.setattr(disk, "digest_file", lambda path: hashed.append(path) or real(path))
    for _ in range(3):
        GitSnapshotStore(store.root).fetch(REPO, "main", "a")
    assert len(hashed) == 1


def test_a_staged_object_that_vanished_is_not_committed(store: GitSnapshotStore, put: Callable[..., None]) -> None:
    put("a", b"precious")
    head = store.resolve(REPO, "main")
    for path in (store.root / f"{REPO}.git" / "lfs" / "objects").rglob("*"):
        if path.is_file():
            path.unlink()
    with pytest.raises(StoreError, match="missing or cut short"):
        store.commit(REPO, "main", "a", {})
    assert store.resolve(REPO, "main") == head


def test_a_branch_that_another_program_moves_is_tried_again(
    store: GitSnapshotStore, put: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, moves = git_refs.advance, [3]

    def overtaken(repository: pygit2.Repository, branch: str, expected: pygit2.Oid, target: pygit2.Oid) -> bool:
        if moves[0]:
            moves[0] -= 1
            head = repository[expected]
            author = pygit2.Signature("x", "x@example.org", moves[0], 0)
            repository.create_commit(f"refs/heads/{branch}", author, author, "overtaken", head.tree_id, [expected])
        return real(repository, branch, expected, target)

    monkeypatch.setattr(git_refs, "advance", overtaken)
    put("a", b"1")
    store.commit(REPO, "main", "a", {})
    assert [commit.message for commit in store.log(REPO, "main", 5)] == [
        "a",
        *["overtaken"] * 3,
        "Create the repository",
    ]
    moves[0] = 10**6
    put("b", b"2")
    with pytest.raises(ConflictError, match="moved 32 times"):
        store.commit(REPO, "main", "b", {})
    moves[0] = 0
    store.commit(REPO, "main", "b", {})
    assert paths(store) == ["a", "b"]


@pytest.mark.parametrize("reached", [False, True])
def test_a_commit_killed_around_the_move_is_finished_or_taken_back(
    store: GitSnapshotStore, put: Callable[..., None], monkeypatch: pytest.MonkeyPatch, reached: bool
) -> None:
    real = git_refs.advance

    class Killed(BaseException):
        pass

    def kill(*arguments: object) -> bool:
        if reached:
            real(*arguments)  # type: ignore[arg-type]
        raise Killed

    put("a", b"1")
    with monkeypatch.context() as patched:
        patched.setattr(git_refs, "advance", kill)
        with pytest.raises(Killed):
            store.commit(REPO, "main", "a", {})
    if reached:
        with pytest.raises(StoreError, match="nothing is staged"):
            store.commit(REPO, "main", "again", {})
    else:
        store.commit(REPO, "main", "again", {})
    assert paths(store) == ["a"]
    assert len(store.log(REPO, "main", 9)) == 2


def test_a_line_cut_short_by_a_kill_is_passed_over(tmp_path: Path) -> None:
    area = staging_area(tmp_path, "feature/x")
    file = LargeFile("ab" * 32, 1)
    with area.hold():
        area.add(StagedChange("a", file.digest, 1))
        with (area.folder / "staged.jsonl").open("ab") as torn:
            torn.write(b'{"path":"b","dig')
        area.add(StagedChange("c\n\u2028", file.digest, 1))
        assert area.read() == {"a": file, "c\n\u2028": file}


def test_lock_files_of_killed_processes_are_cleared_and_living_ones_respected(
    store: GitSnapshotStore, put: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = store.root / f"{REPO}.git" / "refs" / "heads" / "main.lock"
    lock.touch()
    os.utime(lock, (0, 0))
    put("a", b"1")
    store.commit(REPO, "main", "a", {})
    lock.touch()
    monkeypatch.setattr(git_refs, "_PATIENCE_SECONDS", 0.1)
    put("b", b"1")
    with pytest.raises(LockedError, match=r"main\.lock"):
        store.commit(REPO, "main", "b", {})
    lock.unlink()
    store.commit(REPO, "main", "b", {})
    assert paths(store) == ["a", "b"]


KILLED = """
import sys
from pathlib import Path
from engine.stores.snapshots import open_snapshots
store, source, first = open_snapshots(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
store.ensure_repository("data")
for number in range(first, first + 100000):
    for part in range(3):
        source.write_text(f"{number} {part}")
        store.put("data", "main", f"{number}/{part}", source)
    store.commit("data", "main", f"{number}", {})
    print(number, flush=True)
"""


def test_killed_at_any_moment_the_history_is_whole(
    store: GitSnapshotStore, tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    random.seed(11)
    told: set[str] = set()
    for attempt in range(8):
        child = start(KILLED, store.root, tmp_path / "child", attempt * 1000)
        assert child.stdout
        told.add(child.stdout.readline().strip())
        time.sleep(random.random() * 0.03)
        child.kill()
        told |= set(child.communicate()[0].split())
    log = store.log(REPO, "main", 10_000)
    assert told <= {commit.message for commit in log}
    assert len({commit.message for commit in log}) == len(log)
    for item in store.list(REPO, "main"):
        assert store.fetch(REPO, "main", item.path).stat().st_size == item.size
    assert "missing" not in git(store, "fsck", "--full")
    (tmp_path / "last").write_text("last")
    store.put(REPO, "main", "last", tmp_path / "last")
    store.commit(REPO, "main", "last", {})
    store.ensure_repository(REPO)
    assert not list((store.root / f"{REPO}.git" / "lfs" / "tmp").iterdir())


def test_creating_a_repository_at_once_gives_one(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]], finish: Callable[..., list[str]]
) -> None:
    script = (
        "import sys; from engine.stores.snapshots import open_snapshots; s = open_snapshots(sys.argv[1]); sys.stdin.readline();"
        "s.ensure_repository('data'); print(s.resolve('data', 'main'))"
    )
    children = [start(script, tmp_path / "snapshots") for _ in range(4)]
    for child in children:
        assert child.stdin
        child.stdin.write("go\n")
        child.stdin.flush()
    assert len(set(finish(children))) == 1
    assert [path.name for path in (tmp_path / "snapshots").iterdir()] == ["data.git"]


def test_a_full_disk_says_so_and_the_branch_stays(
    small_disk: Path | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = GitSnapshotStore((small_disk or tmp_path) / "snapshots")
    store.ensure_repository(REPO)
    head = store.resolve(REPO, "main")
    source = tmp_path / "big"
    source.write_bytes(os.urandom(1 << 20))
    with monkeypatch.context() as patched:
        if small_disk is None:

            def fail(*arguments: object) -> None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            patched.setattr(Path, "replace", fail)
        with pytest.raises(StoreError, match="disk is full"):
            store.put(REPO, "main", "big", source)
    assert store.resolve(REPO, "main") == head
    assert not list((store.root / f"{REPO}.git" / "lfs" / "tmp").iterdir())
    with pytest.raises(StoreError, match="nothing is staged"):
        store.commit(REPO, "main", "big", {})


def test_damaged_repositories_are_reported_in_words(store: GitSnapshotStore, put: Callable[..., None]) -> None:
    put("a", b"1")
    made = store.commit(REPO, "main", "a", {})
    loose = store.root / f"{REPO}.git" / "objects" / made.id[:2] / made.id[2:]
    loose.unlink()
    with pytest.raises(StoreError, match=r"data\.git") as caught:
        store.list(REPO, "main")
    assert "fsck" in str(caught.value.hint)


def test_a_file_that_is_no_pointer_is_an_integrity_error(store: GitSnapshotStore) -> None:
    with git_snapshots.GitSnapshotStore(store.root)._open(REPO) as repository:
        builder = repository.TreeBuilder()
        builder.insert("plain.txt", repository.create_blob(b"hello"), pygit2.enums.FileMode.BLOB)
        author = pygit2.Signature("x", "x@example.org")
        repository.create_commit("refs/heads/main", author, author, "x", builder.write(), [store.resolve(REPO, "main")])
    with pytest.raises(IntegrityError, match=r"plain\.txt: not a Git LFS pointer"):
        store.list(REPO, "main")


def test_thousands_of_objects_are_flushed_at_once(store: GitSnapshotStore, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for number in range(200):
        source.write_text(str(number))
        store.put(REPO, "main", f"{number % 7}/{number}", source)
    begun = time.perf_counter()
    store.commit(REPO, "main", "many", {})
    assert time.perf_counter() - begun < 60
    assert len(paths(store)) == 200


@pytest.mark.parametrize(
    ("code", "words"), [(errno.EROFS, "read-only"), (errno.ENOSPC, "disk is full"), (errno.EACCES, "denied")]
)
def test_what_the_git_library_says_about_the_disk_is_worded(
    store: GitSnapshotStore, put: Callable[..., None], monkeypatch: pytest.MonkeyPatch, code: int, words: str
) -> None:
    def fail(*arguments: object, **named: object) -> None:
        raise pygit2.GitError(f"failed to write: {os.strerror(code)}")

    put("a", b"1")
    with monkeypatch.context() as patched:
        patched.setattr(pygit2, "init_repository", fail)
        patched.setattr(git_snapshots, "write_commit", fail)
        for attempt in (lambda: store.ensure_repository("other"), lambda: store.commit(REPO, "main", "a", {})):
            with pytest.raises(StoreError, match=words):
                attempt()
    assert [path.name for path in store.root.iterdir()] == [f"{REPO}.git"]
    store.commit(REPO, "main", "a", {})
    assert paths(store) == ["a"]


def test_a_folder_that_is_no_repository_is_not_taken_for_one(store: GitSnapshotStore) -> None:
    (store.root / "odd.git" / "things").mkdir(parents=True)
    with pytest.raises(StoreError, match=r"odd\.git"):
        store.ensure_repository("odd")
    (store.root / "odd.git" / "HEAD").write_text("rubbish")
    with pytest.raises(StoreError, match=r"odd\.git"):
        store.resolve("odd", "main")


def test_threads_of_one_process_lose_nothing(store: GitSnapshotStore, tmp_path: Path) -> None:
    def work(name: str) -> None:
        branch = f"work-{name}"
        store.create_branch(REPO, branch, "main")
        for number in range(5):
            (tmp_path / name).write_text(f"{name}{number}")
            store.put(REPO, branch, f"{name}/{number}", tmp_path / name)
            store.commit(REPO, branch, "x", {})
            store.merge(REPO, branch, "main", "merge", {})
        store.delete_branch(REPO, branch)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, "abcd"))
    assert paths(store) == [f"{name}/{number}" for name in "abcd" for number in range(5)]
    assert store.branches(REPO) == ["main"]
    assert [path.name for path in (store.root / f"{REPO}.git" / "staging").iterdir()] == ["main"]
