"""Checks finished studies: their first trials, their reruns, their settings in `model.fit`."""
