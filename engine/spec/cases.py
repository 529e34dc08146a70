"""`tests:` of a pipeline as declared: given these rows, a row asked about at this time has these features."""

from __future__ import annotations

from typing import Annotated

import msgspec

from engine.spec.base import Identifier, Prose, Spec
from engine.spec.features import Scalar


class FeatureTestSpec(Spec, frozen=True, kw_only=True):
    """One case. `given` holds rows by source, `request` the fields of the row that is asked about at the moment `at`.

    A row names columns of its source, declared or derived; a derived column that is named is not computed, and one that
    is left out is null or computed. `expect` names features; doubles must be equal bit for bit, or within `tolerance`.
    """

    given: dict[Identifier, tuple[dict[Identifier, Scalar | None], ...]] = {}
    at: str
    request: dict[Identifier, Scalar | None] = {}
    expect: Annotated[dict[Identifier, Scalar | None], msgspec.Meta(min_length=1)]
    tolerance: Annotated[float, msgspec.Meta(ge=0)] | None = None
    doc: Prose = ""
