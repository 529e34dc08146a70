"""Who gets the challenger: a salted hash of the entity into 10,000 nested buckets. Pure.

Nested means that a share of 20 % holds everybody that a share of 5 % held: a ramp reassigns only those who join.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from engine.keys import Json, canonical_json

BUCKETS = 10_000


def bucket_of(salt: str, entity: Sequence[Json]) -> int | None:
    """The bucket of an entity; `None` when a part of it is unknown, since a null is nobody in particular.

    >>> bucket_of("s", ["a"]) == bucket_of("s", ["a"]), bucket_of("s", [None])
    (True, None)
    """
    if any(part is None for part in entity):
        return None
    text = canonical_json([salt, *entity])
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") % BUCKETS


def is_in(bucket: int | None, share: float) -> bool:
    """Whether a bucket belongs to a share."""
    return bucket is not None and bucket < round(share * BUCKETS)
