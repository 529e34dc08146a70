"""History replayed under several retraining policies at once: what each would have decided, how good, and at what cost.

`moments` and `policies` say what is compared; `planning` makes one plan of nodes that policies share; `cutting`, `training`,
`replaying` and `measuring` are those nodes; `running` executes the plan and writes the outcome down.
"""
