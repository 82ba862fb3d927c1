"""What each stage of a pipeline costs by itself, and what limits it."""
