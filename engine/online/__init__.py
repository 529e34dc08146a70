"""The online state: events by join, found for a request. Start at `state.py`; `blocks.py` says how rows are packed."""
