"""Repeats measurements: reruns of logged runs, and a configuration compared with itself."""
