"""Built-in pipelines whose training step is made for a GPU; they run only if named."""
