"""The local artefact store: identity, damage, races, kills, full disks, garbage."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import IntegrityError, NotFoundError, StoreError
from engine.keys import digest
from engine.records import NodeOutput
from engine.stores import disk
from engine.stores.artefacts import LocalArtefactStore

FILES = {"rows.parquet": b"some rows", "deep/er/notes.json": b"{}", "empty": b""}
KEY = "ab" * 32
NAMES = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="/\0."), min_size=1, max_size=8), min_size=1, max_size=3
)
shared_folder = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def store(tmp_path: Path) -> LocalArtefactStore:
    return LocalArtefactStore(tmp_path / "artefacts")


def write(store: LocalArtefactStore, files: Mapping[str, bytes]) -> Path:
    staged = store.stage()
    for name, content in files.items():
        path = staged / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return staged


def put(store: LocalArtefactStore, files: Mapping[str, bytes]) -> str:
    return store.commit(write(store, files))


def read(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def flip(path: Path, position: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def fill(path: Path) -> None:
    """Write until the disk is full, to the last block."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass


def content_digest(files: Mapping[str, bytes]) -> str:
    return digest(
        {name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for name, data in files.items()}
    )


@shared_folder
@given(st.dictionaries(NAMES.map("/".join), st.binary(max_size=64), max_size=4))
def test_identity_is_the_content(tmp_path: Path, files: dict[str, bytes]) -> None:
    store = LocalArtefactStore(tmp_path / "artefacts")
    try:
        staged = write(store, files)
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        return  # the drawn names want one path to be both a file and a folder
    found = store.commit(staged)
    assert found == content_digest(files)
    assert read(store.open(found)) == files
    assert store.exists(found)
    assert put(store, files) == found
    assert list((store.root / "staging").iterdir()) == []


def test_empty_folders_are_not_content_and_files_become_read_only(store: LocalArtefactStore) -> None:
    staged = write(store, FILES)
    (staged / "nothing" / "here").mkdir(parents=True)
    scratch = staged.with_name(f"{staged.name}.parts")
    scratch.mkdir()
    found = store.commit(staged)
    assert found == put(store, FILES)
    assert not (store.open(found) / "nothing").exists()
    assert (store.open(found) / "empty").stat().st_mode & 0o777 == 0o444
    assert not scratch.exists()


@pytest.mark.parametrize("opened_before", [False, True])
@pytest.mark.parametrize("name", ["rows.parquet", "deep/er/notes.json"])
def test_one_flipped_bit_is_found_set_aside_and_computed_anew(
    store: LocalArtefactStore, name: str, opened_before: bool
) -> None:
    found = put(store, FILES)
    if opened_before:
        time.sleep(0.06)  # long enough for the memo to trust the file's times
        store.open(found)
    flip(store.open(found) / name)
    with pytest.raises(IntegrityError, match=name):
        store.open(found)
    assert not store.exists(found)
    assert [path for path in (store.root / "corrupt").iterdir() if path.is_dir()]
    with pytest.raises(NotFoundError):
        store.open(found)
    assert put(store, FILES) == found
    assert read(store.open(found)) == FILES


def test_one_file_is_read_without_looking_at_the_others(store: LocalArtefactStore) -> None:
    found = put(store, FILES)
    flip(store.root / "objects" / found[:2] / found / "rows.parquet")
    assert store.read(found, "deep/er/notes.json") == b"{}"
    with pytest.raises(NotFoundError, match=r"has no '\.\./x'"):
        store.read(found, "../x")
    with pytest.raises(IntegrityError, match=r"rows.parquet: its bytes differ"):
        store.read(found, "rows.parquet")
    with pytest.raises(NotFoundError, match="is not in"):
        store.read(found, "deep/er/notes.json")  # the whole copy was set aside
    assert len(list((store.root / "corrupt").glob(f"{found}-*.json"))) == 1


def test_what_was_staged_is_given_up_with_its_scratch_space(store: LocalArtefactStore) -> None:
    staged, other = write(store, FILES), write(store, FILES)
    (staged.parent / f"{staged.name}.scratch").mkdir()
    store.discard(staged)
    store.discard(staged)
    assert list(staged.parent.iterdir()) == [other]


