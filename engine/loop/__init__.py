"""The closed loop: when to run a pipeline again, decided from its triggers, launched once, and written down with why.

`slots` (schedules) and `decide` (policy) are pure; `state` keeps cursors, wishes, requests and the decision ledger in the
state database; `tick` is the one evaluation that cron calls; `work` is the child that does what a tick decided.
"""
