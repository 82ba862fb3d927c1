"""The claims that are held against what was planted, one kind per file."""
