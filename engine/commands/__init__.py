"""One module a command, each with `run(argv) -> int`; imported by `engine.cli` when it is called."""
