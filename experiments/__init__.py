"""Searches configurations and records the results: studies, their runs, the command line."""