def test_missing_added_and_unlisted_files_are_damage(store: LocalArtefactStore) -> None:
    def lose(folder: Path) -> None:
        (folder / "empty").unlink()

    def add(folder: Path) -> None:
        (folder / "more").write_bytes(b"")

    for damage in (lose, add):
        found = put(store, FILES)
        damage(store.open(found))
        with pytest.raises(IntegrityError):
            store.open(found)
        assert not store.exists(found)


@pytest.mark.parametrize("keep", [b"", None, b"{}", b"\0" * 200])
def test_a_manifest_that_a_power_cut_took_is_made_again(store: LocalArtefactStore, keep: bytes | None) -> None:
    found = put(store, FILES)
    manifest = store.root / "objects" / found[:2] / f"{found}.json"
    whole = manifest.read_bytes()
    manifest.unlink()
    if keep is not None:
        manifest.write_bytes(keep)
    assert store.exists(found)
    assert read(store.open(found)) == FILES
    assert manifest.read_bytes() == whole


def test_a_manifest_is_not_made_for_other_files(store: LocalArtefactStore) -> None:
    found = put(store, FILES)
    folder = store.root / "objects" / found[:2] / found
    folder.with_suffix(".json").unlink()
    flip(folder / "rows.parquet")
    assert not store.exists(found)
    with pytest.raises(IntegrityError, match="not those that were sealed"):
        store.open(found)


def test_a_damaged_copy_is_replaced_by_a_commit(store: LocalArtefactStore) -> None:
    found = put(store, FILES)
    path = store.open(found) / "rows.parquet"
    path.chmod(0o644)
    path.write_bytes(b"short")
    assert not store.exists(found)
    assert put(store, FILES) == found
    assert read(store.open(found)) == FILES


