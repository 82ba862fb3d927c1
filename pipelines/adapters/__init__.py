"""Turns what users have into pipelines: functions, datasets, PyDatasets, models."""
