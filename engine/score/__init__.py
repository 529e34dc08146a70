"""The ML Test Score of a pipeline, from evidence that the engine itself left: declaration, runs, registry, files."""
