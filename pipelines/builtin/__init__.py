"""The built-in pipelines, one per file."""
