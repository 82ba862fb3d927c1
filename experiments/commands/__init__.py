"""The commands that a user can type: one file per command, with its options and its output."""