def test_the_memo_spares_the_second_hash_only(store: LocalArtefactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[Path] = []
    real = disk.digest_file
    monkeypatch.setattr(disk, "digest_file", lambda path: hashed.append(path) or real(path))
    found = put(store, {"rows": b"x" * 100})
    time.sleep(0.06)
    for _ in range(3):
        store.open(found)
    assert len(hashed) == 1


def test_unknown_and_malformed_digests(store: LocalArtefactStore) -> None:
    for name in ("0" * 64, "../../etc", "", "AB" * 32):
        assert not store.exists(name)
        assert store.find_action(name) is None
        with pytest.raises(NotFoundError):
            store.open(name)


def test_actions_come_back_and_need_their_artefact(store: LocalArtefactStore) -> None:
    found = put(store, FILES)
    output = NodeOutput(
        digest=found, notes={"rows": 3, "commit": "é\u2028", "share": 0.1, "none": None, "list": [1, {"a": True}]}
    )
    store.record_action(KEY, output)
    assert store.find_action(KEY) == output
    assert store.find_action("cd" * 32) is None
    path = store.open(found) / "rows.parquet"
    path.chmod(0o644)
    path.write_bytes(b"")
    assert store.find_action(KEY) is None
    with pytest.raises(StoreError, match="plain JSON"):
        store.record_action(KEY, NodeOutput(digest=found, notes={"x": float("nan")}))


def test_a_damaged_action_is_unknown(store: LocalArtefactStore) -> None:
    output = NodeOutput(digest=put(store, FILES), notes={"commit": "0123456789"})
    store.record_action(KEY, output)
    path = store.root / "actions" / KEY[:2] / f"{KEY}.json"
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert store.find_action(KEY) is None
    for position in range(len(whole)):
        path.write_bytes(whole)
        flip(path, position)
        assert store.find_action(KEY) is None
    path.write_bytes(whole)
    moved = store.root / "actions" / "cd" / f"{'cd' * 32}.json"
    moved.parent.mkdir()
    moved.write_bytes(whole)
    assert store.find_action("cd" * 32) is None


def test_links_devices_and_foreign_folders_are_refused(store: LocalArtefactStore, tmp_path: Path) -> None:
    for make in (lambda path: path.symlink_to("/etc"), lambda path: path.symlink_to("nowhere"), os.mkfifo):
        staged = write(store, FILES)
        make(staged / "odd")
        with pytest.raises(StoreError, match="odd"):
            store.commit(staged)
        assert not staged.exists()
    mine = tmp_path / "mine"
    mine.mkdir()
    with pytest.raises(StoreError, match="not staged"):
        store.commit(mine)
    assert mine.exists()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "disk is full .*MiB free"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission denied"),
        (errno.EIO, "error"),
    ],
)
@pytest.mark.parametrize("call", ["fsync", "rename", "replace", "open"])
def test_a_failing_disk_says_so_and_leaves_nothing(
    store: LocalArtefactStore, monkeypatch: pytest.MonkeyPatch, code: int, words: str, call: str
) -> None:
    put(store, {"other": b"1"})
    staged = write(store, FILES)

    def fail(*arguments: object, **named: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(os, call, fail)
        with pytest.raises(StoreError, match=words) as caught:
            store.commit(staged)
        assert caught.value.hint
        if call not in {"rename", "fsync"}:  # what is remembered of an action is not flushed
            with pytest.raises(StoreError, match=words):
                store.record_action(KEY, NodeOutput(digest=content_digest(FILES)))
    assert not store.exists(content_digest(FILES))
    assert store.find_action(KEY) is None
    assert not list(store.root.rglob(".*"))
    store.sweep_staging()
    assert put(store, FILES) == content_digest(FILES)


def test_a_full_disk(small_disk: Path | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalArtefactStore((small_disk or tmp_path) / "artefacts")
    put(store, {"first": b"1"})
    staged = write(store, {"second": b"2"})
    with monkeypatch.context() as patched:
        if small_disk is None:
            patched.setattr(
                os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device"))
            )
        else:
            fill(small_disk / "ballast")
        with pytest.raises(StoreError, match="disk is full"):
            store.commit(staged)
    assert not store.exists(content_digest({"second": b"2"}))
    assert list((store.root / "staging").iterdir()) == []
    if small_disk is not None:
        (small_disk / "ballast").unlink()
    assert store.exists(put(store, {"second": b"2"}))


COMMITTER = """
import sys
from pathlib import Path
from engine.records import NodeOutput
from engine.stores.artefacts import LocalArtefactStore
store = LocalArtefactStore(Path(sys.argv[1]))
sys.stdin.readline()
for number in range(int(sys.argv[2])):
    staged = store.stage()
    (staged / "sub").mkdir()
    (staged / "sub" / "rows").write_bytes(b"%d" % number * 2000)
    (staged / "notes").write_bytes(b"%d" % number)
    digest = store.commit(staged)
    store.record_action(digest, NodeOutput(digest=digest, notes={"number": number}))
    print(digest, flush=True)
"""


def test_processes_that_commit_the_same_agree(
    store: LocalArtefactStore, start: Callable[..., subprocess.Popen[str]], finish: Callable[..., list[str]]
) -> None:
    children = [start(COMMITTER, store.root, 40) for _ in range(4)]
    for child in children:
        assert child.stdin
        child.stdin.write("go\n")
        child.stdin.flush()
    printed = finish(children)
    assert len(set(printed)) == 1
    for found in printed[0].split():
        assert read(store.open(found)).keys() == {"notes", "sub/rows"}
        assert store.find_action(found)
    assert list((store.root / "staging").iterdir()) == []
    assert not (store.root / "corrupt").exists()


def test_killed_at_any_moment_nothing_half_done_is_visible(
    store: LocalArtefactStore, start: Callable[..., subprocess.Popen[str]]
) -> None:
    random.seed(7)
    for _ in range(8):
        child = start(COMMITTER, store.root, 100_000)
        assert child.stdin
        assert child.stdout
        child.stdin.write("go\n")
        child.stdin.flush()
        child.stdout.readline()
        time.sleep(random.random() * 0.03)
        child.kill()
        told = child.communicate()[0].split()
        assert all(store.find_action(found) for found in told if len(found) == 64)
    committed = [path.stem for path in (store.root / "objects").glob("*/*.json")]
    assert committed
    for found in committed:
        if store.exists(found):
            store.open(found)
    for path in (store.root / "actions").glob("*/[0-9a-f]*.json"):
        assert store.find_action(path.stem) is not None
    mine = store.stage()
    store.sweep_staging()
    assert list((store.root / "staging").iterdir()) == [mine]
    assert not (store.root / "corrupt").exists()


def test_sweeping_spares_the_living_and_other_machines(store: LocalArtefactStore) -> None:
    mine = store.stage()
    pid, start, machine, token = mine.name.split("-")
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], check=True, capture_output=True, text=True
    )
    folder = mine.parent
    reused = folder / f"{pid}-{int(start) + 1}-{machine}-{token}"
    gone = folder / f"{dead.stdout.strip()}-1-{machine}-{token}"
    foreign = folder / f"{dead.stdout.strip()}-1-{'0' * 8}-{token}"
    scratch, own_scratch = gone.with_name(f"{gone.name}.parts"), mine.with_name(f"{mine.name}.parts")
    for path in (reused, gone, foreign, scratch, own_scratch):
        path.mkdir()
    assert store.sweep_staging() == 3
    assert set(folder.iterdir()) == {mine, foreign, own_scratch}
    os.utime(foreign, (0, 0))
    assert store.sweep_staging() == 1


