"""What is checked on a GPU, one kind per file."""
