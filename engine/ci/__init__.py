"""CI for models: a small training on a change, compared with what is in production, as Markdown, JUnit XML and a code."""
