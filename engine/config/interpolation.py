"""`${...}` in values: which forms are allowed, what they refer to, and their safe resolution.

`${key.path}` and `${.sibling}` refer within the configuration, `${env:NAME}` and `${env:NAME,default}` read a plain
environment variable (recorded with the run: not for secrets), `${secret:NAME}` stays a reference. `${oc.env:...}` is
refused because a resolved dump would print it, `${now:}` and `${hydra:}` because the same files must give the same
configuration.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from engine.config.secrets import reference

_RESOLVER = re.compile(r"(?<!\\)(?:\\\\)*\$\{\s*([A-Za-z_][\w.]*)\s*:")
_REFERENCE = re.compile(r"(?<!\\)(?:\\\\)*\$\{\s*(\.*[^${}:]*?)\s*\}")
_SECRETIVE = re.compile(r"passw|secret|token|credential|private|api_?key|access_?key", re.IGNORECASE)
_ENV_NAME = re.compile(r"\$\{\s*env\s*:\s*([^,}\s]*)")
ALLOWED = ("env", "secret", "oc.select", "oc.decode", "oc.create", "oc.dict.keys", "oc.dict.values")
MAX_RESOLVED = 200_000


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an interpolation is not accepted."""

    message: str
    allowed: tuple[str, ...] = ()
    suggestion: str | None = None
    hint: str | None = None


def check_text(text: str) -> Refusal | None:
    """Check the interpolations in one text; `None` when they are fine.

    >>> check_text("${train.seed}"), check_text("${oc.env:HOME}").message
    (None, '`oc.env` would write what the variable holds into every record')
    """
    for name in _RESOLVER.findall(text):
        if name in {"oc.env", "env"} and (name == "oc.env" or _SECRETIVE.search("".join(_ENV_NAME.findall(text)))):
            what = "`oc.env` would write" if name == "oc.env" else "`env` writes"
            hint = "${secret:NAME} for a secret (resolved at use only), ${env:NAME} for what may be recorded"
            return Refusal(f"{what} what the variable holds into every record", hint=hint)
        if name not in ALLOWED:
            near = difflib.get_close_matches(name, ALLOWED, 1)
            return Refusal(f"unknown resolver `{name}`", ALLOWED, near[0] if near else None)
    return _grammar(text)


def references(text: str, path: str) -> Iterator[str]:
    """Give the absolute dotted paths that a text at `path` refers to.

    >>> list(references("${train.seed}-${.rounds}", "train.params.x"))
    ['train.seed', 'train.params.rounds']
    """
    for found in _REFERENCE.findall(text):
        target = re.sub(r"\[([^\]]+)\]", r".\1", found)
        dots = len(target) - len(target.lstrip("."))
        if dots:
            around = path.split(".")[: -dots or None]
            target = ".".join([*around, target[dots:]]) if target[dots:] else ".".join(around)
        if target:
            yield target


def oversized(texts: Mapping[str, str], sizes: Mapping[str, int]) -> str | None:
    """Give a path whose value would grow past `MAX_RESOLVED` or needs itself, without resolving anything.

    `texts` maps paths to texts with interpolations, `sizes` every path to the count of values and characters below it.
    """
    memo: dict[str, int] = {}
    below = _texts_below(texts)

    def size(path: str) -> int:
        if path in memo:
            return memo[path]
        memo[path] = MAX_RESOLVED + 1  # while being measured: a cycle measures as too much
        total = sizes.get(path, 0)
        for inner in below.get(path, ()):
            total += sum(size(target) for target in references(texts[inner], inner))
            if total > MAX_RESOLVED:
                break
        memo[path] = total
        return total

    return next((path for path in texts if size(path) > MAX_RESOLVED), None)


@contextmanager
def resolvers(variables: dict[str, str | None] | None = None) -> Iterator[None]:
    """Teach OmegaConf `env` and `secret`, and have `oc.env` refuse even when its name is put together at run time.

    What `env` reads is noted in `variables`: name, and what the variable holds, `None` when it is not set.
    """
    from omegaconf import OmegaConf  # noqa: PLC0415 - start-up time
    from omegaconf.resolvers import oc  # noqa: PLC0415

    OmegaConf.register_new_resolver("secret", reference, replace=True)
    noted = {} if variables is None else variables
    OmegaConf.register_new_resolver("env", partial(_read_variable, noted), replace=True)
    OmegaConf.register_new_resolver("oc.env", _refuse_variable, replace=True)
    try:
        yield
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)


def _read_variable(noted: dict[str, str | None], name: str, *default: Any) -> str | None:
    """Give a variable as text, its default too, so that the type does not depend on the environment."""
    noted[name] = os.environ.get(name)
    if name in os.environ:
        return os.environ[name]
    if default:
        return None if default[0] is None else str(default[0])
    raise ValueError(f"the environment variable {name} is not set, and no default is given")


def _refuse_variable(*_: Any) -> Any:
    raise ValueError("oc.env is not allowed: use ${secret:NAME} or ${env:NAME}")


def _texts_below(texts: Mapping[str, str]) -> dict[str, list[str]]:
    """For each path and all its ancestors, the paths of the texts at or below it."""
    found: dict[str, list[str]] = {}
    for path in texts:
        parts = path.split(".")
        for length in range(1, len(parts) + 1):
            found.setdefault(".".join(parts[:length]), []).append(path)
    return found


def _grammar(text: str) -> Refusal | None:
    from omegaconf.errors import GrammarParseError  # noqa: PLC0415 - start-up time
    from omegaconf.grammar_parser import parse  # noqa: PLC0415

    try:
        parse(text)
    except GrammarParseError:
        return Refusal("this interpolation cannot be read", hint="write ${key.path}; a literal `${` is written `\\${`")
    return None
