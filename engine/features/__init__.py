"""Features: the language, the compiled program, and its one evaluation for training and for serving."""
