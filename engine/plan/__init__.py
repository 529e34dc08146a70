"""From a typed spec to nodes with keys: logical plan, passes, resolve, compile, explain. Pure but for `resolve`."""
