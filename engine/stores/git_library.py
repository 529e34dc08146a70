"""The git library at its edges: no user's settings reach it, and what it raises is worded.

Called by `git_snapshots` around everything that it does with a repository.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pygit2
from pygit2.enums import ConfigLevel

from engine.errors import StoreError
from engine.stores.disk import LACKS, disk_error


@contextmanager
def worded(path: Path) -> Iterator[None]:
    """Word what the git library and the disk raise; the library tells a full disk by the system's message only."""
    try:
        yield
    except (pygit2.GitError, KeyError, OSError) as error:
        code = next((code for code in sorted(LACKS) if os.strerror(code) in str(error)), None)
        if isinstance(error, OSError) and error.errno is not None:
            raise disk_error(error, "use the repository", path) from error
        if code is not None:
            raise disk_error(OSError(code, os.strerror(code)), "use the repository", path) from error
        raise StoreError(f"the repository {path}: {error}", hint=f"see what `git -C {path} fsck` says") from error


def isolate() -> None:
    """Let no user's git settings change what this store does, and open what another user's engine created."""
    for level in (ConfigLevel.SYSTEM, ConfigLevel.GLOBAL, ConfigLevel.XDG):
        pygit2.settings.search_path[level] = ""
    pygit2.settings.owner_validation = False
