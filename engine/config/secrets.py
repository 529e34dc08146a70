"""Secrets are references, `${secret:NAME}`, in everything composed, keyed, persisted or printed; resolved only at use.

Components call `resolve_secret` on a parameter at the moment they connect, and keep the answer to themselves.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from engine.errors import UnavailableError

_REFERENCE = re.compile(r"\$\{\s*secret\s*:\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}")


def is_secret(text: str) -> bool:
    """Say whether a text contains a reference to a secret.

    >>> is_secret("postgres://app:${secret:PG_PASSWORD}@db/x"), is_secret("plain")
    (True, False)
    """
    return _REFERENCE.search(text) is not None


def reference(name: str) -> str:
    """Write a reference.

    >>> reference("PG_PASSWORD")
    '${secret:PG_PASSWORD}'
    """
    return f"${{secret:{name}}}"


def resolve_secret(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """Replace every reference in a text by its environment variable; raises `UnavailableError` naming what is missing.

    >>> resolve_secret("app:${secret:PW}", {"PW": "x"})
    'app:x'
    """
    missing = [name for name in _REFERENCE.findall(text) if name not in environment]
    if missing:
        raise UnavailableError(
            f"secret {', '.join(dict.fromkeys(missing))} is not set",
            hint=f"set the environment variable: export {missing[0]}=…",
        )
    return _REFERENCE.sub(lambda match: environment[match[1]], text)
