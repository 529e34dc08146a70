"""The staging area of a branch: what was put and removed since its last commit, shared by every process.

    staging/<branch>/staged.jsonl             one line a change; the last one about a path counts
    staging/<branch>/committing.<commit>      the same file while a commit is on its way to the branch
    staging/<branch>/lock                     held by whoever changes the branch

The rename to `committing.<commit>` and the branch's move are two steps; `recover` finds a commit that was killed
between them and either drops the lines (the branch has the commit) or takes them back (it has not). Called by `git_snapshots`.
Lines survive the process that wrote them, not a power cut; a commit survives both.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import msgspec

from engine.stores.disk import explained, hold_lock, remove_tree
from engine.stores.large_files import LargeFile


class StagedChange(msgspec.Struct, frozen=True):
    """One line: an object put at a path, or (`digest: null`) a removal."""

    path: str
    digest: str | None = None
    size: int = 0


_decoder = msgspec.json.Decoder(StagedChange)


@dataclass(frozen=True, slots=True)
class StagingArea:
    """The staged changes of one branch. Every method but `hold` is called while holding it."""

    folder: Path

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Have the branch alone, among this store's users; raises `StoreError`."""
        with explained("change the branch in", self.folder), hold_lock(self.folder / "lock"):
            yield

    def add(self, *changes: StagedChange) -> None:
        """Append changes in one write, after closing a line that a kill cut short."""
        with explained("stage a change in", self.folder), self._staged.open("ab") as file:
            lines = b"".join(msgspec.json.encode(change) + b"\n" for change in changes)
            if file.tell() and not _ends_with_newline(self._staged):
                lines = b"\n" + lines
            file.write(lines)

    def read(self, lines_of: Path | None = None) -> Mapping[str, LargeFile | None]:
        """Give what is staged: an object for a put, `None` for a removal, by path."""
        changes: dict[str, LargeFile | None] = {}
        file = lines_of or self._staged
        with explained("read", file):
            lines = file.read_bytes().splitlines() if file.exists() else []
        for line in lines:
            try:
                change = _decoder.decode(line)
            except msgspec.DecodeError:
                continue  # cut short by a kill: its writer never heard that it was staged
            changes[change.path] = None if change.digest is None else LargeFile(change.digest, change.size)
        return changes

    def begin(self, commit: str) -> None:
        """Note that these lines are about to become this commit."""
        with explained("begin a commit in", self.folder):
            self._staged.rename(self.folder / f"committing.{commit}")

    def end(self, commit: str) -> None:
        """Drop the lines: the branch has the commit."""
        with explained("end a commit in", self.folder):
            (self.folder / f"committing.{commit}").unlink(missing_ok=True)

    def undo(self, commit: str) -> None:
        """Take the lines back: the commit did not reach the branch."""
        with explained("take back a commit in", self.folder):
            (self.folder / f"committing.{commit}").rename(self._staged)

    def recover(self, holds: Callable[[str], bool]) -> None:
        """Finish what a killed commit left; `holds(commit)` says whether the branch has it."""
        for path in self.folder.glob("committing.*"):
            commit = path.name.removeprefix("committing.")
            if holds(commit):
                self.end(commit)
            else:
                self.undo(commit)

    def clear(self) -> None:
        """Forget everything staged."""
        with explained("forget what is staged in", self.folder):
            self._staged.unlink(missing_ok=True)

    def discard(self) -> None:
        """Forget everything staged, and the folder with it: the branch is going."""
        remove_tree(self.folder)

    @property
    def _staged(self) -> Path:
        return self.folder / "staged.jsonl"


def staging_area(root: Path, branch: str) -> StagingArea:
    """Give the staging area of a branch; the branch's name is quoted to be one folder's name."""
    return StagingArea(root / quote(branch, safe=""))


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
