"""What every store on a local disk needs: durable writes, verified reads, locks, and errors in words.

Enters: paths and bytes. Leaves: files that are whole or absent, and `StoreError` that says what, where and what next.
Called by the stores beside it only. A write is temporary name, fsync, rename, fsync of the folder, in that order.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Final

from engine.errors import StoreError
from engine.keys import digest_file

_SETTLED_SECONDS = 0.05  # a file changed more recently than this could change again within one tick of its clock
_FOREIGN_SECONDS = 86_400.0  # processes of another machine cannot be asked whether they live: wait a day
_MEMO_LIMIT = 1 << 16
_SYNC_ONE_BY_ONE = 64  # above this, one flush of the file system is cheaper than an fsync each
_OWNER = re.compile(r"(?P<pid>\d+)-(?P<start>\d+)-(?P<machine>[0-9a-f]{8})-[0-9a-f]{12}(\..*)?")

LACKS: Final = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE}
)
"""What an operating system says when the machine lacks something: space, a writable disk, permission, files."""

_verified: dict[tuple[str, str], tuple[int, int, int, int]] = {}


@contextmanager
def explained(doing: str, path: Path) -> Iterator[None]:
    """Turn an `OSError` of the block into a `StoreError` that says what was being done where, and what to do next."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, doing, path) from error


def disk_error(error: OSError, doing: str, path: Path) -> StoreError:
    """Word an `OSError`: full disk, read-only, forbidden, too many open files, or in the system's words."""
    where = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else path
    start = f"cannot {doing} {path}" + ("" if where == path else f" ({where})")
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return StoreError(
                f"{start}: the disk is full{_free_space(path)}",
                hint="free some space (`engine gc` deletes what nothing needs) and run again: finished work is kept",
            )
        case errno.EROFS:
            return StoreError(
                f"{start}: the file system is read-only", hint="mount it writable, or set the store's URL elsewhere"
            )
        case errno.EACCES | errno.EPERM:
            return StoreError(
                f"{start}: permission denied for user {os.geteuid()}",
                hint="give that user write permission, or set the store's URL to a folder that has it",
            )
        case errno.EMFILE | errno.ENFILE:
            return StoreError(f"{start}: too many open files", hint="raise `ulimit -n`, or use fewer workers")
        case _:
            return StoreError(
                f"{start}: {error.strerror or error}", hint="check the disk and the folder, then run again"
            )


def _free_space(path: Path) -> str:
    existing = next((folder for folder in (path, *path.parents) if folder.exists()), None)
    if existing is None:
        return ""
    usage = shutil.disk_usage(existing)
    return f" ({usage.free / 2**20:.1f} MiB free of {usage.total / 2**20:.1f} MiB)"


def write_durably(path: Path, content: bytes) -> None:
    """Replace a file whole or not at all, and survive a power cut; raises `OSError`. The folder has to exist."""
    write_whole(path, content)
    fsync_folder(path.parent)


def write_whole(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Replace a file whole or not at all; a power cut may take its name back, and without `sync` its content too."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable; raises `OSError`."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def open_new(path: Path) -> BinaryIO:
    """Open a file that must not exist, making its folder when that is missing; raises `OSError`."""
    try:
        return path.open("xb")
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("xb")


def move(path: Path, target: Path) -> None:
    """Rename a file, making the folder it goes to when that is missing; raises `OSError`."""
    try:
        path.replace(target)
    except FileNotFoundError:
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)


def settle(root: Path, files: Iterable[Path]) -> None:
    """Make files and their names durable; all lie on the file system of `root`. Raises `OSError`."""
    wanted = list(files)
    if len(wanted) > _SYNC_ONE_BY_ONE and _flush_file_system(root):
        return
    for path in wanted:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    for folder in {folder for path in wanted for folder in (path.parent, path.parent.parent)}:
        fsync_folder(folder)


def _flush_file_system(root: Path) -> bool:
    """Call `syncfs`; `False` where the system has none."""
    import ctypes  # noqa: PLC0415 - start-up time: only large commits need it

    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:
        return False
    handle = os.open(root, os.O_RDONLY)
    try:
        if syncfs(handle) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(root))
    finally:
        os.close(handle)
    return True


def has_digest(path: Path, digest: str, size: int) -> bool:
    """Say whether a file has these bytes; hashed once a process as long as nothing touches it. Raises `OSError`.

    The memo compares inode, size and both times, and forgets a file that changed too recently for its clock to tell.
    """
    before = _fingerprint(path)
    if before[1] != size:
        return False
    key = (str(path), digest)
    if _verified.get(key) == before:
        return True
    if digest_file(path) != digest:
        return False
    if time.time() - before[3] / 1e9 > _SETTLED_SECONDS and _fingerprint(path) == before:
        if len(_verified) >= _MEMO_LIMIT:
            _verified.clear()
        _verified[key] = before
    return True


def _fingerprint(path: Path) -> tuple[int, int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@contextmanager
def hold_lock(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a lock between processes and threads; the kernel frees it when its holder dies. Raises `OSError`.

    Its file may be deleted by a holder, so what was locked has to be what the name still means.
    """
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
            if _is_same(path, handle):
                yield
                return
        finally:
            os.close(handle)


def _is_same(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def owned_name() -> str:
    """Give a fresh name that tells which process made it, for `is_abandoned`."""
    return f"{_owner(os.getpid())}-{secrets.token_hex(6)}"


@lru_cache(maxsize=1)
def _owner(pid: int) -> str:
    return f"{pid}-{_start_of(pid) or 0}-{_machine()}"


def is_abandoned(path: Path) -> bool:
    """Say whether the process that made this name with `owned_name` is gone.

    One of another machine cannot be asked: it counts as gone after a day.
    """
    match = _OWNER.fullmatch(path.name)
    if match is None or match["machine"] != _machine():
        try:
            return time.time() - path.stat().st_mtime > _FOREIGN_SECONDS
        except FileNotFoundError:
            return False
    start = _start_of(int(match["pid"]))
    return start is None or start != int(match["start"])


def _start_of(pid: int) -> int | None:
    """When a process started, in ticks since boot; `None` when it is gone, 0 for a live one where /proc is missing."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except ProcessLookupError:
        return None
    except FileNotFoundError:
        return None if Path("/proc/self/stat").exists() or not _answers(pid) else 0
    return int(stat.rpartition(b")")[2].split()[19])  # field 22, counted from behind the name


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _machine() -> str:
    return hashlib.sha256(os.uname().nodename.encode()).hexdigest()[:8]


def remove_tree(path: Path) -> None:
    """Delete a file or a folder, as far as it is there and may be deleted."""
    with suppress(NotADirectoryError, FileNotFoundError):
        shutil.rmtree(path, ignore_errors=path.is_dir())
    with suppress(OSError):
        path.unlink()


def entries(folder: Path) -> Iterator[Path]:
    """List a folder's entries that are not temporary files; nothing when there is no such folder."""
    try:
        yield from (path for path in sorted(folder.iterdir()) if not path.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return


def mtime(path: Path) -> float:
    """When a file was changed, in seconds; 0 when there is none."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def discard(staged: Path) -> None:
    """Delete a staged folder and the scratch space beside it, as far as they are there."""
    beside = f"{staged.name}."
    with suppress(FileNotFoundError):
        for name in os.listdir(staged.parent):  # noqa: PTH208 - once a node: `glob` would compile a pattern each time
            if name == staged.name or name.startswith(beside):
                remove_tree(staged.parent / name)
