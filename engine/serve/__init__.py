"""Serving: a model package answers requests. Start at `scorer.py` (what an answer is), then `app.py` (how it is asked)."""
