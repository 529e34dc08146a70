"""Run an execution plan: look each node up, run what is missing, record it. The plan's other interpreter is `explain`.

`execute` (run.py) is the entry. It reads: `walk` finds what is cached; `embedded` or `cluster` runs the rest through Dask,
both with the very same `run_node` (node.py); a body runs in a child process (`pool`, `child`, `wire`), so that it can always
be killed; `locks` keeps two runs from computing one action; `journal` and `progress` listen. A no-op run imports none of
these but `walk`.
"""
