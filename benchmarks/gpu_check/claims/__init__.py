"""The checks on a GPU, one kind per file."""
