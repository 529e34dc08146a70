"""Run an execution plan: look each node up, run what is missing, record it. The plan's other interpreter is `explain`.

`execute` (run.py) is the entry. `walk` finds what is cached; `dispatch` gives the rest to Dask, `embedded` or `cluster`,
both with the very same `run_node` (node.py); `attempts` runs a body in a child process (`pool`, `child`, `wire`), so that
it can always be killed; `locks` keeps two runs from computing one action; `effects` come last; `journal` and `progress`
listen. A no-op run imports neither Dask nor anything that starts a process.
"""
