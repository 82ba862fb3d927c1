"""What several built-in pipelines are made of: files that are made once, an object server."""
