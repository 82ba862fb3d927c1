"""Parts that built-in pipelines use: files that are made once, and an object server."""
