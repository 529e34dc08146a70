"""What every snapshot store says in the same way: paths, refs, and the words for what is missing or in conflict.

Enters: names as the user wrote them. Leaves: their parts, or errors. Called by the snapshot stores. A path that one
store takes the other takes too, so that data may move between them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches

from engine.errors import ConflictError, NotFoundError, UsageError

MAIN = "main"
_BACK = re.compile(r"(?P<name>.+?)(?:~(?P<steps>\d{0,9}))?")
_NAMED = 10  # how many paths an error lists


def check_path(path: str) -> str:
    """Refuse what cannot be an object's path: relative, `/` between names, none of them empty, `.`, `..` or `.git…`."""
    names = path.split("/")
    bad = any(name in {"", ".", ".."} or name.lower().startswith(".git") for name in names)
    if bad or "\0" in path or "\n" in path or any("\ud800" <= character <= "\udfff" for character in path):
        raise UsageError(
            f"{path!r} cannot be the path of an object",
            hint="write it relative and with /, as in flights/2013-01.parquet; `.`, `..` and `.git…` are not names",
        )
    return path


def split_ref(ref: str) -> tuple[str, int]:
    """Give a ref's name and how many commits before it; raises `UsageError`.

    >>> split_ref("main~2"), split_ref("v1~"), split_ref("main")
    (('main', 2), ('v1', 1), ('main', 0))
    """
    match = _BACK.fullmatch(ref)
    if match is None:
        raise UsageError(
            f"{ref!r} is not a ref", hint="write a branch, a tag or a commit id, with ~2 for two commits before"
        )
    return match["name"], 0 if match["steps"] is None else int(match["steps"] or 1)


def bad_name(name: str) -> UsageError:
    """Word a name that cannot be one of a branch or tag."""
    return UsageError(f"{name!r} cannot name a branch or tag", hint="use letters, digits, `-`, `_`, `.` and `/`")


def missing(kind: str, name: str, known: Sequence[str]) -> NotFoundError:
    """Word a name that leads nowhere, with the nearest that do."""
    near = get_close_matches(name, known, n=3) or sorted(known)[:5]
    return NotFoundError(f"no {kind} `{name}`", hint=f"there is {', '.join(near)}" if near else None)


def missing_object(repository: str, ref: str, path: str) -> NotFoundError:
    """Word a path without an object."""
    return NotFoundError(f"no object `{path}` at {repository}@{ref}")


def conflict_error(what: str, paths: Sequence[str]) -> ConflictError:
    """Word a merge that met two versions of some paths."""
    more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    return ConflictError(
        f"{what}: {len(paths)} path(s) changed on both sides: {', '.join(paths[:_NAMED])}{more}",
        hint="start the branch anew from the present state, or revert one of the two changes",
    )
