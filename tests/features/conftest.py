"""A deep profile for the property tests: `pytest tests/features --hypothesis-profile=deep`."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("deep", max_examples=2500, deadline=None, print_blob=True)
