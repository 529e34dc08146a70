"""The one error family: what went wrong, where, what is allowed, what to do next, and the exit code.

Everything the engine raises on purpose is an `EngineError`; a third-party error is wrapped once, where it enters.
`cli.py` prints `str(error)` on stderr and exits with `error.exit_code`. Nothing here imports beyond the standard library.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import ClassVar


class ExitCode(IntEnum):
    """What the shell sees (design, section 11)."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    REJECTED = 3
    INCONCLUSIVE = 4
    QUARANTINED = 5
    LOCKED = 6
    UNAVAILABLE = 7
    INTEGRITY = 8
    INTERRUPTED = 130


class EngineError(Exception):
    """Root of the family: `message` says where and what, `hint` says what to do next."""

    exit_code: ClassVar[ExitCode] = ExitCode.INTERNAL

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  next: {self.hint}" if self.hint else self.message


@dataclass(frozen=True, slots=True)
class Place:
    """A spot in a file; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a configuration. `path` is dotted, as in an override (`train.params.num_leaves`).

    Whoever finds the problem fills `path` and `message`; `config` adds `places` and `override` from provenance.
    `places` has two entries for an interpolated value: where it is used, and where it comes from.
    """

    path: str
    message: str
    value: str | None = None
    allowed: Sequence[str] = ()
    suggestion: str | None = None
    hint: str | None = None
    places: tuple[Place, ...] = ()
    override: str | None = None


class ConfigError(EngineError):
    """Every problem of a configuration at once."""

    exit_code = ExitCode.USAGE

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(render_problem(problem) for problem in self.problems))


class UsageError(EngineError):
    """A command line that cannot be understood."""

    exit_code = ExitCode.USAGE


class DataError(EngineError):
    """Source data that cannot be read as declared; it never reaches `main`."""

    exit_code = ExitCode.QUARANTINED


class LockedError(EngineError):
    """Somebody else holds what this command needs."""

    exit_code = ExitCode.LOCKED


class UnavailableError(EngineError):
    """A server, a file system, a library or a resource that the work needs is not there."""

    exit_code = ExitCode.UNAVAILABLE


class IntegrityError(EngineError):
    """Bytes differ from their recorded digest; `copy` is where the damaged ones were put, for whoever can say more of them."""

    exit_code = ExitCode.INTEGRITY

    def __init__(self, message: str, *, hint: str | None = None, copy: Path | None = None) -> None:
        super().__init__(message, hint=hint)
        self.copy = copy


class StoreError(EngineError):
    """A snapshot, artefact or state store refused or failed; the third-party error is the cause."""

    exit_code = ExitCode.UNAVAILABLE


class ConflictError(StoreError):
    """A compare-and-swap lost, or a merge met two versions of one path."""

    exit_code = ExitCode.LOCKED


class NotFoundError(StoreError):
    """No such run, model, branch, commit, node or object."""

    exit_code = ExitCode.USAGE


def render_problem(problem: Problem) -> str:
    """Lay one problem out for a person.

    >>> print(render_problem(Problem("train.rouns", "unknown key", suggestion="rounds", override="train.rouns=3")))
    train.rouns: unknown key (did you mean `rounds`?)
      from the command line: train.rouns=3
    """
    where = f"{problem.places[0]}: " if problem.places and not problem.override else ""
    value = f" (value: {problem.value})" if problem.value is not None else ""
    meant = f" (did you mean `{problem.suggestion}`?)" if problem.suggestion else ""
    lines = [f"{where}{problem.path}: {problem.message}{value}{meant}"]
    if problem.override:
        lines.append(f"  from the command line: {problem.override}")
    lines += [f"  comes from {place}" for place in problem.places[0 if problem.override else 1 :]]
    if problem.allowed:
        lines.append(f"  allowed: {', '.join(problem.allowed)}")
    if problem.hint:
        lines.append(f"  next: {problem.hint}")
    return "\n".join(lines)
