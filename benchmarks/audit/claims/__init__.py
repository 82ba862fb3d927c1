"""The claims that are compared with what was planted, one kind per file."""
