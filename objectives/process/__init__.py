"""A process for each trial: the runner starts it, the worker runs in it."""
