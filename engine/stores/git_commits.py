"""Commits as git keeps them, and as the contract gives them. The message ends in one trailer line with the metadata.

Enters: messages and metadata. Leaves: commit objects with a neutral author, and `Commit`. Called by `git_snapshots`.
The trailer is JSON in ASCII, so that any Unicode comes back exactly and `git log` shows it on one line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pygit2

from engine.clock import isoformat
from engine.contracts import Commit
from engine.errors import UsageError

_TRAILER = "Plumbline-Metadata: "
_NAME, _ADDRESS = "plumbline", "plumbline@localhost"


@dataclass(frozen=True, slots=True)
class CommitText:
    """What a person and a program may say about a commit. Space around the message is not kept."""

    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)


def write_commit(
    repository: pygit2.Repository, tree: pygit2.Oid, parents: Sequence[pygit2.Oid], text: CommitText, at: datetime
) -> pygit2.Oid:
    """Write a commit object that no branch names yet; raises `UsageError` for text that git cannot hold."""
    author = pygit2.Signature(_NAME, _ADDRESS, int(at.timestamp()), 0)
    return repository.create_commit(None, author, author, render_message(text), tree, list(parents))


def read_commit(commit: pygit2.Commit) -> Commit:
    """Give a commit in the contract's terms; one made by plain git has no metadata."""
    text = parse_message(commit.message)
    at = isoformat(datetime.fromtimestamp(commit.commit_time, UTC))
    return Commit(str(commit.id), tuple(str(parent) for parent in commit.parent_ids), text.message, text.metadata, at)


def render_message(text: CommitText) -> str:
    """Give the text that git keeps; raises `UsageError`.

    >>> print(render_message(CommitText("ingest flights", {"rows": "3"})))
    ingest flights
    <BLANKLINE>
    Plumbline-Metadata: {"rows": "3"}
    """
    message = text.message.strip()
    if "\0" in message or any("\ud800" <= character <= "\udfff" for character in message):
        raise UsageError("a commit message is text without NUL characters and lone surrogates")
    if not all(isinstance(part, str) for pair in text.metadata.items() for part in pair):
        raise UsageError("the metadata of a commit maps text to text")
    return f"{message}\n\n{_TRAILER}{json.dumps(dict(text.metadata), sort_keys=True)}"


def parse_message(kept: str) -> CommitText:
    r"""Read what `render_message` gave; anything else is all message.

    >>> parse_message('a\n\nPlumbline-Metadata: {"b": "c"}')
    CommitText(message='a', metadata={'b': 'c'})
    """
    message, separator, trailer = kept.rpartition("\n" + _TRAILER) if "\n" + _TRAILER in kept else ("", "", kept)
    if not separator and trailer.startswith(_TRAILER):  # git drops the blank lines in front of an empty message
        separator, trailer = _TRAILER, trailer.removeprefix(_TRAILER)
    if separator:
        try:
            metadata = json.loads(trailer)
        except ValueError:
            metadata = None
        if isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values()):
            return CommitText(message.strip(), metadata)
    return CommitText(kept.strip(), {})