def test_garbage_collection_keeps_what_is_needed_young_or_used(store: LocalArtefactStore) -> None:
    kept, young, used, old = (put(store, {"n": name}) for name in (b"kept", b"young", b"used", b"old"))
    for found in (kept, young, used, old):
        store.record_action(found, NodeOutput(digest=found))
    for found in (kept, used, old):
        for path in (
            store.root / "objects" / found[:2] / f"{found}.json",
            store.root / "actions" / found[:2] / f"{found}.json",
        ):
            os.utime(path, (0, 0))
    assert store.find_action(used)
    assert store.collect_garbage({kept}, older_than=3600) == 1
    assert [store.exists(found) for found in (kept, young, used, old)] == [True, True, True, False]
    assert not (store.root / "objects" / old[:2] / old).exists()
    assert not (store.root / "actions" / old[:2] / f"{old}.json").exists()
    assert store.find_action(kept)
    assert store.collect_garbage(set(), older_than=-1) == 3
    assert put(store, {"n": b"old"}) == old
    assert LocalArtefactStore(store.root / "nowhere").collect_garbage(set(), older_than=0) == 0


def best_of(times: int, work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begun)
    return min(seconds)


def test_cost(store: LocalArtefactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    found = put(store, FILES)
    assert best_of(50, lambda: store.exists(found)) < 0.001
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    numbers = iter(range(1000))

    def write_one() -> None:
        content = put(store, {"notes.json": b"%d" % next(numbers)})
        store.record_action(content, NodeOutput(digest=content))

    assert best_of(50, write_one) < 0.002


def test_importing_the_stores_loads_no_data_library() -> None:
    script = (
        "import sys, json; import engine.stores.artefacts, engine.stores.registry, engine.stores.runs_index, engine.stores.snapshots;"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    heavy = {
        "numpy",
        "polars",
        "pygit2",
        "psycopg",
        "sqlalchemy",
        "distributed",
        "lightgbm",
        "pandas",
        "scipy",
        "sqlite3",
    }
    assert not heavy & set(json.loads(done.stdout))


def test_a_flipped_bit_is_found_although_nobody_opens_the_artefact(tmp_path: Path) -> None:
    store = LocalArtefactStore(tmp_path)
    staged = store.stage()
    (staged / "a.bin").write_bytes(b"\0" * 1000)
    name = store.commit(staged)
    store.record_action("b" * 64, NodeOutput(digest=name))
    path = tmp_path / "objects" / name[:2] / name / "a.bin"
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(500)
        file.write(b"\1")
    assert store.find_action("b" * 64) is None
    assert list((tmp_path / "corrupt").iterdir())


def test_a_touched_but_sound_artefact_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalArtefactStore(tmp_path)
    staged = store.stage()
    (staged / "a.bin").write_bytes(b"x")
    name = store.commit(staged)
    os.utime(tmp_path / "objects" / name[:2] / name / "a.bin")
    assert store.exists(name)
    monkeypatch.setattr("engine.stores.artefacts.find_damage", lambda *_: pytest.fail("hashed again"))
    assert store.exists(name)
