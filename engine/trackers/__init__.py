"""Mirrors of runs at trackers: a run leaves a letter in the outbox and goes on; a process of its own delivers it.

`posting` is what a run does, `sending` what `engine runs sync` does. No client library is imported by either: components
of the role `tracker` do that, in the sender.
"""
