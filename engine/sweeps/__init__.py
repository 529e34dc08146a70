"""Sweeps: many trials of one command as one merged DAG, chosen among by the validation rows, every one a run of its own.

`plan_trials` composes and plans them, sharing what they share; `merge` makes one DAG of their plans; `run_batch` executes
it, recording each trial as it ends; `sweep` is one command from its first trial to the promotion of the best.
"""
