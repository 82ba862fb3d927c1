"""Built-in pipelines whose step wants a GPU; they run only where they are named."""
