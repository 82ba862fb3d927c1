"""What several built-in pipelines are made of: files, an object server, a network."""
